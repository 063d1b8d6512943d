package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/evaluation"
	"github.com/penstock-ml/penstock/internal/line/gate"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

type gateOptions struct {
	stage  string
	report string
	from   cli.StringSlice
}

func gateCommand() action.Command {
	var o gateOptions
	return action.Command{
		Name: "gate", Program: "penstock", Turn: action.KeepsTurn,
		Summary: "decide whether a model goes on, by the policy in penstock.yaml",
		Description: `Stage offline judges the report of evaluate: the first model by the section
gate.bootstrap, every other one by its proven non-inferiority to the champion on
the champion's test rows; a champion that collapses on the new batch is a data
alarm. The report must have the SHA-256 that evaluate's result names, and the
champion must still be the one it was compared with. Afterwards the data set
becomes the newest accepted one (pass, inconclusive), or its batch stays out
until dataset --readmit (reject).

Stage release joins the results of gate --stage offline and loadtest, each once
and on the same model: it passes where both passed.

Verdicts: pass; reject (proven worse, or a data alarm); inconclusive (too little
evidence). A missing or damaged input is an error, never a verdict.`,
		Example: `penstock gate --stage offline --from evaluate.json --result gate-offline.json
penstock gate --stage release --from gate-offline.json --from loadtest.json --result gate-release.json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "stage", Usage: "`STAGE`: offline or release", Destination: &o.stage},
			&cli.StringFlag{Name: "report", Usage: "evaluate's report, a `PATH` or s3:// URI (default: where its result says)", Destination: &o.report},
			action.From(&o.from),
		},
		Outputs: []action.Output{
			{Name: gate.StageOutput, Description: "offline or release"},
			{Name: "model", Description: "digest of the model that was judged"},
			{Name: "dataset", Description: "digest of its data set"},
			{Name: "champion", Description: "digest of the champion it was compared with; empty for the first model"},
			{Name: "champion_dataset", Description: "digest of the champion's data set"},
			{Name: "batch", Description: "key of the new batch; empty where there is none"},
			{Name: "report", Description: "SHA-256 of the report (stage offline)"},
		},
		Environment: append(workspace.StoreVariables(), trackingVariables()...),
		StepName: func() string {
			if o.stage == "" {
				return "gate"
			}
			return "gate-" + o.stage
		},
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runGate(ctx, env, o, registeredChampion)
		},
	}
}

func runGate(ctx context.Context, env *action.Env, o gateOptions, champion championLookup) (verdict.Result, error) {
	if o.stage != gate.Offline && o.stage != gate.ReleaseName {
		return verdict.Result{}, verdict.Usage(fmt.Errorf("--stage %q: known are %s and %s", o.stage, gate.Offline, gate.ReleaseName))
	}
	w, from, err := workspace.OpenWith(ctx, env, o.from.Value())
	if err != nil {
		return verdict.Result{}, err
	}
	if o.stage == gate.ReleaseName {
		return gateRelease(from)
	}
	return gateOffline(ctx, env, w, o, from, champion)
}

func gateRelease(from []verdict.Result) (verdict.Result, error) {
	d, model, err := gate.Release(from)
	if err != nil {
		return verdict.Result{}, err
	}
	r := decided(d, gate.ReleaseName)
	r.Subjects["model"] = model
	for _, f := range from {
		if f.Command != "gate" {
			continue // a load test may have used the images of any data set
		}
		for _, role := range []string{"dataset", "champion", "champion_dataset", "batch", "report"} {
			if value := f.Subjects[role]; value != "" {
				r.Subjects[role] = value
			}
		}
	}
	return r, nil
}

func gateOffline(ctx context.Context, env *action.Env, w *workspace.Workspace, o gateOptions, from []verdict.Result, champion championLookup) (verdict.Result, error) {
	report, sum, err := readReport(ctx, w, o, from)
	if err != nil {
		return verdict.Result{}, err
	}
	if err := stillChampion(ctx, env, w, report, champion); err != nil {
		return verdict.Result{}, err
	}
	d, err := gate.Decide(w.Project.Gate, report)
	if err != nil {
		return verdict.Result{}, err
	}
	r := decided(d, gate.Offline)
	r.Subjects["report"] = sum
	for role, value := range subjectsOf(report) {
		if value != "" {
			r.Subjects[role] = value
		}
	}
	warning, err := settle(ctx, env, w, report, d)
	if warning != "" {
		r.Warnings = append(r.Warnings, warning)
	}
	return r, err
}

// readReport reads the report that evaluate's result names, and refuses any
// other content, and a result that says something else than the report.
func readReport(ctx context.Context, w *workspace.Workspace, o gateOptions, from []verdict.Result) (report evaluation.Report, sum string, err error) {
	evaluated, err := evaluateResult(from)
	if err != nil {
		return report, "", err
	}
	at := o.report
	if at == "" {
		at = evaluated.Outputs[reportAt]
	}
	sum = evaluated.Subjects["report"]
	if at == "" || sum == "" {
		return report, "", verdict.Coded(gate.WrongEvidence, errors.New("the result of evaluate does not say where its report lies and what its SHA-256 is: evaluate again"))
	}
	data, err := w.Read(ctx, at)
	if err != nil {
		return report, "", fmt.Errorf("evaluate's report %s: %w", at, err)
	}
	if got := hexSum(data); got != sum {
		return report, "", verdict.Coded("digest-mismatch", fmt.Errorf("the report %s has the SHA-256 %s, evaluate's result names %s: it was changed, or is of another run; evaluate again", at, got, sum))
	}
	if report, err = evaluation.Decode(data); err != nil {
		return report, "", verdict.Coded(evaluation.BadEvidence, fmt.Errorf("%s: %w", at, err))
	}
	for role, value := range subjectsOf(report) {
		if said, err := workspace.Subject(role, value, from); err != nil {
			return report, "", err
		} else if said != value {
			return report, "", verdict.Coded("digest-mismatch", fmt.Errorf("an earlier result names the %s %s, the report none", role, said))
		}
	}
	return report, sum, nil
}

// evaluateResult finds the one passed result of evaluate.
func evaluateResult(from []verdict.Result) (verdict.Result, error) {
	var found []verdict.Result
	for _, r := range from {
		if r.Command == "evaluate" {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		return verdict.Result{}, verdict.Usage(fmt.Errorf("give the result of evaluate once by --from, not %d times", len(found)))
	}
	if r := found[0]; r.Verdict != verdict.Pass {
		return verdict.Result{}, verdict.Coded("not-passed", fmt.Errorf("the result of evaluate says %s (%s): there is nothing to decide on", r.Verdict, r.Reason.Text))
	}
	return found[0], nil
}

func subjectsOf(r evaluation.Report) map[string]string {
	return map[string]string{
		"model": r.Model, "dataset": r.Dataset, "champion": r.Champion, "champion_dataset": r.ChampionDataset, "batch": r.Batch,
	}
}

// stillChampion refuses a report that compares with another champion than
// today's: also one without a champion where there is one.
func stillChampion(ctx context.Context, env *action.Env, w *workspace.Workspace, report evaluation.Report, champion championLookup) error {
	model, data, err := champion(ctx, env, w)
	if err != nil {
		return fmt.Errorf("look up the champion: %w", err)
	}
	if model != report.Champion || data != report.ChampionDataset {
		return verdict.Coded("champion-moved", fmt.Errorf("the report compares with the champion %q on data set %q; the champion is %q on %q by now: start the run again", report.Champion, report.ChampionDataset, model, data))
	}
	return nil
}

// settle makes the data set the newest accepted one, or remembers that its
// batch was refused. Both may be repeated: a run that broke in between does. A
// batch that an earlier run let in cannot be kept out any more; the warning
// says so.
func settle(ctx context.Context, env *action.Env, w *workspace.Workspace, report evaluation.Report, d gate.Decision) (warning string, err error) {
	if report.Batch == "" {
		return "", nil
	}
	if d.Verdict != verdict.Reject {
		return "", dataset.Accept(ctx, w.Bucket, report.Dataset, env.Common.RunKey)
	}
	head, err := dataset.Head(ctx, w.Bucket)
	if err != nil {
		return "", err
	}
	if head.Dataset == report.Dataset {
		return fmt.Sprintf("run %s let the batch in already: it stays in the newest accepted data set %s", head.RunKey, head.Dataset), nil
	}
	return "", dataset.Refuse(ctx, w.Bucket, report.Batch, report.Dataset, env.Common.RunKey, d.Reason.Text)
}

func decided(d gate.Decision, stage string) verdict.Result {
	r := verdict.Passed("")
	r.Verdict, r.Reason, r.Checks, r.Warnings = d.Verdict, d.Reason, d.Checks, d.Warnings
	r.Outputs[gate.StageOutput] = stage
	return r
}
