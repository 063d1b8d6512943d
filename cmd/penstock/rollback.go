package main

import (
	"context"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

func rollbackCommand() action.Command {
	var o lineOptions
	return action.Command{
		Name: "rollback", Program: "penstock",
		Summary: "bring production back to the version before",
		Description: `The canary slot, which keeps the previous version warm, takes everything;
stable loads it; the share returns to 0; the canary slot keeps the version that
was rolled back, so that going forward again is quick; last the alias
production goes back. Tags stay: they are a record. Nothing is judged: it is
the way out. Asked again it does nothing; cut off, it goes on.`,
		Example:     "penstock rollback",
		Flags:       o.flags(),
		Outputs:     lineOutputs(),
		Environment: lineVariables(),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runRollback(ctx, env, o)
		},
	}
}

func runRollback(ctx context.Context, env *action.Env, o lineOptions) (verdict.Result, error) {
	w, err := workspace.Open(env)
	if err != nil {
		return verdict.Result{}, err
	}
	line, err := openLine(ctx, env, w, o, "rollback")
	if err != nil {
		return verdict.Result{}, err
	}
	s, err := line.Rollback(ctx)
	if err != nil {
		return verdict.Result{}, codedRollout(err)
	}
	return s.Result(line.Plan)
}
