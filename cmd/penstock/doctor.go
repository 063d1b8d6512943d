package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/registry"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

func doctorCommand() action.Command {
	return action.Command{
		Name: "doctor", Program: "penstock",
		Summary: "look at everything the line needs and say what is missing",
		Description: `Reads penstock.yaml, then asks every server it names: the bucket, with a
conditional PUT, MLflow, the admin and public sides of every inference server,
the routers, and looks for the trainer's program. Each question is a check; the
verdict is reject where one fails, with the remedy in its text. It changes
nothing but two probe objects, which it removes.`,
		Example: "penstock doctor\npenstock doctor --json | jq '.checks[] | select(.verdict != \"pass\")'",
		Environment: append(append(workspace.StoreVariables(), trackingVariables()...),
			adminVariable, routerVariable),
		Run: runDoctor,
	}
}

// questionLimit bounds each of doctor's questions.
const questionLimit = 15 * time.Second

// question is one thing doctor asks. Its answer is a text for people; an error
// says what is wrong and what to do.
type question struct {
	name string
	ask  func(ctx context.Context) (string, error)
}

func runDoctor(ctx context.Context, env *action.Env) (verdict.Result, error) {
	w, err := workspace.Open(env)
	if err != nil {
		return verdict.Result{}, err
	}
	questions := slices.Concat(storeQuestions(w), trackingQuestions(env, w), hostQuestions(env, w), trainerQuestions(w))
	r := verdict.Passed("everything the line needs is there")
	r.Checks = answers(ctx, questions)
	if err := ctx.Err(); err != nil {
		return r, err
	}
	if r.Verdict = verdict.Join(r.Checks); r.Verdict != verdict.Pass {
		first := slices.IndexFunc(r.Checks, func(c verdict.Check) bool { return c.Verdict != verdict.Pass })
		r.Reason = verdict.Reason{Code: "unhealthy", Text: r.Checks[first].Name + ": " + r.Checks[first].Text}
	}
	return r, nil
}

// answers asks all questions at once: a server that hangs costs its own time
// only.
func answers(ctx context.Context, questions []question) []verdict.Check {
	checks := make([]verdict.Check, len(questions))
	var wg sync.WaitGroup
	for i, q := range questions {
		wg.Go(func() { checks[i] = answer(ctx, q) })
	}
	wg.Wait()
	return checks
}

func answer(ctx context.Context, q question) verdict.Check {
	ctx, cancel := context.WithTimeout(ctx, questionLimit)
	defer cancel()
	text, err := q.ask(ctx)
	if err != nil {
		return verdict.Check{Name: q.name, Verdict: verdict.Reject, Required: true, Text: err.Error()}
	}
	return verdict.Check{Name: q.name, Verdict: verdict.Pass, Required: true, Text: text}
}

func storeQuestions(w *workspace.Workspace) []question {
	return []question{
		{"bucket", func(ctx context.Context) (string, error) {
			return w.Bucket.Endpoint() + "/" + w.Bucket.Name(), w.Bucket.Ping(ctx)
		}},
		{"conditional PUT", func(ctx context.Context) (string, error) {
			return "If-None-Match and If-Match are honoured", w.Bucket.CheckConditional(ctx)
		}},
	}
}

func trackingQuestions(env *action.Env, w *workspace.Workspace) []question {
	return []question{
		{"mlflow", func(ctx context.Context) (string, error) {
			client, err := openTracking(env)
			if err != nil {
				return "", err
			}
			version, err := client.Ping(ctx)
			return "version " + version, err
		}},
		{"champion", func(ctx context.Context) (string, error) {
			models, err := openRegistry(env, w)
			if err != nil {
				return "", err
			}
			champion, err := models.Champion(ctx)
			if errors.Is(err, registry.ErrNoChampion) {
				return "none yet", nil
			}
			return fmt.Sprintf("version %d, %.12s", champion.Version, champion.Digest), err
		}},
	}
}

func hostQuestions(env *action.Env, w *workspace.Workspace) []question {
	client := openDeployment(env)
	var questions []question
	for _, name := range w.Project.EnvironmentNames() {
		e := w.Project.Environments[name]
		for _, s := range e.Servers {
			questions = append(questions, question{name + "/" + s.Slot, func(ctx context.Context) (string, error) {
				status, err := client.Status(ctx, s, w.Project.Name)
				if err == nil && status.Digest == "" {
					return "answers, no model yet", nil
				}
				return fmt.Sprintf("%s %.12s", status.State, status.Digest), err
			}})
		}
		for _, router := range e.Routers {
			questions = append(questions, question{name + "/router", func(ctx context.Context) (string, error) {
				split, err := client.Split(ctx, deployment.Router(router))
				return fmt.Sprintf("canary has %.2f%%", float64(split.CanaryBP)/100), err
			}})
		}
	}
	return questions
}

func trainerQuestions(w *workspace.Workspace) []question {
	return []question{{"trainer", func(context.Context) (string, error) {
		path, err := exec.LookPath(w.Project.Train.Command[0])
		if err != nil {
			return "", fmt.Errorf("train.command: %w; install it, or run doctor where training runs", err)
		}
		return path, nil
	}}}
}
