package github_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/outside/github"
)

// fake speaks GitHub's paths for the runs of one workflow, train.yml of
// acme/xray, and misbehaves as told: it exists to inject faults on a clock of
// the test's. What GitHub's answers look like is tested on GitHub's own
// examples (contract_test.go).
type fake struct {
	now   func() time.Time
	fault func(r *http.Request) fault // nil: none

	mu       sync.Mutex // all below
	runs     []fakeRun
	requests []string // method and path, in order
	details  bool     // return_run_details is known
	refuse   int      // status for an unknown return_run_details; 0: it is ignored
}

type fakeRun struct {
	ID      int64
	Title   string
	Created time.Time
	Listed  time.Time
	Ref     string
	Inputs  map[string]string
}

// fault is how one request goes wrong.
type fault struct {
	status int           // answered instead of doing anything
	header http.Header   // of that answer
	body   string        // its message
	after  int           // answered after it was done
	cut    string        // "before" or "after" it is done: the connection breaks
	hold   time.Duration // before it is done
	lag    time.Duration // until a new run is listed
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var fault fault
	if f.fault != nil {
		f.mu.Lock()
		fault = f.fault(r)
		f.mu.Unlock()
	}
	time.Sleep(fault.hold)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	switch {
	case fault.status != 0:
		for name, values := range fault.header {
			w.Header()[name] = values
		}
		refuse(w, fault.status, cmp.Or(fault.body, "fault"))
	case fault.cut == "before":
		panic(http.ErrAbortHandler)
	case fault.after != 0:
		f.answer(httptest.NewRecorder(), r, fault.lag)
		refuse(w, fault.after, "fault")
	case fault.cut == "after":
		f.answer(httptest.NewRecorder(), r, fault.lag)
		panic(http.ErrAbortHandler)
	default:
		f.answer(w, r, fault.lag)
	}
}

func (f *fake) answer(w http.ResponseWriter, r *http.Request, lag time.Duration) {
	const repository = "/api/v3/repos/acme/xray"
	path, ok := strings.CutPrefix(r.URL.Path, repository)
	switch {
	case !ok || r.Header.Get("Authorization") != "Bearer "+secret:
		refuse(w, http.StatusUnauthorized, "Bad credentials")
	case r.Method == http.MethodGet && path == "":
		reply(w, http.StatusOK, map[string]any{"default_branch": "main"})
	case r.Method == http.MethodGet && path == "/actions/workflows/train.yml/runs":
		f.list(w, r)
	case r.Method == http.MethodPost && path == "/actions/workflows/train.yml/dispatches":
		f.dispatch(w, r, lag)
	case r.Method == http.MethodPost && path == "/dispatches":
		f.repositoryDispatch(w, r, lag)
	default:
		refuse(w, http.StatusNotFound, "Not Found")
	}
}

func (f *fake) dispatch(w http.ResponseWriter, r *http.Request, lag time.Duration) {
	var body struct {
		Ref     string            `json:"ref"`
		Inputs  map[string]string `json:"inputs"`
		Details *bool             `json:"return_run_details"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		refuse(w, http.StatusBadRequest, "Problems parsing JSON")
		return
	}
	switch {
	case body.Details != nil && !f.details && f.refuse != 0:
		refuse(w, f.refuse, "Invalid request. \"return_run_details\" is not a permitted key.")
		return
	case body.Ref == "":
		refuse(w, http.StatusUnprocessableEntity, "No ref found for: ")
		return
	}
	id := f.start("train "+body.Inputs["run_key"], body.Ref, body.Inputs, lag)
	if body.Details == nil || !f.details {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	reply(w, http.StatusOK, map[string]any{"workflow_run_id": id, "run_url": "https://x", "html_url": "https://x"})
}

func (f *fake) repositoryDispatch(w http.ResponseWriter, r *http.Request, lag time.Duration) {
	var body struct {
		Event   string            `json:"event_type"`
		Payload map[string]string `json:"client_payload"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Event != "penstock-train" {
		refuse(w, http.StatusUnprocessableEntity, "Invalid request")
		return
	}
	f.start("train "+body.Payload["run_key"], "main", body.Payload, lag)
	w.WriteHeader(http.StatusNoContent)
}

func (f *fake) start(title, ref string, inputs map[string]string, lag time.Duration) int64 {
	id := int64(len(f.runs) + 1000)
	f.runs = append(f.runs, fakeRun{id, title, f.now(), f.now().Add(lag), ref, inputs})
	return id
}

// list answers as GitHub does: newest first, created from..to, pages with a
// Link header, no more than 1,000 results of a search.
func (f *fake) list(w http.ResponseWriter, r *http.Request) {
	from, to := created(r.URL.Query().Get("created"))
	var found []map[string]any
	for _, run := range slices.Backward(f.runs) {
		at := run.Created.Truncate(time.Second)
		if run.Listed.After(f.now()) || at.Before(from) || at.After(to) {
			continue
		}
		found = append(found, map[string]any{
			"id": run.ID, "name": "train", "display_title": run.Title, "event": "workflow_dispatch", "status": "queued",
			"created_at": at.UTC().Format(time.RFC3339), "html_url": fmt.Sprintf("https://github.com/acme/xray/actions/runs/%d", run.ID),
		})
	}
	total := len(found)
	found = found[:min(total, 1000)]
	reply(w, http.StatusOK, map[string]any{"total_count": total, "workflow_runs": page(w, r, found)})
}

func created(text string) (from, to time.Time) {
	parse := func(s string) time.Time {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			panic(err)
		}
		return t
	}
	if rest, open := strings.CutPrefix(text, ">="); open {
		return parse(rest), time.Unix(1<<40, 0)
	}
	first, last, _ := strings.Cut(text, "..")
	return parse(first), parse(last)
}

// page cuts the page asked for and links to the next.
func page[T any](w http.ResponseWriter, r *http.Request, all []T) []T {
	q := r.URL.Query()
	size, number := max(1, atoi(q.Get("per_page"), 30)), max(1, atoi(q.Get("page"), 1))
	start, end := min(len(all), (number-1)*size), min(len(all), number*size)
	if end < len(all) {
		next := url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path}
		q.Set("page", strconv.Itoa(number+1))
		next.RawQuery = q.Encode()
		w.Header().Set("Link", fmt.Sprintf("<%s>; rel=\"next\"", &next))
	}
	return all[start:end]
}

func atoi(s string, other int) int {
	if n, err := strconv.Atoi(s); err == nil {
		return n
	}
	return other
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		panic(err)
	}
}

func refuse(w http.ResponseWriter, status int, message string) {
	reply(w, status, map[string]string{"message": message, "documentation_url": "https://docs.github.com/rest"})
}

// titles counts the runs by title.
func (f *fake) titles() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	count := map[string]int{}
	for _, r := range f.runs {
		count[r.Title]++
	}
	return count
}

// asked counts the requests with this beginning.
func (f *fake) asked(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// secret is the token of all tests; no error may show it.
const secret = "ghp_secretsecretsecret"

// inProcess hands requests to a handler without a socket, so that a test's
// clock can run the whole of it.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	done := make(chan *http.Response, 1)
	in := req.Clone(context.Background())
	if req.Body == nil {
		in.Body = http.NoBody
	}
	go func() {
		defer func() {
			if broken := recover(); broken != nil && broken != http.ErrAbortHandler {
				panic(broken)
			}
			close(done)
		}()
		w := httptest.NewRecorder()
		p.ServeHTTP(w, in)
		done <- w.Result()
	}()
	select {
	case <-req.Context().Done():
		return nil, req.Context().Err()
	case resp, ok := <-done:
		if !ok {
			return nil, io.ErrUnexpectedEOF
		}
		resp.Request = req
		return resp, nil
	}
}

// clientOf asks a handler in this process.
func clientOf(t testing.TB, h http.Handler) *github.Client {
	t.Helper()
	c, err := github.New(github.Settings{
		API: "http://127.0.0.1/api/v3", Repository: "acme/xray", Token: secret, Transport: inProcess{h},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
