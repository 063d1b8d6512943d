package github

import (
	"context"
	"fmt"

	gh "github.com/google/go-github/v60/github"
)

// Deployment asks GitHub to record a deployment of Ref to Environment.
type Deployment struct {
	Ref         string // branch, tag or commit
	Environment string
	Description string
	Production  bool
	Payload     map[string]string // what stands behind it: run key, digest
}

// CreateDeployment records a deployment and gives its id. GitHub merges
// nothing into the ref and asks for no checks: it would answer 202 or 409 and
// record nothing.
func (c *Client) CreateDeployment(ctx context.Context, d Deployment) (int64, error) {
	var made *gh.Deployment
	err := write(ctx, func(ctx context.Context) (err error) {
		made, _, err = c.api.Repositories.CreateDeployment(ctx, c.owner, c.name, &gh.DeploymentRequest{
			Ref: &d.Ref, Environment: &d.Environment, Description: &d.Description, Payload: d.Payload,
			AutoMerge: gh.Bool(false), RequiredContexts: &[]string{},
			ProductionEnvironment: &d.Production, TransientEnvironment: gh.Bool(false),
		})
		return err
	})
	return made.GetID(), explain(fmt.Sprintf("deployment of %s to %s in %s", d.Ref, d.Environment, c.Repository()),
		"see that the ref exists and the token has deployments: write", err)
}

// SetDeploymentStatus adds a status to a deployment: queued, in_progress,
// success, failure, error or inactive, and where to read more.
func (c *Client) SetDeploymentStatus(ctx context.Context, id int64, state, description, logURL string) error {
	request := &gh.DeploymentStatusRequest{State: &state, Description: &description, AutoInactive: gh.Bool(true)}
	if logURL != "" {
		request.LogURL = &logURL
	}
	_, _, err := c.api.Repositories.CreateDeploymentStatus(repeat(ctx), c.owner, c.name, id, request)
	return explain(fmt.Sprintf("status %s of deployment %d in %s", state, id, c.Repository()), "see that the deployment exists and the token has deployments: write", err)
}
