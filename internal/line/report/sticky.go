package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Comment is a comment on a pull request.
type Comment struct {
	ID        int64
	Body      string
	Author    string // login
	URL       string // for people
	Minimized bool   // hidden by somebody
}

// Comments are those of one repository's pull requests. List gives all pages.
// Update answers ErrGone where the comment was deleted.
type Comments interface {
	List(ctx context.Context, pullRequest int) ([]Comment, error)
	Create(ctx context.Context, pullRequest int, body string) (Comment, error)
	Update(ctx context.Context, id int64, body string) (Comment, error)
}

// ErrGone means that a comment is no longer there.
var ErrGone = errors.New("the comment was deleted")

// Outcomes of Keep.
const (
	Created   = "created"
	Updated   = "updated"
	Unchanged = "unchanged"
)

// Marker is the line by which a project's comment is found again; it is
// invisible on the page.
func Marker(project string) string {
	safe := strings.Map(func(r rune) rune {
		if r < 0x80 && isAlphanumeric(r) || strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, project)
	return "<!-- penstock:" + safe + " -->"
}

// Find gives the project's comments among all, oldest first: those with the
// marker as a line of their own, written by login, and not minimised.
func Find(all []Comment, login, project string) []Comment {
	marker := Marker(project)
	var own []Comment
	for _, c := range all {
		if login != "" && c.Author == login && !c.Minimized && slices.Contains(lines(c.Body), marker) {
			own = append(own, c)
		}
	}
	slices.SortFunc(own, func(a, b Comment) int { return cmp.Compare(a.ID, b.ID) })
	return own
}

// lines splits a body as GitHub may have stored it, with either line end.
func lines(body string) []string {
	return strings.Split(strings.ReplaceAll(body, "\r\n", "\n"), "\n")
}

// Keep makes body the project's one comment on a pull request. others are
// further ones of its own, which stay as they are.
func Keep(ctx context.Context, comments Comments, login, project string, pullRequest int, body string) (kept Comment, outcome string, others []Comment, err error) {
	if login == "" {
		return kept, "", nil, errors.New("who writes the comment is not known: without the login somebody else's could be overwritten")
	}
	if !slices.Contains(lines(body), Marker(project)) {
		return kept, "", nil, fmt.Errorf("the body lacks the marker of project %s: it could not be found again", project)
	}
	all, err := comments.List(ctx, pullRequest)
	if err != nil {
		return kept, "", nil, fmt.Errorf("list the comments on pull request %d: %w", pullRequest, err)
	}
	own := Find(all, login, project)
	for len(own) > 0 {
		oldest := own[0]
		own = own[1:]
		if same(oldest.Body, body) {
			return oldest, Unchanged, own, nil
		}
		kept, err = comments.Update(ctx, oldest.ID, body)
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return kept, "", nil, fmt.Errorf("update comment %d on pull request %d: %w", oldest.ID, pullRequest, err)
		}
		return kept, Updated, own, nil
	}
	if kept, err = comments.Create(ctx, pullRequest, body); err != nil {
		return kept, "", nil, fmt.Errorf("comment on pull request %d: %w", pullRequest, err)
	}
	return kept, Created, nil, nil
}

// same compares bodies as a server may have stored them: with other line ends,
// without white space at the end.
func same(a, b string) bool {
	tidy := func(s string) string {
		return strings.TrimRight(strings.Join(lines(s), "\n"), " \n")
	}
	return tidy(a) == tidy(b)
}
