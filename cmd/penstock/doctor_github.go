package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/outside/github"
)

// githubQuestions ask GitHub, where somebody said how; else one listed check
// says that nobody asked.
func githubQuestions(env *action.Env) []question {
	client, err := openGitHub(env)
	if err != nil {
		return []question{{name: "github", ask: func(context.Context) (string, error) {
			if errors.Is(err, github.ErrNoCredentials) || errors.Is(err, github.ErrNoRepository) {
				return "", fmt.Errorf("%w: not asked: %w", errNotSeen, err)
			}
			return "", err
		}}}
	}
	return []question{
		{name: "github token", ask: func(ctx context.Context) (string, error) {
			login, err := client.Viewer(ctx)
			return login + " at " + client.API(), err
		}},
		{name: "github repository", ask: func(ctx context.Context) (string, error) {
			r, err := client.ReadRepository(ctx)
			return fmt.Sprintf("%s, %s, default branch %s", client.Repository(), publicity(r), r.DefaultBranch), err
		}},
		workflowQuestion(client, "watch.yml", false),
		workflowQuestion(client, "train.yml", false),
		workflowQuestion(client, "deploy.yml", false),
		workflowQuestion(client, "rollback.yml", true),
		workflowQuestion(client, "pull-request.yml", true),
		workflowQuestion(client, "pull-request-comment.yml", true),
		{name: "github actions", ask: func(ctx context.Context) (string, error) { return askPermissions(ctx, client) }},
		{name: "github runners", listed: true, ask: func(ctx context.Context) (string, error) { return askRunners(ctx, client) }},
	}
}

func publicity(r github.Repository) string {
	if r.Public {
		return "public"
	}
	return "not public"
}

// trainName is the line by which watch finds the runs it dispatched.
var trainName = regexp.MustCompile(`(?m)^run-name:\s*["']?train \$\{\{`)

// workflowQuestion asks whether a workflow stands on the default branch and is
// switched on.
func workflowQuestion(client *github.Client, file string, listed bool) question {
	return question{name: "workflow " + file, listed: listed, ask: func(ctx context.Context) (string, error) {
		w, err := client.ReadWorkflow(ctx, file)
		switch status := github.Status(err); {
		case status == http.StatusNotFound:
			return "", fmt.Errorf("%w; `penstock init` writes it", err)
		case status == http.StatusForbidden:
			return "", notSeen(err)
		case err != nil:
			return "", err
		case w.State != "active":
			return "", fmt.Errorf("%s is %s, so nothing starts it: enable it on the repository's Actions page", file, w.State)
		case file == "train.yml" && (!strings.Contains(w.Text, "workflow_dispatch") || !trainName.MatchString(w.Text)):
			return "", fmt.Errorf("%s lacks `workflow_dispatch` or a line `run-name: train ${{ … }}`: watch dispatches by the one and recognises its runs by the other", file)
		}
		return "active on the default branch", nil
	}}
}

func askPermissions(ctx context.Context, client *github.Client) (string, error) {
	p, err := client.ReadPermissions(ctx)
	switch {
	case hidden(err):
		return "", notSeen(err)
	case err != nil:
		return "", err
	case !p.Enabled:
		return "", errors.New("this repository has Actions switched off: switch them on in Settings, Actions, General")
	}
	text := fmt.Sprintf("on; allowed actions: %s; GITHUB_TOKEN's default: %s", p.Actions, p.Token)
	if p.Token == "write" {
		text += " (open: a workflow without `permissions:` may write; set it to read in Settings, Actions, General)"
	}
	return text, nil
}

// askRunners says which self-hosted runners are open to whom. Restrictions do
// not replace the job-started hook on the runner's host, which a repository's
// YAML cannot change.
func askRunners(ctx context.Context, client *github.Client) (string, error) {
	repository, err := client.ReadRepository(ctx)
	if err != nil {
		return "", err
	}
	own, err := client.Runners(ctx)
	if err != nil && !hidden(err) {
		return "", err
	}
	unseen := err
	var groups []github.RunnerGroup
	if repository.Organisation != "" {
		groups, err = client.RunnerGroups(ctx, repository.Organisation)
		if err != nil && !hidden(err) {
			return "", err
		}
		if unseen == nil {
			unseen = err
		}
	}
	if open := openRunners(repository, own, groups); len(open) > 0 {
		text := "open: " + strings.Join(open, "; ")
		if unseen != nil {
			return "", fmt.Errorf("%s; and not all could be seen: %w", text, unseen)
		}
		return "", errors.New(text)
	}
	if unseen != nil {
		return "", notSeen(unseen)
	}
	return fmt.Sprintf("%d of the repository, %d groups, none open to strangers", own, len(groups)), nil
}

// openRunners tells what is open, one clause for each.
func openRunners(r github.Repository, own int, groups []github.RunnerGroup) []string {
	var open []string
	if own > 0 && r.Public {
		open = append(open, fmt.Sprintf("this repository is public and has %d self-hosted runners of its own: any pull request may ask for them; move them into an organisation's group restricted to workflows, or make the repository private", own))
	}
	for _, g := range groups {
		if g.Runners == 0 {
			continue // none of its own that anybody could reach
		}
		if g.Public {
			text := fmt.Sprintf("runner group %q allows public repositories", g.Name)
			if r.Public {
				text += ", and this repository is public: anybody's pull request may ask for its runners"
			}
			open = append(open, text+"; switch that off in the group's settings")
		}
		if !g.Restricted {
			open = append(open, fmt.Sprintf("runner group %q runs every workflow of its repositories; restrict it to the line's workflows at the default branch", g.Name))
		}
		if g.Visibility == "all" {
			open = append(open, fmt.Sprintf("runner group %q is for all repositories of the organisation; select this one", g.Name))
		}
	}
	return open
}

// hidden tells whether GitHub would not show the answer to who asks.
func hidden(err error) bool {
	status := github.Status(err)
	return status == http.StatusForbidden || status == http.StatusNotFound
}

func notSeen(err error) error { return fmt.Errorf("%w: %w", errNotSeen, err) }
