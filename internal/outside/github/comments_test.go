package github_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-ml/penstock/internal/outside/github"
)

// thread is pull request 7 of acme/xray with its comments.
type thread struct {
	comments []map[string]any
	lose     int // so many answers to writes are lost
	done     bool
}

func (c *thread) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, "/api/v3") {
	case "GET /user":
		reply(w, http.StatusOK, map[string]string{"login": "mona"})
	case "GET /repos/acme/xray/issues/7/comments":
		reply(w, http.StatusOK, page(w, r, c.comments))
	case "POST /repos/acme/xray/issues/7/comments":
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			panic(err)
		}
		if c.lose--; c.lose < 0 || c.done {
			c.add("mona", body["body"].(string))
		}
		if c.lose >= 0 {
			panic(http.ErrAbortHandler)
		}
		reply(w, http.StatusCreated, c.comments[len(c.comments)-1])
	case "PATCH /repos/acme/xray/issues/comments/3":
		refuse(w, http.StatusNotFound, "Not Found")
	default:
		refuse(w, http.StatusNotFound, "Not Found")
	}
}

func (c *thread) add(login, body string) map[string]any {
	made := map[string]any{"id": len(c.comments) + 1, "body": body, "user": map[string]string{"login": login}}
	c.comments = append(c.comments, made)
	return made
}

func TestAllPagesOfCommentsAreRead(t *testing.T) {
	c := &thread{}
	for i := range 250 {
		c.add("mona", fmt.Sprint("comment ", i))
	}
	c.comments[100]["minimized"] = map[string]string{"reason": "outdated"}
	c.comments[101]["user"] = nil
	s := httptest.NewServer(c)
	defer s.Close()
	client, err := github.New(github.Settings{API: s.URL, Repository: "acme/xray", Token: secret})
	if err != nil {
		t.Fatal(err)
	}
	read, err := client.Comments(t.Context(), 7)
	if err != nil || len(read) != 250 || read[249].Body != "comment 249" || !read[100].Minimized || read[99].Minimized || read[101].Author != "" {
		t.Errorf("%d comments, %v", len(read), err)
	}
	if _, err := client.Comments(t.Context(), 8); github.Status(err) != 404 || !strings.Contains(err.Error(), "acme/xray#8") {
		t.Errorf("error %v", err)
	}
	if _, err := client.UpdateComment(t.Context(), 3, "x"); github.Status(err) != 404 {
		t.Errorf("error %v", err)
	}
}

func TestACommentWhoseAnswerIsLostIsWrittenOnce(t *testing.T) {
	for name, c := range map[string]struct {
		lose int
		done bool
	}{
		"nothing was lost": {0, false},
		"it was written":   {1, true},
		"it was not":       {1, false},
		"twice not":        {2, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			thread := &thread{lose: c.lose, done: c.done}
			thread.add("eve", "hello")
			made, err := clientOf(t, thread).CreateComment(t.Context(), 7, "hello")
			if err != nil || made.ID != 2 || made.Author != "mona" || len(thread.comments) != 2 {
				t.Errorf("%s: comment %+v of %d, %v", name, made, len(thread.comments), err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		thread := &thread{lose: 100}
		if _, err := clientOf(t, thread).CreateComment(t.Context(), 7, "hello"); !errors.Is(err, github.ErrUnanswered) {
			t.Errorf("error %v", err)
		}
	})
}

func TestCancelUnderstandsAcceptedAndTooLate(t *testing.T) {
	for name, c := range map[string]struct {
		statuses   []int // of the cancels
		conclusion string
		want       error
		status     int
	}{
		"accepted":                    {statuses: []int{202}},
		"lost, and accepted":          {statuses: []int{500, 202}},
		"lost, and cancelled already": {statuses: []int{500, 409}, conclusion: "cancelled"},
		"ended before":                {statuses: []int{409}, conclusion: "success", want: github.ErrEnded},
		"no such run":                 {statuses: []int{404}, status: 404},
	} {
		synctest.Test(t, func(t *testing.T) {
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.Method + " " + r.URL.Path {
				case "POST /api/v3/repos/acme/xray/actions/runs/5/cancel":
					status := c.statuses[0]
					c.statuses = c.statuses[1:]
					reply(w, status, map[string]string{})
				case "GET /api/v3/repos/acme/xray/actions/runs/5":
					reply(w, http.StatusOK, map[string]any{"id": 5, "status": "completed", "conclusion": c.conclusion})
				default:
					refuse(w, http.StatusNotFound, "Not Found")
				}
			})
			err := clientOf(t, handler).Cancel(t.Context(), 5)
			if c.status != 0 && github.Status(err) == c.status {
				return
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
			time.Sleep(time.Minute)
		})
	}
}

func TestAncestryIsReadFromTheComparison(t *testing.T) {
	for status, want := range map[string]bool{"ahead": true, "identical": true, "behind": false, "diverged": false} {
		var asked string
		c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = r.URL.EscapedPath()
			reply(w, http.StatusOK, map[string]string{"status": status})
		}))
		is, err := c.IsAncestor(t.Context(), "deploy/xray/v3", "main")
		if err != nil || is != want || !strings.HasSuffix(asked, "/compare/deploy%2Fxray%2Fv3...main") {
			t.Errorf("%s: %t, %v, asked %s", status, is, err, asked)
		}
	}
	c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"status": "new"})
	}))
	if _, err := c.IsAncestor(t.Context(), "a", "b"); err == nil {
		t.Error("an unknown status is taken")
	}
}
