package github

import (
	"context"
	"fmt"
)

// PullRequest is where a pull request's newest commit stands.
type PullRequest struct {
	Number         int
	HeadSHA        string
	HeadRepository string // owner/name; empty where the fork is gone
}

// PullRequest reads a pull request.
func (c *Client) PullRequest(ctx context.Context, number int) (PullRequest, error) {
	var read struct {
		Number int `json:"number"`
		Head   struct {
			SHA  string `json:"sha"`
			Repo *struct {
				Name string `json:"full_name"`
			} `json:"repo"`
		} `json:"head"`
	}
	if err := c.get(ctx, c.path(fmt.Sprintf("pulls/%d", number)), &read); err != nil {
		return PullRequest{}, explain(fmt.Sprintf("pull request %s#%d", c.Repository(), number), "see that it exists and the token has pull-requests: read", err)
	}
	p := PullRequest{Number: read.Number, HeadSHA: read.Head.SHA}
	if read.Head.Repo != nil {
		p.HeadRepository = read.Head.Repo.Name
	}
	return p, nil
}
