package github

import (
	"context"
	"fmt"
	"net/http"

	gh "github.com/google/go-github/v60/github"
)

// Comment is a comment of a pull request or an issue.
type Comment struct {
	ID        int64
	Body      string
	Author    string // login; github-actions[bot] for GITHUB_TOKEN
	Minimized bool   // somebody hid it
	URL       string
}

// comment is GitHub's form; go-github's lacks what tells that one is hidden.
type comment struct {
	ID   int64  `json:"id"`
	Body string `json:"body"`
	URL  string `json:"html_url"`
	User *struct {
		Login string `json:"login"`
	} `json:"user"` // null where the account is gone
	Minimized *struct{} `json:"minimized"`
}

func (c comment) plain() Comment {
	p := Comment{ID: c.ID, Body: c.Body, Minimized: c.Minimized != nil, URL: c.URL}
	if c.User != nil {
		p.Author = c.User.Login
	}
	return p
}

const commentNeed = "see that the pull request exists and the token has pull-requests: write"

// Comments lists all comments of a pull request, oldest first.
func (c *Client) Comments(ctx context.Context, number int) ([]Comment, error) {
	var all []Comment
	err := pages(func(page gh.ListOptions) (*gh.Response, bool, error) {
		req, err := c.api.NewRequest(http.MethodGet, c.path(fmt.Sprintf("issues/%d/comments?per_page=%d&page=%d", number, page.PerPage, page.Page)), nil)
		if err != nil {
			return nil, true, err
		}
		var read []comment
		resp, err := c.api.Do(ctx, req, &read)
		for _, one := range read {
			all = append(all, one.plain())
		}
		return resp, false, err
	})
	return all, explain(fmt.Sprintf("comments of %s#%d", c.Repository(), number), commentNeed, err)
}

// CreateComment writes a comment. Where its answer is lost, the comments are
// searched for it before it is written a second time.
func (c *Client) CreateComment(ctx context.Context, number int, body string) (Comment, error) {
	what := fmt.Sprintf("comment on %s#%d", c.Repository(), number)
	for try := 1; ; try++ {
		var made comment
		err := c.post(ctx, fmt.Sprintf("issues/%d/comments", number), map[string]string{"body": body}, &made)
		err = explain(what, commentNeed, err)
		if err == nil || !uncertain(err) || try == dispatchTries {
			return made.plain(), err
		}
		login, lost := c.Viewer(ctx)
		if lost != nil {
			return Comment{}, fmt.Errorf("%w; %w", err, lost)
		}
		there, lost := c.Comments(ctx, number)
		if lost != nil {
			return Comment{}, fmt.Errorf("%w; %w", err, lost)
		}
		for _, one := range there {
			if one.Author == login && one.Body == body {
				return one, nil
			}
		}
	}
}

// UpdateComment sets a comment's text.
func (c *Client) UpdateComment(ctx context.Context, id int64, body string) (Comment, error) {
	req, err := c.api.NewRequest(http.MethodPatch, c.path(fmt.Sprintf("issues/comments/%d", id)), map[string]string{"body": body})
	if err != nil {
		return Comment{}, err
	}
	var changed comment
	_, err = c.api.Do(ctx, req, &changed)
	return changed.plain(), explain(fmt.Sprintf("comment %d of %s", id, c.Repository()), commentNeed, err)
}
