package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	gh "github.com/google/go-github/v60/github"
)

// Error is an answer that says no.
type Error struct {
	What    string // what was asked for
	Status  int
	Message string // GitHub's words
	Remedy  string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: GitHub answered %d %s", e.What, e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		text += fmt.Sprintf(" (%s)", e.Message)
	}
	return text + ": " + e.Remedy
}

// Status is the status of the answer behind err, 0 where there is none.
func Status(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// shown bounds GitHub's words in an error, in bytes.
const shown = 300

// explain makes an error of go-github one that names what, where and the
// remedy; need is the remedy where GitHub says no to who asks or to what.
func explain(what, need string, err error) error {
	var answer *gh.ErrorResponse
	if errors.As(err, &answer) && answer.Response != nil {
		status := answer.Response.StatusCode
		return &Error{what, status, words(answer), remedy(status, need)}
	}
	var limit *LimitError
	var inner *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &limit):
		return fmt.Errorf("%s: %w", what, limit)
	case errors.As(err, &inner):
		return fmt.Errorf("%s: %w", what, inner)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w: GitHub did not answer in the time there was", what, err)
	}
	var sent *url.Error
	if errors.As(err, &sent) {
		return fmt.Errorf("%s: no usable answer from %s (%w): is %s right, and is the host reachable?", what, hostOf(sent.URL), sent.Err, APIVariable)
	}
	return fmt.Errorf("%s: GitHub's answer cannot be understood (%w): is %s right?", what, err, APIVariable)
}

func remedy(status int, need string) string {
	switch {
	case status == http.StatusUnauthorized:
		return "the token is wrong, expired or revoked: set " + TokenVariable + " anew"
	case status/100 == 3:
		return "the repository was moved or renamed: set " + RepositoryVariable + " to its name of now"
	case status >= 500:
		return "GitHub is in trouble (githubstatus.com): try again later"
	}
	return need
}

// words are GitHub's own, on one line and bounded.
func words(r *gh.ErrorResponse) string {
	text := r.Message
	for _, e := range r.Errors {
		if e.Message != "" {
			text += "; " + e.Message
		}
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > shown {
		text = strings.ToValidUTF8(text[:shown], "") + "…"
	}
	return text
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "GitHub"
	}
	return u.Host
}

// uncertain tells whether a write may have taken place although it failed.
func uncertain(err error) bool {
	return errors.Is(err, ErrUnanswered) || Status(err) >= 500
}
