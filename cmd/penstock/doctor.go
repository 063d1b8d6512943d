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
the routers, and looks for the trainer's program. Where a token or an App for
GitHub is set it asks there too: whether the workflows stand on the default
branch, what Actions may do, and which self-hosted runners are open to whom.
Each question is a check; the verdict is reject where one fails, with the
remedy in its text. Checks that are only listed tell and decide nothing. It
changes nothing but a probe object, which it removes.`,
		Example: "penstock doctor\npenstock doctor --json | jq '.checks[] | select(.verdict != \"pass\")'",
		Environment: append(slices.Concat(workspace.StoreVariables(), trackingVariables(), githubVariables()),
			adminVariable, routerVariable),
		Run: runDoctor,
	}
}

// questionLimit bounds each of doctor's questions.
const questionLimit = 15 * time.Second

// question is one thing doctor asks. Its answer is a text for people; an error
// says what is wrong and what to do. A listed one never decides.
type question struct {
	name   string
	ask    func(ctx context.Context) (string, error)
	listed bool
}

// errNotSeen is the answer to a question that could not be looked into: the
// check is listed as inconclusive and decides nothing.
var errNotSeen = errors.New("could not look")

func runDoctor(ctx context.Context, env *action.Env) (verdict.Result, error) {
	w, err := workspace.Open(env)
	if err != nil {
		return verdict.Result{}, err
	}
	questions := slices.Concat(storeQuestions(w), trackingQuestions(env, w), hostQuestions(env, w), trainerQuestions(w), githubQuestions(env))
	r := verdict.Passed("everything the line needs is there")
	r.Checks = answers(ctx, questions)
	if err := ctx.Err(); err != nil {
		return r, err
	}
	for _, c := range r.Checks {
		if !c.Required && c.Verdict == verdict.Reject {
			r.Warnings = append(r.Warnings, c.Name+": "+c.Text)
		}
	}
	if r.Verdict = verdict.Join(r.Checks); r.Verdict != verdict.Pass {
		first := slices.IndexFunc(r.Checks, func(c verdict.Check) bool { return c.Required && c.Verdict != verdict.Pass })
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
	switch {
	case errors.Is(err, errNotSeen):
		return verdict.Check{Name: q.name, Verdict: verdict.Inconclusive, Text: err.Error()}
	case err != nil:
		return verdict.Check{Name: q.name, Verdict: verdict.Reject, Required: !q.listed, Text: err.Error()}
	}
	return verdict.Check{Name: q.name, Verdict: verdict.Pass, Required: !q.listed, Text: text}
}

func storeQuestions(w *workspace.Workspace) []question {
	return []question{
		{name: "bucket", ask: func(ctx context.Context) (string, error) {
			return w.Bucket.Endpoint() + "/" + w.Bucket.Name(), w.Bucket.Ping(ctx)
		}},
		{name: "conditional PUT", ask: func(ctx context.Context) (string, error) {
			return "If-None-Match and If-Match are honoured", w.Bucket.CheckConditional(ctx)
		}},
	}
}

func trackingQuestions(env *action.Env, w *workspace.Workspace) []question {
	return []question{
		{name: "mlflow", ask: func(ctx context.Context) (string, error) {
			client, err := openTracking(env)
			if err != nil {
				return "", err
			}
			version, err := client.Ping(ctx)
			return "version " + version, err
		}},
		{name: "champion", ask: func(ctx context.Context) (string, error) {
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
			questions = append(questions, question{name: name + "/" + s.Slot + " public", ask: func(ctx context.Context) (string, error) {
				version, err := client.Version(ctx, s)
				return "version " + version, err
			}})
			questions = append(questions, question{name: name + "/" + s.Slot + " admin", ask: func(ctx context.Context) (string, error) {
				status, err := client.Status(ctx, s, w.Project.Name)
				if err == nil && status.Digest == "" {
					return "answers, no model yet", nil
				}
				return fmt.Sprintf("%s %.12s", status.State, status.Digest), err
			}})
		}
		for _, router := range e.Routers {
			questions = append(questions, question{name: name + "/router", ask: func(ctx context.Context) (string, error) {
				split, err := client.Split(ctx, deployment.Router(router))
				return fmt.Sprintf("canary has %.2f%%", float64(split.CanaryBP)/100), err
			}})
		}
	}
	return questions
}

func trainerQuestions(w *workspace.Workspace) []question {
	return []question{{name: "trainer", ask: func(context.Context) (string, error) {
		path, err := exec.LookPath(w.Project.Train.Command[0])
		if err != nil {
			return "", fmt.Errorf("train.command: %w; install it, or run doctor where training runs", err)
		}
		return path, nil
	}}}
}
