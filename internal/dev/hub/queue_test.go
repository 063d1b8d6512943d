package hub

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
)

// dispatchNow dispatches a workflow and gives its run.
func (w *world) dispatchNow(file, inputs string) int64 {
	w.t.Helper()
	var made struct {
		Run int64 `json:"workflow_run_id"`
	}
	w.want(200, "POST", "/actions/workflows/"+file+"/dispatches", `{"ref":"main","inputs":`+inputs+`,"return_run_details":true}`, &made)
	return made.Run
}

// at is where a run stands now.
func (w *world) at(id int64) seen {
	w.t.Helper()
	for _, r := range w.list() {
		if r.ID == id {
			return r
		}
	}
	w.t.Fatalf("no run %d", id)
	return seen{}
}

const grouped = "on: {workflow_dispatch: {inputs: {batch: {}}}}\nconcurrency: {group: 'Train-${{ github.ref }}', cancel-in-progress: CANCEL}"

func TestConcurrencyGroupKeepsOneRunningAndTheNewestPending(t *testing.T) {
	w := newWorld(t, merged(workflow("a", strings.Replace(grouped, "CANCEL", "false", 1)), workflow("b", strings.Replace(grouped, "CANCEL", "false", 1))),
		func(o *Options) { o.Parallel = 8 })
	release := make(chan struct{})
	w.runs.do = held(release)
	first := w.dispatchNow("a.yml", `{}`)
	w.until(first, func(r seen) bool { return r.Status == "in_progress" })
	second := w.dispatchNow("b.yml", `{}`) // the group is the repository's, not the workflow's
	if got := w.at(second).Status; got != "pending" {
		t.Errorf("the second is %s", got)
	}
	third := w.dispatchNow("a.yml", `{}`)
	if got := w.at(second); got.Status != "completed" || got.Conclusion != "cancelled" {
		t.Errorf("the older pending run is %+v", got)
	}
	if got := w.at(third).Status; got != "pending" {
		t.Errorf("the newest is %s", got)
	}
	close(release)
	if w.ended(first).Conclusion != "success" || w.ended(third).Conclusion != "success" {
		t.Errorf("runs %+v", w.list())
	}
}

func TestCancelInProgressMakesRoomForTheNewest(t *testing.T) {
	w := newWorld(t, workflow("a", strings.Replace(grouped, "CANCEL", "true", 1)))
	release := make(chan struct{})
	defer close(release)
	w.runs.do = held(release)
	first := w.dispatchNow("a.yml", `{}`)
	w.until(first, func(r seen) bool { return r.Status == "in_progress" })
	second := w.dispatchNow("a.yml", `{}`)
	if got := w.ended(first); got.Conclusion != "cancelled" {
		t.Errorf("the first is %+v", got)
	}
	w.until(second, func(r seen) bool { return r.Status == "in_progress" })
}

func TestNoMoreRunsThanParallelAndInTheirOrder(t *testing.T) {
	w := newWorld(t, workflow("a", "on: workflow_dispatch"), func(o *Options) { o.Parallel = 1 })
	release := make(chan struct{})
	w.runs.do = held(release)
	var ids []int64
	for range 4 {
		ids = append(ids, w.dispatchNow("a.yml", `{}`))
	}
	w.until(ids[0], func(r seen) bool { return r.Status == "in_progress" })
	for _, id := range ids[1:] {
		if got := w.at(id).Status; got != "queued" {
			t.Errorf("run %d is %s", id, got)
		}
	}
	close(release)
	for _, id := range ids {
		w.ended(id)
	}
	for i, s := range w.runs.given() {
		if s.ID != ids[i] {
			t.Errorf("run %d came as number %d", s.ID, i)
		}
	}
}

const onGPU = "on: workflow_dispatch\njobs:\n  train:\n    runs-on: [self-hosted, gpu]\n    steps: [{run: echo}]\n"

func TestRunWhoseLabelsNobodyOffersStaysQueuedAndSaysSo(t *testing.T) {
	files := map[string]string{".github/workflows/train.yml": "name: train\n" + onGPU}
	w := newWorld(t, files)
	id := w.dispatchNow("train.yml", `{}`)
	if got := w.at(id); got.Status != "queued" {
		t.Errorf("run %+v", got)
	}
	page := w.fetch(w.URL + "/acme/line/actions/runs/" + num(id))
	if !strings.Contains(page, "Waiting for a runner to pick up this job: train asks for [self-hosted, gpu]") {
		t.Errorf("the page does not say what it waits for:\n%s", page)
	}
	w.want(202, "POST", "/actions/runs/"+num(id)+"/cancel", "", nil)
	if got := w.at(id); got.Conclusion != "cancelled" {
		t.Errorf("run %+v", got)
	}
	w.want(409, "POST", "/actions/runs/"+num(id)+"/cancel", "", nil)
}

func TestLabelsOfCalledWorkflowsAreMatchedToo(t *testing.T) {
	w := newWorld(t, map[string]string{
		".github/workflows/top.yml": "name: top\non: workflow_dispatch\njobs:\n  call:\n    uses: ./.github/workflows/deploy.yml\n    with: {to: staging}\n",
		".github/workflows/deploy.yml": "name: deploy\non: {workflow_call: {inputs: {to: {type: string}}}}\njobs:\n  roll:\n    runs-on: [self-hosted, penstock]\n" +
			"    environment: '${{ inputs.to }}'\n    steps: [{run: echo}]\n",
	}, func(o *Options) { o.Labels = []string{"penstock"} })
	w.runs.do = func(_ context.Context, _ actrun.Spec, tell func(actrun.Event)) (actrun.Result, error) {
		tell(actrun.Event{Kind: actrun.JobStarted, Job: "call / roll", JobID: "call/roll"})
		return actrun.Result{Conclusion: actrun.Success, Jobs: []actrun.Job{{ID: "call/roll", Name: "call / roll", Conclusion: actrun.Success}}}, nil
	}
	if err := w.Fault("runner-offline", "", 0); err != nil {
		t.Fatal(err)
	}
	id := w.dispatchNow("top.yml", `{}`)
	if got := w.at(id); got.Status != "queued" {
		t.Errorf("run %+v", got)
	}
	w.ClearFaults()
	w.ended(id)
	var jobs struct {
		Jobs []struct{ Name, Conclusion string }
	}
	w.want(200, "GET", "/actions/runs/"+num(id)+"/jobs", "", &jobs)
	if len(jobs.Jobs) != 1 || jobs.Jobs[0].Name != "call / roll" || jobs.Jobs[0].Conclusion != "success" {
		t.Errorf("jobs %+v", jobs)
	}
	var deployments []struct{ Environment string }
	w.want(200, "GET", "/deployments", "", &deployments)
	if len(deployments) != 1 || deployments[0].Environment != "staging" {
		t.Errorf("deployments %+v", deployments)
	}
}

func TestRunnerThatIsOfflineTakesNothingUntilItIsBack(t *testing.T) {
	w := newWorld(t, map[string]string{".github/workflows/train.yml": "name: train\n" + onGPU}, func(o *Options) { o.Labels = []string{"gpu"} })
	if err := w.Fault("runner-offline", "", 0); err != nil {
		t.Fatal(err)
	}
	id := w.dispatchNow("train.yml", `{}`)
	var runners struct{ Runners []struct{ Status string } }
	w.want(200, "GET", "/actions/runners", "", &runners)
	if got := w.at(id); got.Status != "queued" || runners.Runners[0].Status != "offline" {
		t.Errorf("run %+v, runners %+v", got, runners)
	}
	w.ClearFaults()
	w.ended(id)
}

func TestCancelOfARunningRunReachesItsExecutor(t *testing.T) {
	w := newWorld(t, workflow("a", "on: workflow_dispatch"))
	w.runs.do = func(ctx context.Context, _ actrun.Spec, tell func(actrun.Event)) (actrun.Result, error) {
		tell(actrun.Event{Kind: actrun.JobStarted, Job: "work", JobID: "work", Time: time.Now()})
		<-ctx.Done()
		return actrun.Result{Conclusion: actrun.Cancelled, Jobs: []actrun.Job{{ID: "work", Name: "work", Conclusion: actrun.Cancelled}}}, nil
	}
	id := w.dispatchNow("a.yml", `{}`)
	w.until(id, func(r seen) bool { return r.Status == "in_progress" })
	w.want(403, "POST", "/actions/runs/"+num(id)+"/rerun", "", nil)
	w.want(202, "POST", "/actions/runs/"+num(id)+"/cancel", "", nil)
	if got := w.ended(id); got.Conclusion != "cancelled" {
		t.Errorf("run %+v", got)
	}
	w.runs.mu.Lock()
	w.runs.do = nil
	w.runs.mu.Unlock()
	w.want(201, "POST", "/actions/runs/"+num(id)+"/rerun", "", nil)
	if got := w.until(id, func(r seen) bool { return r.RunAttempt == 2 && r.Status == "completed" }); got.Conclusion != "success" {
		t.Errorf("second attempt %+v", got)
	}
	var first struct{ Conclusion string }
	w.want(200, "GET", "/actions/runs/"+num(id)+"/attempts/1", "", &first)
	if first.Conclusion != "cancelled" {
		t.Errorf("first attempt %+v", first)
	}
}

func TestRestartKeepsWhatWasAndRunsWhatWasQueued(t *testing.T) {
	dir := t.TempDir()
	files := merged(workflow("a", "on: workflow_dispatch"), map[string]string{".github/workflows/train.yml": "name: train\n" + onGPU})
	var queued int64
	t.Run("before", func(t *testing.T) {
		w := newWorld(t, files, func(o *Options) { o.Dir = dir })
		w.ended(w.dispatchNow("a.yml", `{}`))
		queued = w.dispatchNow("train.yml", `{}`)
		w.want(201, "POST", "/issues", `{"title":"kept"}`, nil)
	})
	e := &executor{}
	h, err := Start(t.Context(), Options{Dir: dir, Token: testToken, Execute: e.run, NoCheckout: true, Labels: []string{"gpu"}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	w := &world{Hub: h, t: t, runs: e}
	if got := w.ended(queued); got.Conclusion != "success" {
		t.Errorf("what was queued: %+v", got)
	}
	if got := names(w.list()); got != "train a" {
		t.Errorf("runs %q", got)
	}
	w.want(200, "GET", "/issues/1", "", nil)
	if err := h.CreateRepository(testOwner, testRepo); err == nil {
		t.Error("the repository was made twice")
	}
	if err := h.EnsureRepository(testOwner, testRepo); err != nil {
		t.Error(err)
	}
}

func TestFailingExecutorIsARedRunThatSaysWhy(t *testing.T) {
	w := newWorld(t, workflow("a", "on: workflow_dispatch"))
	w.runs.do = func(context.Context, actrun.Spec, func(actrun.Event)) (actrun.Result, error) {
		return actrun.Result{}, context.DeadlineExceeded
	}
	id := w.dispatchNow("a.yml", `{}`)
	if got := w.ended(id); got.Conclusion != "failure" {
		t.Errorf("run %+v", got)
	}
	if page := w.fetch(w.URL + "/acme/line/actions/runs/" + num(id)); !strings.Contains(page, "deadline exceeded") {
		t.Error("the page does not say why")
	}
}
