package action

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// world runs one command in an environment of its own.
type world struct {
	env    map[string]string
	out    bytes.Buffer
	err    bytes.Buffer
	ledger Ledger
	turn   Turn
}

type options struct {
	stage string
	from  cli.StringSlice
	fast  bool
}

func (w *world) run(t *testing.T, run func(options) (verdict.Result, error), args ...string) int {
	t.Helper()
	var o options
	p := Program{Name: "penstock", Version: "v0", Ledger: w.ledger, Commands: []Command{{
		Name: "gate", Program: "penstock", Summary: "decides", Description: "Decides.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "stage", Required: true, Destination: &o.stage, Usage: "`NAME` of the stage"},
			&cli.BoolFlag{Name: "fast", Destination: &o.fast},
			From(&o.from),
		},
		Outputs: []Output{{"model", "digest"}},
		Turn:    w.turn,
		Ends:    func(r verdict.Result) bool { return r.Reason.Code == "contained" },
		Run:     func(context.Context, *Env) (verdict.Result, error) { return run(o) },
	}}}
	return p.Main(context.Background(), args, &Env{
		Stdin: strings.NewReader(""), Stdout: &w.out, Stderr: &w.err,
		Getenv: func(k string) string { return w.env[k] },
		Now:    func() time.Time { return time.Unix(0, 0) },
	})
}

func pass(options) (verdict.Result, error) { return verdict.Passed("fine"), nil }

func TestExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		run  func(options) (verdict.Result, error)
		args []string
		want int
	}{
		"pass":             {pass, []string{"gate", "--stage", "offline"}, 0},
		"error":            {func(options) (verdict.Result, error) { return verdict.Result{}, errors.New("disk full") }, []string{"gate", "--stage", "x"}, 1},
		"no verdict":       {func(options) (verdict.Result, error) { return verdict.Result{}, nil }, []string{"gate", "--stage", "x"}, 1},
		"panic":            {func(options) (verdict.Result, error) { panic("boom") }, []string{"gate", "--stage", "x"}, 1},
		"unknown flag":     {pass, []string{"gate", "--stage", "x", "--nope"}, 2},
		"missing required": {pass, []string{"gate"}, 2},
		"unknown command":  {pass, []string{"gat"}, 2},
		"stray argument":   {pass, []string{"gate", "--stage", "x", "y"}, 2},
		"bad attempt":      {pass, []string{"gate", "--stage", "x", "--attempt", "0"}, 2},
		"reject":           {func(options) (verdict.Result, error) { return verdict.Rejected("worse", "worse"), nil }, []string{"gate", "--stage", "x"}, 3},
		"inconclusive":     {func(options) (verdict.Result, error) { return verdict.Undecidable("few", "few"), nil }, []string{"gate", "--stage", "x"}, 4},
		"help":             {pass, []string{"gate", "--help"}, 0},
	} {
		var w world
		if got := w.run(t, c.run, c.args...); got != c.want {
			t.Errorf("%s: exit %d, want %d\n%s%s", name, got, c.want, &w.out, &w.err)
		}
	}
}

func TestAUsageErrorNamesTheHelpThatAnswersIt(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"gate --nope", "--help\n"},
		{"gate --stage x --nope", "gate --help\n"},
		{"gat", "--help\n"},
	} {
		var w world
		w.run(t, pass, strings.Fields(c.args)...)
		if !strings.HasSuffix(w.err.String(), c.want) || strings.HasSuffix(w.err.String(), "gate --help\n") != strings.HasPrefix(c.args, "gate") {
			t.Errorf("%s: %s", c.args, &w.err)
		}
	}
}

func TestEmptyInputIsNoInput(t *testing.T) {
	w := world{env: map[string]string{"GITHUB_ACTIONS": "true", "INPUT_STAGE": "", "INPUT_FROM": " \n"}}
	if got := w.run(t, pass, "gate"); got != verdict.ExitUsage {
		t.Errorf("exit %d: an empty input satisfied a required flag", got)
	}
}

func TestInputsBecomeFlagsAndArgumentsWin(t *testing.T) {
	w := world{env: map[string]string{
		"GITHUB_ACTIONS": "true", "INPUT_STAGE": "offline; rm -rf $(pwd) --fast", "INPUT_FROM": "a.json\nb c.json\n", "INPUT_FAST": "true",
	}}
	var got options
	keep := func(o options) (verdict.Result, error) { got = o; return verdict.Passed("fine"), nil }
	if code := w.run(t, keep, "gate"); code != 0 {
		t.Fatalf("exit %d: %s", code, &w.err)
	}
	if got.stage != "offline; rm -rf $(pwd) --fast" || !got.fast || strings.Join(got.from.Value(), "|") != "a.json|b c.json" {
		t.Errorf("inputs arrived as %q %v %q", got.stage, got.fast, got.from.Value())
	}
	if w.run(t, keep, "gate", "--stage", "release"); got.stage != "release" {
		t.Errorf("stage %q: the argument did not win", got.stage)
	}
}

func TestInputsCountOnlyInActions(t *testing.T) {
	w := world{env: map[string]string{"INPUT_STAGE": "offline"}}
	if got := w.run(t, pass, "gate"); got != verdict.ExitUsage {
		t.Errorf("exit %d: INPUT_STAGE was read outside Actions", got)
	}
}

func TestActionsReadsVerdictAndOutputsAlsoAfterARejection(t *testing.T) {
	dir := t.TempDir()
	w := world{env: map[string]string{
		"GITHUB_ACTIONS": "true", "RUNNER_TEMP": dir,
		"GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary"),
	}}
	code := w.run(t, func(options) (verdict.Result, error) {
		r := verdict.Rejected("worse", "AUROC fell\nby 100%%")
		r.Subjects["model"] = "abc\nverdict=pass"
		r.Checks = []verdict.Check{{Name: "a|b", Verdict: verdict.Reject, Required: true, Observed: verdict.Number(0.5), N: 7}}
		return r, nil
	}, "gate", "--stage", "offline")
	if code != verdict.ExitReject {
		t.Fatalf("exit %d", code)
	}
	outputs := parseOutputs(t, read(t, filepath.Join(dir, "output")))
	if outputs["verdict"] != "reject" || outputs["model"] != "abc\nverdict=pass" || outputs["reason"] != "worse" {
		t.Errorf("outputs %q", outputs)
	}
	r, err := verdict.Load(outputs["result"])
	if err != nil || r.Verdict != verdict.Reject || r.Command != "gate" || r.Version != "v0" {
		t.Errorf("result file: %+v %v", r, err)
	}
	if summary := read(t, filepath.Join(dir, "summary")); !strings.Contains(summary, `a\|b | reject | yes | 0.5`) {
		t.Errorf("summary:\n%s", summary)
	}
	if want := "::error title=gate%3A reject::AUROC fell%0Aby 100%25\n"; !strings.Contains(w.out.String(), want) {
		t.Errorf("no %q in:\n%s", want, &w.out)
	}
}

// parseOutputs reads GITHUB_OUTPUT as the runner does.
func parseOutputs(t *testing.T, text string) map[string]string {
	t.Helper()
	outputs := map[string]string{}
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		name, mark, found := strings.Cut(lines[i], "<<")
		if !found {
			continue
		}
		var value []string
		for i++; i < len(lines) && lines[i] != mark; i++ {
			value = append(value, lines[i])
		}
		outputs[name] = strings.Join(value, "\n")
	}
	return outputs
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestAnUnwritableResultFileIsAnErrorNotAPass(t *testing.T) {
	w := world{}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := w.run(t, pass, "gate", "--stage", "x", "--result", filepath.Join(path, "below")); code != verdict.ExitError {
		t.Errorf("exit %d", code)
	}
}

// memory is a ledger that can fail.
type memory struct {
	results map[string]verdict.Result
	fail    error
	taken   int
	kept    []bool
	stuck   error // of giving the turn back
	lost    error // the turn is lost at once
}

func (m *memory) Lookup(_ context.Context, env *Env, step string) (*verdict.Result, error) {
	if r, ok := m.results[env.Common.Key(step)]; ok {
		return &r, nil
	}
	return nil, nil
}

func (m *memory) Record(_ context.Context, env *Env, step string, r verdict.Result) error {
	if m.fail != nil {
		return m.fail
	}
	m.results[env.Common.Key(step)] = r
	return nil
}

func (m *memory) Take(ctx context.Context, _ *Env) (context.Context, func(bool) error, error) {
	m.taken++
	if m.lost != nil {
		lostCtx, lose := context.WithCancelCause(ctx)
		lose(m.lost)
		ctx = lostCtx
	}
	return ctx, func(keep bool) error { m.kept = append(m.kept, keep); return m.stuck }, nil
}

func TestATurnThatCannotBeGivenBackIsAnError(t *testing.T) {
	w := world{ledger: &memory{results: map[string]verdict.Result{}, stuck: errors.New("bucket is gone")}, turn: EndsTurn}
	if code := w.run(t, pass, "gate", "--stage", "x", "--run-key", "k"); code != verdict.ExitError || !strings.Contains(w.out.String(), "bucket is gone") {
		t.Errorf("exit %d:\n%s", code, &w.out)
	}
}

func TestALostTurnIsToldAsSuch(t *testing.T) {
	w := world{ledger: &memory{results: map[string]verdict.Result{}, lost: verdict.Coded("turn-lost", errors.New("another run has the turn"))}, turn: KeepsTurn}
	cut := func(options) (verdict.Result, error) { return verdict.Result{}, context.Canceled }
	if code := w.run(t, cut, "gate", "--stage", "x", "--run-key", "k"); code != verdict.ExitError || !strings.Contains(w.out.String(), "error (turn-lost) another run has the turn") {
		t.Errorf("exit %d:\n%s", code, &w.out)
	}
}

func TestATurnIsKeptOnlyWhereTheRunGoesOn(t *testing.T) {
	broken := func(options) (verdict.Result, error) { return verdict.Result{}, errors.New("broken") }
	reject := func(options) (verdict.Result, error) { return verdict.Rejected("worse", "worse"), nil }
	for name, c := range map[string]struct {
		turn Turn
		run  func(options) (verdict.Result, error)
		want []bool
	}{
		"none":   {NoTurn, pass, nil},
		"pass":   {KeepsTurn, pass, []bool{true}},
		"reject": {KeepsTurn, reject, []bool{false}},
		"error":  {KeepsTurn, broken, []bool{false}},
		"pass with an error": {KeepsTurn, func(options) (verdict.Result, error) {
			return verdict.Passed("half done"), errors.New("broken")
		}, []bool{false}},
		"panic":             {KeepsTurn, func(options) (verdict.Result, error) { panic("boom") }, []bool{false}},
		"pass of the last":  {EndsTurn, pass, []bool{false}},
		"error of the last": {EndsTurn, broken, []bool{false}},
		"pass that ends it": {KeepsTurn, func(options) (verdict.Result, error) {
			r := verdict.Passed("nothing new")
			r.Reason.Code = "contained"
			return r, nil
		}, []bool{false}},
	} {
		m := &memory{results: map[string]verdict.Result{}}
		w := world{ledger: m, turn: c.turn}
		w.run(t, c.run, "gate", "--stage", "x", "--run-key", "k")
		if !slices.Equal(m.kept, c.want) || m.taken != len(c.want) {
			t.Errorf("%s: taken %d times, kept %v, want %v", name, m.taken, m.kept, c.want)
		}
	}
}

func TestAStepWithAVerdictIsANoOp(t *testing.T) {
	m := &memory{results: map[string]verdict.Result{}}
	w := world{ledger: m}
	calls := 0
	reject := func(options) (verdict.Result, error) { calls++; return verdict.Rejected("worse", "worse"), nil }
	for range 2 {
		if code := w.run(t, reject, "gate", "--stage", "x", "--run-key", "k"); code != verdict.ExitReject {
			t.Fatalf("exit %d", code)
		}
	}
	if calls != 1 {
		t.Errorf("the work was done %d times", calls)
	}
	if _, ok := m.results["runs/k/1/gate.json"]; !ok {
		t.Errorf("kept under %v", m.results)
	}
}

func TestAResultThatCannotBeKeptIsAnError(t *testing.T) {
	w := world{ledger: &memory{fail: errors.New("bucket is gone")}}
	if code := w.run(t, pass, "gate", "--stage", "x", "--run-key", "k"); code != verdict.ExitError {
		t.Errorf("exit %d: nobody will ever read this verdict", code)
	}
	if !strings.Contains(w.out.String(), "bucket is gone") {
		t.Errorf("the reason is hidden:\n%s", &w.out)
	}
}

func TestSummaryHoldsNoMarkupOfData(t *testing.T) {
	r := verdict.Rejected("worse", "see https://evil.example www.evil.example @team #1 [x](y) <img> `a` **b** _c_ a\\|b\n| row |")
	r.Checks = []verdict.Check{{Name: "a|b\n<b>", Verdict: verdict.Reject, Wanted: "`x`"}}
	text := Markdown(r)
	for _, bad := range []string{"https://", "www.", "@team", " #1", " [x](", "<img>", "**b**", "_c_ ", "\n| row", "<b>"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q stays in:\n%s", bad, text)
		}
	}
}

func TestGeneratedActionPassesInputsThroughEnvAlone(t *testing.T) {
	var o options
	text := Command{
		Name: "gate", Program: "penstock", Summary: "it's a: gate", Flags: []cli.Flag{
			&cli.StringFlag{Name: "run-fast", Required: true, Destination: &o.stage}, From(&o.from),
		}, Outputs: []Output{{"model", "digest"}},
	}.ActionYAML()
	for _, want := range []string{
		"description: 'it''s a: gate'", "INPUT_RUN_FAST: ${{ inputs.run-fast }}", "run: exec penstock gate\n",
		"value: ${{ steps.run.outputs.model }}", "value: ${{ steps.run.outputs.verdict }}",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "run:") && strings.Contains(line, "${{") {
			t.Errorf("an expression inside run: %s", line)
		}
	}
}
