package github

import (
	"context"
	"fmt"

	gh "github.com/google/go-github/v60/github"
)

// RunnerGroup is a group of an organisation's self-hosted runners that the
// repository may use.
type RunnerGroup struct {
	Name       string
	Visibility string   // which repositories: all, selected or private
	Public     bool     // public repositories may use it
	Restricted bool     // to Workflows
	Workflows  []string // owner/name/.github/workflows/train.yml@ref
	Runners    int
}

const runnerNeed = "a token with organization_self_hosted_runners: read (classic: admin:org) can see them; GITHUB_TOKEN cannot"

// RunnerGroups lists the groups of organisation that the repository may use.
// The token needs the organisation's self-hosted runners: read; without it
// Status is 403, or 404 where GitHub hides the question.
func (c *Client) RunnerGroups(ctx context.Context, organisation string) ([]RunnerGroup, error) {
	what := "runner groups of " + organisation
	var groups []RunnerGroup
	err := pages(func(page gh.ListOptions) (*gh.Response, bool, error) {
		read, resp, err := c.api.Actions.ListOrganizationRunnerGroups(ctx, organisation,
			&gh.ListOrgRunnerGroupOptions{ListOptions: page, VisibleToRepository: c.name})
		if err != nil {
			return nil, true, err
		}
		for _, g := range read.RunnerGroups {
			runners, _, err := c.api.Actions.ListRunnerGroupRunners(ctx, organisation, g.GetID(), &gh.ListOptions{PerPage: 1})
			if err != nil {
				return nil, true, err
			}
			groups = append(groups, RunnerGroup{
				g.GetName(), g.GetVisibility(), g.GetAllowsPublicRepositories(), g.GetRestrictedToWorkflows(), g.SelectedWorkflows, runners.TotalCount,
			})
		}
		return resp, false, nil
	})
	return groups, explain(what, runnerNeed, err)
}

// Runners counts the self-hosted runners that belong to the repository itself:
// every workflow of it may use them, and no group restricts them. The token
// needs administration: read.
func (c *Client) Runners(ctx context.Context) (int, error) {
	read, _, err := c.api.Actions.ListRunners(ctx, c.owner, c.name, &gh.ListOptions{PerPage: 1})
	if err != nil {
		return 0, explain(fmt.Sprintf("self-hosted runners of %s", c.Repository()), "a token with administration: read can see them; GITHUB_TOKEN cannot", err)
	}
	return read.TotalCount, nil
}
