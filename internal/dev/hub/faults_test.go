package hub

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-github/v60/github"
)

// admin sends a request to the hub's own paths.
func (w *world) admin(token, method, path, body string) int {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

func TestFaultsAreAskedForByTheAdministratorOnly(t *testing.T) {
	w := newWorld(t, nil, func(o *Options) { o.Users = map[string]string{forker: "stranger"} })
	for _, c := range []struct {
		token, method, body string
		want                int
	}{
		{forker, "PUT", `{"kind":"server-error"}`, 401},
		{testToken, "PUT", `{"kind":"unknown"}`, 422},
		{testToken, "PUT", `{"kind":"server-error","match":"["}`, 422},
		{testToken, "PUT", `{"kind":"server-error","often":1}`, 422},
		{testToken, "PUT", `{"kind":"server-error","times":1}`, 204},
		{testToken, "GET", "", 200},
		{testToken, "DELETE", "", 204},
	} {
		if got := w.admin(c.token, c.method, "/_hub/faults", c.body); got != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.body, got, c.want)
		}
	}
	w.want(200, "GET", "", "", nil)
}

func TestFaultsLookLikeGitHubsOwn(t *testing.T) {
	w := newWorld(t, workflow("a", "on: workflow_dispatch"))
	c := w.client(testToken)
	dispatch := func() error {
		_, err := c.Actions.CreateWorkflowDispatchEventByFileName(t.Context(), testOwner, testRepo, "a.yml", github.CreateWorkflowDispatchEventRequest{Ref: "main"})
		return err
	}
	for _, f := range []struct {
		kind    string
		status  int
		retry   string
		made    int // runs that the dispatch made nevertheless
		is      func(error) bool
		meaning string
	}{
		{"too-many-requests", 429, "1", 0, func(err error) bool { return status(err) == 429 }, "an ordinary error"},
		{"secondary-limit", 403, "1", 0, func(err error) bool { return errors.As(err, new(*github.AbuseRateLimitError)) }, "the secondary limit"},
		{"primary-limit", 403, "", 0, func(err error) bool { return errors.As(err, new(*github.RateLimitError)) }, "the rate limit"},
		{"server-error", 500, "", 0, func(err error) bool { return status(err) == 500 }, "an ordinary error"},
		{"lost-answer", 0, "", 1, func(err error) bool { return err != nil && status(err) == 0 }, "a transport error"},
		{"no-content", 204, "", 1, func(err error) bool { return err == nil }, "no error"},
	} {
		t.Run(f.kind, func(t *testing.T) {
			// go-github remembers limits: each kind gets a client of its own.
			c = w.client(testToken)
			before := len(w.list())
			if err := w.Fault(f.kind, `^POST .*/dispatches$`, 1); err != nil {
				t.Fatal(err)
			}
			err := dispatch()
			if !f.is(err) {
				t.Errorf("go-github tells %v, want %s", err, f.meaning)
			}
			if got := len(w.list()) - before; got != f.made {
				t.Errorf("%d runs were made, want %d", got, f.made)
			}
			c = w.client(testToken)
			if err := dispatch(); err != nil {
				t.Errorf("after the fault: %v", err)
			}
		})
	}
}

func TestOldServerRefusesRunDetailsAndTakesTheRest(t *testing.T) {
	w := newWorld(t, workflow("a", "on: workflow_dispatch"))
	if err := w.Fault("old-server", "dispatches$", 0); err != nil {
		t.Fatal(err)
	}
	w.want(422, "POST", "/actions/workflows/a.yml/dispatches", `{"ref":"main","return_run_details":true}`, nil)
	w.want(204, "POST", "/actions/workflows/a.yml/dispatches", `{"ref":"main"}`, nil)
	if got := len(w.list()); got != 1 {
		t.Errorf("%d runs", got)
	}
}
