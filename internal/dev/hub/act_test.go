package hub

import (
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
)

const makes = `name: make
on: push
permissions: {contents: read}
jobs:
  make:
    runs-on: ubuntu-latest
    environment: {name: staging, url: https://staging.example}
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1
      - id: one
        run: |
          git rev-parse --verify refs/remotes/origin/main
          mkdir out && echo "from $GITHUB_RUN_ID" > out/note.md
          echo "key=value" >> "$GITHUB_OUTPUT"
          echo "# Made" >> "$GITHUB_STEP_SUMMARY"
      - uses: actions/upload-artifact@bbbca2ddaa5d8feaa63e36b76fdaad77386f024f
        with: {name: note, path: out/}
    outputs:
      key: ${{ steps.one.outputs.key }}
`

const takes = `name: take
on: {workflow_run: {workflows: [make], types: [completed]}}
permissions: {actions: read, issues: write}
jobs:
  take:
    runs-on: [self-hosted, penstock]
    steps:
      - uses: actions/download-artifact@3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c
        with:
          name: note
          path: got
          run-id: ${{ github.event.workflow_run.id }}
          github-token: ${{ github.token }}
      - env:
          TOKEN: ${{ github.token }}
        run: |
          curl --fail --silent --show-error -H "Authorization: Bearer $TOKEN" \
            --data "{\"body\": \"$(cat got/note.md)\"}" "$GITHUB_API_URL/repos/$GITHUB_REPOSITORY/issues/1/comments"
`

// The whole way, with act: a push makes an artifact, the second workflow takes
// it and comments by its own token.
func TestActRunsPushedWorkflowsAndThePairHandsOnAnArtifact(t *testing.T) {
	w := newWorld(t, nil, func(o *Options) {
		o.Execute, o.NoCheckout, o.Labels = actrun.Run, false, []string{"penstock"}
	})
	w.want(201, "POST", "/issues", `{"title":"x"}`, nil)
	w.commit(w.clone, "first", map[string]string{".github/workflows/make.yml": makes, ".github/workflows/take.yml": takes})
	w.git(w.clone, "push", "-q", "origin", "main")
	first := w.list()[0]
	if got := w.ended(first.ID); got.Conclusion != "success" {
		t.Fatalf("make: %+v\n%s", got, w.log(first.ID))
	}
	second := w.list()[0]
	if got := w.ended(second.ID); got.Name != "take" || got.Conclusion != "success" {
		t.Fatalf("take: %+v\n%s", got, w.log(second.ID))
	}
	var comments []struct {
		Body string
		User struct{ Login string }
	}
	w.want(200, "GET", "/issues/1/comments", "", &comments)
	if len(comments) != 1 || comments[0].Body != "from "+num(first.ID) || comments[0].User.Login != actionsBot {
		t.Errorf("comments %+v", comments)
	}
	var deployments []struct{ Environment string }
	w.want(200, "GET", "/deployments", "", &deployments)
	if len(deployments) != 1 || deployments[0].Environment != "staging" {
		t.Errorf("deployments %+v", deployments)
	}
	w.mu.Lock()
	_, made := w.findRun(first.ID)
	j := made.Jobs[0]
	if len(made.Jobs) != 1 || j.Outputs["key"] != "value" || strings.TrimSpace(strings.Join(j.Summaries, "\n")) != "# Made" || len(j.Steps) < 3 {
		t.Errorf("job %+v", j)
	}
	w.mu.Unlock()
}

// log is all that a run said.
func (w *world) log(id int64) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, l := range w.logOf(id).lines {
		b.WriteString(l.Time.Format(time.TimeOnly) + " " + l.Job + " | " + l.Step + " | " + l.Text + "\n")
	}
	_, run := w.findRun(id)
	b.WriteString(run.Problem)
	return b.String()
}
