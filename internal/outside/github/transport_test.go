package github_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-ml/penstock/internal/outside/github"
)

// inTurn answers with one fault after another, then without.
func inTurn(faults ...fault) func(*http.Request) fault {
	return func(*http.Request) fault {
		if len(faults) == 0 {
			return fault{}
		}
		next := faults[0]
		faults = faults[1:]
		return next
	}
}

// onPost lets only writes go wrong.
func onPost(faults ...fault) func(*http.Request) fault {
	next := inTurn(faults...)
	return func(r *http.Request) fault {
		if r.Method != http.MethodPost {
			return fault{}
		}
		return next(r)
	}
}

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

const secondary = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."

func TestLimitsAreWaitedForAsGitHubSays(t *testing.T) {
	in := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
	for name, c := range map[string]struct {
		faults   func() []fault
		from, to time.Duration
	}{
		"429 with Retry-After": {
			func() []fault { return []fault{{status: 429, header: header("Retry-After", "7")}} }, 7 * time.Second, 8 * time.Second,
		},
		"Retry-After as a date": {
			func() []fault {
				return []fault{{status: 429, header: header("Retry-After", time.Now().Add(90*time.Second).UTC().Format(http.TimeFormat))}}
			}, 89 * time.Second, 95 * time.Second,
		},
		"403 secondary without a time": {
			func() []fault { return []fault{{status: 403, body: secondary}} }, time.Minute, 64 * time.Second,
		},
		"403 secondary again and again": {
			func() []fault {
				return []fault{{status: 403, body: secondary}, {status: 403, body: secondary}, {status: 429}}
			}, 7 * time.Minute, 8 * time.Minute,
		},
		"403 primary": {
			func() []fault {
				return []fault{{status: 403, header: header("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", in(200*time.Second))}}
			}, 200 * time.Second, 215 * time.Second,
		},
		"a reset that has passed": {
			func() []fault {
				return []fault{{status: 403, header: header("X-RateLimit-Remaining", "0", "X-RateLimit-Reset", in(-time.Hour))}}
			}, time.Second, 2 * time.Second,
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{now: time.Now, details: true, fault: onPost(c.faults()...)}
			start := time.Now()
			if _, err := clientOf(t, f).Dispatch(t.Context(), "train.yml", "main", "train k", map[string]string{"run_key": "k"}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if waited := time.Since(start); waited < c.from || waited > c.to {
				t.Errorf("%s: waited %s, want %s to %s", name, waited, c.from, c.to)
			}
			if n := f.titles()["train k"]; n != 1 {
				t.Errorf("%s: %d runs", name, n)
			}
		})
	}
}

func TestALimitLongerThanTheCallerHasEndsAtOnceAndIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{now: time.Now, fault: inTurn(fault{status: 429, header: header("Retry-After", "3000")})}
		c := clientOf(t, f)
		start := time.Now()
		for range 2 {
			_, err := c.DefaultBranch(t.Context())
			var limit *github.LimitError
			if !errors.As(err, &limit) || limit.Until.Sub(start) < 3000*time.Second || !strings.Contains(err.Error(), "try again then") {
				t.Errorf("error %v", err)
			}
		}
		if time.Since(start) > time.Second || len(f.requests) != 1 {
			t.Errorf("after %s, %d requests", time.Since(start), len(f.requests))
		}
		time.Sleep(3001 * time.Second)
		if _, err := c.DefaultBranch(t.Context()); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // a deadline
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		f := &fake{now: time.Now, fault: inTurn(fault{status: 403, body: secondary})}
		start := time.Now()
		_, err := clientOf(t, f).DefaultBranch(ctx)
		var limit *github.LimitError
		if !errors.As(err, &limit) || time.Since(start) > time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

func TestARefusalIsNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{now: time.Now, fault: onPost(fault{status: 403, body: "Resource not accessible by integration", header: header("X-RateLimit-Remaining", "4999")})}
		start := time.Now()
		_, err := clientOf(t, f).Dispatch(t.Context(), "train.yml", "main", "train k", nil)
		if github.Status(err) != 403 || time.Since(start) > time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		for _, part := range []string{"train.yml", "acme/xray", "actions: write", "not accessible"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not name %q", err, part)
			}
		}
	})
}

func TestReadsAreRepeatedAFewTimesAndWritesAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{now: time.Now, fault: inTurn(fault{status: 502}, fault{cut: "before"}, fault{cut: "after"})}
		start := time.Now()
		if branch, err := clientOf(t, f).DefaultBranch(t.Context()); err != nil || branch != "main" {
			t.Errorf("%q, %v", branch, err)
		}
		if d := time.Since(start); d < 2*time.Second || d > 12*time.Second || len(f.requests) != 4 {
			t.Errorf("%d requests in %s", len(f.requests), d)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := &fake{now: time.Now, fault: func(*http.Request) fault { return fault{status: 500} }}
		_, err := clientOf(t, f).DefaultBranch(t.Context())
		if github.Status(err) != 500 || len(f.requests) != 4 {
			t.Errorf("%d requests, %v", len(f.requests), err)
		}
		f.requests = nil
		_, err = clientOf(t, f).CreateDeployment(t.Context(), github.Deployment{Ref: "x", Environment: "y"})
		if github.Status(err) != 500 || len(f.requests) != 1 {
			t.Errorf("%d requests, %v", len(f.requests), err)
		}
	})
}

func TestWithoutTimeForAnotherAttemptTheAnswerIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/4)
		defer cancel()
		f := &fake{now: time.Now, fault: inTurn(fault{status: 502})}
		if _, err := clientOf(t, f).DefaultBranch(ctx); github.Status(err) != 502 || !strings.Contains(err.Error(), "try again later") {
			t.Errorf("error %v", err)
		}
	})
}

func TestAHangingAnswerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{now: time.Now, fault: inTurn(fault{hold: time.Hour})}
		start := time.Now()
		if _, err := clientOf(t, f).DefaultBranch(t.Context()); err != nil || time.Since(start) > time.Minute {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		time.Sleep(time.Hour) // until the server lets go
	})
}

func TestAWriteThatWasSentIsWaitedForThoughTheCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := &fake{now: time.Now, details: true, fault: onPost(fault{hold: 10 * time.Second})}
		time.AfterFunc(5*time.Second, cancel)
		if id, err := clientOf(t, f).Dispatch(ctx, "train.yml", "main", "train k", nil); err != nil || id == 0 {
			t.Errorf("run %d, %v", id, err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // and its answer is lost
		ctx, cancel := context.WithCancel(t.Context())
		f := &fake{now: time.Now, details: true, fault: onPost(fault{hold: 10 * time.Second, cut: "after"})}
		time.AfterFunc(5*time.Second, cancel)
		_, err := clientOf(t, f).Dispatch(ctx, "train.yml", "main", "train k", nil)
		if !errors.Is(err, github.ErrUnanswered) || !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestTheTokenGoesToGitHubAloneAndStandsInNoError(t *testing.T) {
	var seen []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
		reply(w, http.StatusOK, map[string]any{"default_branch": "other"})
	}))
	defer elsewhere.Close()
	here := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+secret {
			t.Errorf("Authorization %q", r.Header.Get("Authorization"))
		}
		w.Header().Set("Location", elsewhere.URL+"/moved")
		w.WriteHeader(http.StatusMovedPermanently)
	}))
	defer here.Close()
	c, err := github.New(github.Settings{
		API: here.URL, Repository: "acme/xray", Token: secret,
		Sleep: func(context.Context, time.Duration) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if branch, err := c.DefaultBranch(t.Context()); err != nil || branch != "other" {
		t.Errorf("%q, %v", branch, err)
	}
	if len(seen) != 1 || seen[0] != "" {
		t.Errorf("the other host saw %q", seen)
	}
	_, err = c.CreateComment(t.Context(), 1, "x") // a redirected write would become a read
	if github.Status(err) != http.StatusMovedPermanently || !strings.Contains(err.Error(), "GITHUB_REPOSITORY") || strings.Contains(err.Error(), secret) {
		t.Errorf("error %v", err)
	}
	here.Close()
	if err := c.SetDeploymentStatus(t.Context(), 1, "success", "", ""); err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "GITHUB_API_URL") {
		t.Errorf("error %v", err)
	}
}

func TestSettingsThatCannotWorkAreRefusedByName(t *testing.T) {
	good := map[string]string{"GITHUB_TOKEN": secret, "GITHUB_REPOSITORY": "acme/xray"}
	for _, c := range []struct{ name, value, says string }{
		{"GITHUB_TOKEN", "", "PENSTOCK_APP_ID"},
		{"GITHUB_REPOSITORY", "", "owner/name"},
		{"GITHUB_REPOSITORY", "acme", "owner/name"},
		{"GITHUB_REPOSITORY", "acme/..", "owner/name"},
		{"GITHUB_REPOSITORY", "acme/xray/../other", "owner/name"},
		{"GITHUB_API_URL", "ghe.example.org", "no URL"},
		{"GITHUB_API_URL", "http://ghe.example.org/api/v3", "https"},
		{"GITHUB_API_URL", "https://user:" + secret + "@ghe.example.org", "credentials"},
		{"PENSTOCK_APP_ID", "1", "PENSTOCK_APP_PRIVATE_KEY"},
	} {
		_, err := github.FromEnv(func(name string) string {
			if name == c.name {
				return c.value
			}
			return good[name]
		})
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s=%s: error %v", c.name, c.value, err)
		}
	}
	if _, err := github.FromEnv(func(string) string { return "" }); !errors.Is(err, github.ErrNoCredentials) {
		t.Errorf("error %v", err)
	}
}

func TestBaseURLsOfGitHubAndEnterprise(t *testing.T) {
	for given, want := range map[string]string{
		"":                                 "https://api.github.com",
		"https://api.github.com":           "https://api.github.com",
		"https://ghe.example.org/api/v3":   "https://ghe.example.org/api/v3",
		"https://ghe.example.org/api/v3/":  "https://ghe.example.org/api/v3",
		"https://ghe.example.org":          "https://ghe.example.org/api/v3",
		"https://api.octocorp.ghe.com":     "https://api.octocorp.ghe.com",
		"http://127.0.0.1:8080/api/v3":     "http://127.0.0.1:8080/api/v3",
		"http://localhost:8080/api/v3":     "http://localhost:8080/api/v3",
		"http://[::1]:8080/api/v3":         "http://[::1]:8080/api/v3",
		"https://ghe.example.org/x/api/v3": "https://ghe.example.org/x/api/v3",
	} {
		c, err := github.New(github.Settings{API: given, Repository: "acme/xray", Token: secret})
		if err != nil || c.API() != want {
			t.Errorf("%q: %v, %v", given, c, err)
		}
	}
}
