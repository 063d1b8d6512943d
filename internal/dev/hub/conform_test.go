package hub

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-github/v60/github"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
)

// client is go-github against the hub, as the toolkit uses it.
func (w *world) client(token string) *github.Client {
	w.t.Helper()
	c, err := github.NewClient(nil).WithAuthToken(token).WithEnterpriseURLs(w.URL, w.URL)
	if err != nil {
		w.t.Fatal(err)
	}
	c.UploadURL, err = url.Parse(w.URL + "/api/uploads/")
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// must fails the test on an error of go-github's.
func must[T any](t *testing.T) func(T, *github.Response, error) T {
	return func(v T, _ *github.Response, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// deployer is an executor whose one job deploys to production.
func deployer(_ context.Context, s actrun.Spec, tell func(actrun.Event)) (actrun.Result, error) {
	at := time.Now()
	for _, e := range []actrun.Event{
		{Kind: actrun.JobStarted},
		{Kind: actrun.StepStarted, Step: "Run x"},
		{Kind: actrun.Log, Step: "Run x", Text: "hello <b>"},
		{Kind: actrun.Summary, Step: "Run x", Text: "# Done"},
		{Kind: actrun.StepEnded, Step: "Run x", Conclusion: actrun.Success},
		{Kind: actrun.JobEnded, Conclusion: actrun.Success, Outputs: map[string]string{"verdict": "pass"}},
	} {
		e.Time, e.Job, e.JobID = at, "work", "work"
		tell(e)
	}
	return actrun.Result{Conclusion: actrun.Success, Jobs: []actrun.Job{{
		ID: "work", Name: "work", Conclusion: actrun.Success, Started: at, Ended: at, Outputs: map[string]string{"verdict": "pass"},
	}}}, nil
}

const deploying = "name: train\nrun-name: train ${{ inputs.batch || github.event.client_payload.batch || 'none' }}\non:\n  workflow_dispatch:\n    inputs:\n      batch: {type: string}\n" +
	"  repository_dispatch:\npermissions: {actions: write, contents: write, deployments: write, statuses: write, checks: write, pull-requests: write}\n" +
	"jobs:\n  work:\n    runs-on: ubuntu-latest\n    environment: {name: production, url: 'https://example.org'}\n    steps:\n      - run: echo hello\n"

// Every answer on the way is held to GitHub's description by newWorld.
func TestGoGitHubDecodesActionsAnswers(t *testing.T) {
	w := newWorld(t, map[string]string{".github/workflows/train.yml": deploying})
	w.runs.do = deployer
	ctx, c := t.Context(), w.client(testToken)
	list := must[*github.Workflows](t)(c.Actions.ListWorkflows(ctx, testOwner, testRepo, nil))
	if list.GetTotalCount() != 1 || list.Workflows[0].GetPath() != ".github/workflows/train.yml" {
		t.Fatalf("workflows %+v", list)
	}
	if got := must[*github.Workflow](t)(c.Actions.GetWorkflowByFileName(ctx, testOwner, testRepo, "train.yml")); got.GetState() != "active" {
		t.Errorf("state %q", got.GetState())
	}
	if _, err := c.Actions.CreateWorkflowDispatchEventByFileName(ctx, testOwner, testRepo, "train.yml", github.CreateWorkflowDispatchEventRequest{
		Ref: "main", Inputs: map[string]any{"batch": "b1"},
	}); err != nil {
		t.Fatal(err)
	}
	runs := must[*github.WorkflowRuns](t)(c.Actions.ListWorkflowRunsByFileName(ctx, testOwner, testRepo, "train.yml", nil))
	if runs.GetTotalCount() != 1 || runs.WorkflowRuns[0].GetDisplayTitle() != "train b1" {
		t.Fatalf("runs %+v", runs)
	}
	id := runs.WorkflowRuns[0].GetID()
	w.ended(id)
	run := must[*github.WorkflowRun](t)(c.Actions.GetWorkflowRunByID(ctx, testOwner, testRepo, id))
	if run.GetConclusion() != "success" || run.GetEvent() != "workflow_dispatch" || run.GetHeadCommit().GetID() != run.GetHeadSHA() {
		t.Errorf("run %+v", run)
	}
	jobs := must[*github.Jobs](t)(c.Actions.ListWorkflowJobs(ctx, testOwner, testRepo, id, nil))
	if jobs.GetTotalCount() != 1 || jobs.Jobs[0].GetConclusion() != "success" || len(jobs.Jobs[0].Steps) != 1 {
		t.Errorf("jobs %+v", jobs)
	}
	must[*github.WorkflowJob](t)(c.Actions.GetWorkflowJobByID(ctx, testOwner, testRepo, jobs.Jobs[0].GetID()))
	logs := must[*url.URL](t)(c.Actions.GetWorkflowJobLogs(ctx, testOwner, testRepo, jobs.Jobs[0].GetID(), 0))
	if text := w.fetch(logs.String()); !strings.Contains(text, "hello <b>") {
		t.Errorf("log %q", text)
	}
	must[*url.URL](t)(c.Actions.GetWorkflowRunLogs(ctx, testOwner, testRepo, id, 0))
	if _, err := c.Actions.RerunWorkflowByID(ctx, testOwner, testRepo, id); err != nil {
		t.Fatal(err)
	}
	if again := w.ended(id); again.RunAttempt != 2 {
		t.Errorf("attempt %d", again.RunAttempt)
	}
	must[*github.WorkflowRun](t)(c.Actions.GetWorkflowRunAttempt(ctx, testOwner, testRepo, id, 1, nil))
	must[*github.Jobs](t)(c.Actions.ListWorkflowJobsAttempt(ctx, testOwner, testRepo, id, 1, nil))
	checks := must[*github.ListCheckRunsResults](t)(c.Checks.ListCheckRunsForRef(ctx, testOwner, testRepo, "main", nil))
	if checks.GetTotal() != 1 || checks.CheckRuns[0].GetName() != "work" {
		t.Errorf("check runs %+v", checks)
	}
}

func TestGoGitHubDecodesDeploymentAnswers(t *testing.T) {
	w := newWorld(t, map[string]string{".github/workflows/train.yml": deploying})
	w.runs.do = deployer
	ctx, c := t.Context(), w.client(testToken)
	payload := []byte(`{"batch":"b2"}`)
	must[*github.Repository](t)(c.Repositories.Dispatch(ctx, testOwner, testRepo, github.DispatchRequestOptions{EventType: "new-data", ClientPayload: (*rawMessage)(&payload)}))
	first := w.list()[0]
	if first.DisplayTitle != "train b2" {
		t.Errorf("title %q", first.DisplayTitle)
	}
	w.ended(first.ID)
	made := must[[]*github.Deployment](t)(c.Repositories.ListDeployments(ctx, testOwner, testRepo, nil))
	if len(made) != 1 || made[0].GetEnvironment() != "production" || made[0].GetCreator().GetLogin() != actionsBot {
		t.Fatalf("deployments %+v", made)
	}
	statuses := must[[]*github.DeploymentStatus](t)(c.Repositories.ListDeploymentStatuses(ctx, testOwner, testRepo, made[0].GetID(), nil))
	if len(statuses) != 2 || statuses[0].GetState() != "success" || statuses[1].GetState() != "in_progress" || statuses[0].GetEnvironmentURL() != "https://example.org" {
		t.Errorf("statuses %+v", statuses)
	}
	own := must[*github.Deployment](t)(c.Repositories.CreateDeployment(ctx, testOwner, testRepo, &github.DeploymentRequest{
		Ref: github.String("main"), Environment: github.String("production"), AutoMerge: github.Bool(false), RequiredContexts: &[]string{},
		Payload: map[string]string{"model": "abc"},
	}))
	must[*github.DeploymentStatus](t)(c.Repositories.CreateDeploymentStatus(ctx, testOwner, testRepo, own.GetID(), &github.DeploymentStatusRequest{State: github.String("success")}))
	must[*github.Deployment](t)(c.Repositories.GetDeployment(ctx, testOwner, testRepo, own.GetID()))
	old := must[[]*github.DeploymentStatus](t)(c.Repositories.ListDeploymentStatuses(ctx, testOwner, testRepo, made[0].GetID(), nil))
	if old[0].GetState() != "inactive" {
		t.Errorf("the earlier deployment is %s", old[0].GetState())
	}
	must[*github.EnvResponse](t)(c.Repositories.ListEnvironments(ctx, testOwner, testRepo, nil))
	must[*github.Environment](t)(c.Repositories.GetEnvironment(ctx, testOwner, testRepo, "production"))
}

// rawMessage is json.RawMessage by another name, for a field of go-github's.
type rawMessage = jsonRaw

func TestGoGitHubDecodesPullRequestAndCommentAnswers(t *testing.T) {
	w := newWorld(t, workflow("ci", "on: pull_request"))
	ctx, c := t.Context(), w.client(testToken)
	w.git(w.clone, "checkout", "-q", "-b", "feature/x")
	w.commit(w.clone, "second", map[string]string{"a.txt": "one\ntwo\n"})
	w.git(w.clone, "push", "-q", "origin", "feature/x")
	pr := must[*github.PullRequest](t)(c.PullRequests.Create(ctx, testOwner, testRepo, &github.NewPullRequest{
		Title: github.String("Try x"), Head: github.String("feature/x"), Base: github.String("main"), Body: github.String("why"),
	}))
	if !pr.GetMergeable() || pr.GetChangedFiles() != 1 || pr.GetAdditions() != 2 || pr.GetHead().GetRepo().GetFullName() != "acme/line" {
		t.Errorf("pull request %+v", pr)
	}
	n := pr.GetNumber()
	files := must[[]*github.CommitFile](t)(c.PullRequests.ListFiles(ctx, testOwner, testRepo, n, nil))
	if len(files) != 1 || files[0].GetFilename() != "a.txt" || !strings.Contains(files[0].GetPatch(), "+two") {
		t.Errorf("files %+v", files)
	}
	must[[]*github.RepositoryCommit](t)(c.PullRequests.ListCommits(ctx, testOwner, testRepo, n, nil))
	if got := must[[]*github.PullRequest](t)(c.PullRequests.List(ctx, testOwner, testRepo, nil)); len(got) != 1 {
		t.Errorf("open pull requests %d", len(got))
	}
	x := must[*github.IssueComment](t)(c.Issues.CreateComment(ctx, testOwner, testRepo, n, &github.IssueComment{Body: github.String("hello")}))
	must[*github.IssueComment](t)(c.Issues.EditComment(ctx, testOwner, testRepo, x.GetID(), &github.IssueComment{Body: github.String("hello again")}))
	must[*github.IssueComment](t)(c.Issues.GetComment(ctx, testOwner, testRepo, x.GetID()))
	for range 34 {
		must[*github.IssueComment](t)(c.Issues.CreateComment(ctx, testOwner, testRepo, n, &github.IssueComment{Body: github.String("more")}))
	}
	seen := 0
	for opt := (&github.IssueListCommentsOptions{}); ; {
		some, res, err := c.Issues.ListComments(ctx, testOwner, testRepo, n, opt)
		if err != nil {
			t.Fatal(err)
		}
		seen += len(some)
		if res.NextPage == 0 {
			break
		}
		opt.Page = res.NextPage
	}
	if seen != 35 {
		t.Errorf("%d comments on all pages, want 35", seen)
	}
	if _, err := c.Issues.DeleteComment(ctx, testOwner, testRepo, x.GetID()); err != nil {
		t.Fatal(err)
	}
	must[*github.Issue](t)(c.Issues.Get(ctx, testOwner, testRepo, n))
	must[*github.Issue](t)(c.Issues.Create(ctx, testOwner, testRepo, &github.IssueRequest{Title: github.String("an alarm"), Labels: &[]string{"drift"}}))
	must[[]*github.Issue](t)(c.Issues.ListByRepo(ctx, testOwner, testRepo, nil))
	must[*github.PullRequest](t)(c.PullRequests.Edit(ctx, testOwner, testRepo, n, &github.PullRequest{Title: github.String("Try y")}))
	merged := must[*github.PullRequestMergeResult](t)(c.PullRequests.Merge(ctx, testOwner, testRepo, n, "", nil))
	if head := must[*github.Branch](t)(c.Repositories.GetBranch(ctx, testOwner, testRepo, "main", 0)); head.GetCommit().GetSHA() != merged.GetSHA() {
		t.Errorf("main is %s, merged as %s", head.GetCommit().GetSHA(), merged.GetSHA())
	}
}

func TestGoGitHubDecodesGitAnswers(t *testing.T) {
	w := newWorld(t, workflow("ci", "on: push"))
	ctx, c := t.Context(), w.client(testToken)
	first := w.git(w.clone, "rev-parse", "HEAD")
	second := w.commit(w.clone, "second", map[string]string{"dir/a.txt": "x"})
	w.git(w.clone, "push", "-q", "origin", "main")
	ref := must[*github.Reference](t)(c.Git.CreateRef(ctx, testOwner, testRepo, &github.Reference{
		Ref: github.String("refs/heads/old/one"), Object: &github.GitObject{SHA: &first},
	}))
	if ref.GetObject().GetSHA() != first {
		t.Errorf("ref %+v", ref)
	}
	must[*github.Reference](t)(c.Git.GetRef(ctx, testOwner, testRepo, "heads/old/one"))
	must[[]*github.Reference](t)(c.Git.ListMatchingRefs(ctx, testOwner, testRepo, &github.ReferenceListOptions{Ref: "heads/"}))
	must[*github.Reference](t)(c.Git.UpdateRef(ctx, testOwner, testRepo, ref, false))
	for comparison, want := range map[[2]string]string{
		{"old/one", "main"}: "ahead", {"main", "old/one"}: "behind", {"main", second}: "identical",
	} {
		got := must[*github.CommitsComparison](t)(c.Repositories.CompareCommits(ctx, testOwner, testRepo, comparison[0], comparison[1], nil))
		if got.GetStatus() != want {
			t.Errorf("%v: %s, want %s", comparison, got.GetStatus(), want)
		}
	}
	tag := must[*github.Tag](t)(c.Git.CreateTag(ctx, testOwner, testRepo, &github.Tag{
		Tag: github.String("v1"), Message: github.String("one"), Object: &github.GitObject{SHA: &second, Type: github.String("commit")},
	}))
	must[*github.Tag](t)(c.Git.GetTag(ctx, testOwner, testRepo, tag.GetSHA()))
	must[*github.Reference](t)(c.Git.CreateRef(ctx, testOwner, testRepo, &github.Reference{Ref: github.String("refs/tags/v1"), Object: &github.GitObject{SHA: tag.SHA}}))
	tags := must[[]*github.RepositoryTag](t)(c.Repositories.ListTags(ctx, testOwner, testRepo, nil))
	if len(tags) != 1 || tags[0].GetCommit().GetSHA() != second {
		t.Errorf("tags %+v", tags)
	}
	must[[]*github.Branch](t)(c.Repositories.ListBranches(ctx, testOwner, testRepo, nil))
	must[[]*github.RepositoryCommit](t)(c.Repositories.ListCommits(ctx, testOwner, testRepo, nil))
	must[*github.RepositoryCommit](t)(c.Repositories.GetCommit(ctx, testOwner, testRepo, "main", nil))
	must[*github.Commit](t)(c.Git.GetCommit(ctx, testOwner, testRepo, second))
	file, _, _, err := c.Repositories.GetContents(ctx, testOwner, testRepo, "dir/a.txt", nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := file.GetContent(); err != nil || text != "x" {
		t.Errorf("content %q, %v", text, err)
	}
	if _, folder, _, err := c.Repositories.GetContents(ctx, testOwner, testRepo, "dir", nil); err != nil || len(folder) != 1 {
		t.Errorf("folder %v, %v", folder, err)
	}
	if _, err := c.Git.DeleteRef(ctx, testOwner, testRepo, "heads/old/one"); err != nil {
		t.Error(err)
	}
	must[*github.RepoStatus](t)(c.Repositories.CreateStatus(ctx, testOwner, testRepo, second, &github.RepoStatus{State: github.String("failure"), Context: github.String("ci")}))
	must[[]*github.RepoStatus](t)(c.Repositories.ListStatuses(ctx, testOwner, testRepo, "main", nil))
	if got := must[*github.CombinedStatus](t)(c.Repositories.GetCombinedStatus(ctx, testOwner, testRepo, "main", nil)); got.GetState() != "failure" {
		t.Errorf("combined status %s", got.GetState())
	}
}

func TestGoGitHubDecodesReleaseAndSettingsAnswers(t *testing.T) {
	w := newWorld(t, workflow("ci", "on: {push: {tags: ['v*']}, release: {}}"), func(o *Options) { o.Labels = []string{"gpu"} })
	ctx, c := t.Context(), w.client(testToken)
	rel := must[*github.RepositoryRelease](t)(c.Repositories.CreateRelease(ctx, testOwner, testRepo, &github.RepositoryRelease{
		TagName: github.String("v1"), Name: github.String("One"),
	}))
	if got := w.list(); len(got) != 2 {
		t.Errorf("a release with a new tag started %d runs, want push and release", len(got))
	}
	req, err := c.NewUploadRequest("repos/acme/line/releases/"+num(rel.GetID())+"/assets?name=a.bin", strings.NewReader("bytes"), 5, "application/octet-stream")
	if err != nil {
		t.Fatal(err)
	}
	var asset github.ReleaseAsset
	if _, err := c.Do(ctx, req, &asset); err != nil || asset.GetSize() != 5 {
		t.Fatalf("asset %+v, %v", asset, err)
	}
	must[*github.ReleaseAsset](t)(c.Repositories.GetReleaseAsset(ctx, testOwner, testRepo, asset.GetID()))
	must[*github.RepositoryRelease](t)(c.Repositories.GetLatestRelease(ctx, testOwner, testRepo))
	must[*github.RepositoryRelease](t)(c.Repositories.GetReleaseByTag(ctx, testOwner, testRepo, "v1"))
	must[[]*github.RepositoryRelease](t)(c.Repositories.ListReleases(ctx, testOwner, testRepo, nil))
	must[[]*github.ReleaseAsset](t)(c.Repositories.ListReleaseAssets(ctx, testOwner, testRepo, rel.GetID(), nil))
	must[*github.RepositoryRelease](t)(c.Repositories.EditRelease(ctx, testOwner, testRepo, rel.GetID(), &github.RepositoryRelease{Body: github.String("text")}))
	repo := must[*github.Repository](t)(c.Repositories.Get(ctx, testOwner, testRepo))
	if repo.GetDefaultBranch() != "main" || repo.GetVisibility() != "public" {
		t.Errorf("repository %+v", repo)
	}
	must[*github.ActionsPermissionsRepository](t)(c.Repositories.GetActionsPermissions(ctx, testOwner, testRepo))
	must[*github.DefaultWorkflowPermissionRepository](t)(c.Repositories.GetDefaultWorkflowPermissions(ctx, testOwner, testRepo))
	runners := must[*github.Runners](t)(c.Actions.ListRunners(ctx, testOwner, testRepo, nil))
	if runners.TotalCount != 1 || runners.Runners[0].GetStatus() != "online" {
		t.Errorf("runners %+v", runners)
	}
	must[*github.RunnerGroups](t)(c.Actions.ListOrganizationRunnerGroups(ctx, testOwner, nil))
	must[*github.RunnerGroup](t)(c.Actions.GetOrganizationRunnerGroup(ctx, testOwner, 1))
	must[*github.Runners](t)(c.Actions.ListRunnerGroupRunners(ctx, testOwner, 1, nil))
	if me := must[*github.User](t)(c.Users.Get(ctx, "")); me.GetLogin() != "mona" {
		t.Errorf("viewer %s", me.GetLogin())
	}
	must[*github.User](t)(c.Users.Get(ctx, "octocat"))
	must[*github.RateLimits](t)(c.RateLimit.Get(ctx))
	must[*github.Repository](t)(c.Repositories.Create(ctx, "", &github.Repository{Name: github.String("second"), Private: github.Bool(true)}))
}

// A run's own token makes check runs and artifacts, and is no user.
func TestARunsTokenDoesWhatItsPermissionsAllow(t *testing.T) {
	w := newWorld(t, map[string]string{".github/workflows/train.yml": deploying})
	got := make(chan actrun.Spec)
	release := make(chan struct{})
	w.runs.do = func(ctx context.Context, s actrun.Spec, tell func(actrun.Event)) (actrun.Result, error) {
		got <- s
		return held(release)(ctx, s, tell)
	}
	w.want(204, "POST", "/actions/workflows/train.yml/dispatches", `{"ref":"main"}`, nil)
	s := <-got
	token := s.Secrets["GITHUB_TOKEN"]
	ctx, c := t.Context(), w.client(token)
	if status := w.ask(token, "GET", "/user", "", nil); status != http.StatusForbidden {
		t.Errorf("GET /user: %d, want 403", status)
	}
	x := must[*github.CheckRun](t)(c.Checks.CreateCheckRun(ctx, testOwner, testRepo, github.CreateCheckRunOptions{
		Name: "gate", HeadSHA: s.SHA, Output: &github.CheckRunOutput{Title: github.String("t"), Summary: github.String("s"), Annotations: []*github.CheckRunAnnotation{{
			Path: github.String("a"), StartLine: github.Int(1), EndLine: github.Int(1), AnnotationLevel: github.String("warning"), Message: github.String("m"),
		}}},
	}))
	must[*github.CheckRun](t)(c.Checks.UpdateCheckRun(ctx, testOwner, testRepo, x.GetID(), github.UpdateCheckRunOptions{Name: "gate", Conclusion: github.String("success")}))
	must[*github.CheckRun](t)(c.Checks.GetCheckRun(ctx, testOwner, testRepo, x.GetID()))
	must[[]*github.CheckRunAnnotation](t)(c.Checks.ListCheckRunAnnotations(ctx, testOwner, testRepo, x.GetID(), nil))
	if _, _, err := c.Issues.Create(ctx, testOwner, testRepo, &github.IssueRequest{Title: github.String("x")}); status(err) != http.StatusForbidden {
		t.Errorf("an issue without issues: write: %v", err)
	}
	archive := zipped(t, "comment/body.md", "text")
	for name, want := range map[string]int{"evidence": http.StatusCreated, "a:b": http.StatusUnprocessableEntity} {
		if got := w.upload(s, token, name, archive); got != want {
			t.Errorf("artifact %s: %d, want %d", name, got, want)
		}
	}
	if got := w.upload(s, token, "evidence", archive); got != http.StatusConflict {
		t.Errorf("a second artifact of the name: %d", got)
	}
	if got := w.upload(s, testToken, "other", archive); got != http.StatusForbidden {
		t.Errorf("an artifact by another token: %d", got)
	}
	list := must[*github.ArtifactList](t)(c.Actions.ListWorkflowRunArtifacts(ctx, testOwner, testRepo, s.ID, nil))
	if list.GetTotalCount() != 1 || list.Artifacts[0].GetName() != "evidence" {
		t.Fatalf("artifacts %+v", list)
	}
	must[*github.Artifact](t)(c.Actions.GetArtifact(ctx, testOwner, testRepo, list.Artifacts[0].GetID()))
	where := must[*url.URL](t)(c.Actions.DownloadArtifact(ctx, testOwner, testRepo, list.Artifacts[0].GetID(), 0))
	if w.fetch(where.String()) != string(archive) {
		t.Error("the artifact is not what was given")
	}
	close(release)
	w.ended(s.ID)
	if status := w.ask(token, "GET", "/repos/acme/line", "", nil); status != http.StatusUnauthorized {
		t.Errorf("the token after its run: %d, want 401", status)
	}
}

func (w *world) upload(s actrun.Spec, token, name string, data []byte) int {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), "PUT", s.Env["PENSTOCK_HUB_ARTIFACTS"]+"/"+url.PathEscape(name), bytes.NewReader(data))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// fetch gets an address that needs no token.
func (w *world) fetch(address string) string {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), "GET", address, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %d, %v\n%s", address, res.StatusCode, err, data)
	}
	return string(data)
}

func zipped(t *testing.T, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, err := z.Create(name)
	if err == nil {
		_, err = io.WriteString(f, text)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
