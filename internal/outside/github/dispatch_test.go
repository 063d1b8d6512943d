package github_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-ml/penstock/internal/line/intake"
	"github.com/penstock-ml/penstock/internal/outside/github"
)

const posts = "POST /api/v3/repos/acme/xray/actions/workflows/train.yml/dispatches"

func inputs(key string) map[string]string { return map[string]string{"batch": key, "run_key": key} }

func TestADispatchNamesItsRunOnServersOldAndNew(t *testing.T) {
	for name, c := range map[string]struct {
		details bool
		refuse  int
		posts   int // for two dispatches
	}{
		"with run details":                 {true, 0, 2},
		"204, the question is ignored":     {false, 0, 2},
		"400 for the unknown question":     {false, 400, 3},
		"422 for the unknown question":     {false, 422, 3},
		"a server that knows it after all": {true, 422, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{now: time.Now, details: c.details, refuse: c.refuse, fault: onPost(fault{lag: 5 * time.Second})}
			client := clientOf(t, f)
			for i, key := range []string{"a", "b"} {
				if id, err := client.Dispatch(t.Context(), "train.yml", "main", "train "+key, inputs(key)); err != nil || id != int64(1000+i) {
					t.Errorf("%s: run %d, %v", name, id, err)
				}
			}
			if n := f.asked(posts); n != c.posts {
				t.Errorf("%s: %d posts, want %d", name, n, c.posts)
			}
		})
	}
}

func TestARepeatedDispatchFindsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{now: time.Now, details: true}
		for range 3 { // three processes
			if id, err := clientOf(t, f).Dispatch(t.Context(), "train.yml", "main", "train k", inputs("k")); err != nil || id != 1000 {
				t.Errorf("run %d, %v", id, err)
			}
		}
		if n := f.asked(posts); n != 1 {
			t.Errorf("%d posts", n)
		}
		if id, err := clientOf(t, f).Dispatch(t.Context(), "train.yml", "main", "train k2", inputs("k2")); err != nil || id != 1001 {
			t.Errorf("another name: run %d, %v", id, err)
		}
	})
}

func TestARunIsFoundBehindThousandsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{now: time.Now, details: true}
		for i := range 2500 {
			f.runs = append(f.runs, fakeRun{ID: int64(i), Title: fmt.Sprint("train ", i), Created: time.Now().Add(time.Duration(i-2500) * time.Minute)})
		}
		c := clientOf(t, f)
		for _, i := range []int{2499, 2400, 1500, 1499, 501, 500, 0} {
			run, found, err := c.FindRun(t.Context(), "train.yml", fmt.Sprint("train ", i))
			if err != nil || !found || run.ID != int64(i) {
				t.Errorf("run %d: %+v, %t, %v", i, run, found, err)
			}
		}
		f.requests = nil
		if _, found, err := c.FindRun(t.Context(), "train.yml", "train"); found || err != nil || len(f.requests) > 30 {
			t.Errorf("found %t after %d requests, %v", found, len(f.requests), err)
		}
	})
}

func TestALostAnswerIsReconciledBeforeAnySecondDispatch(t *testing.T) {
	for name, c := range map[string]struct {
		fault fault
		posts int
	}{
		"done, then the connection broke":     {fault{cut: "after", lag: 20 * time.Second}, 1},
		"done, then 502":                      {fault{after: 502, lag: 20 * time.Second}, 1},
		"done, after we had given up":         {fault{hold: 25 * time.Second, lag: 20 * time.Second}, 1},
		"not done, the connection broke":      {fault{cut: "before"}, 2},
		"not done, 500":                       {fault{status: 500}, 2},
		"not done, 503 with a time to be met": {fault{status: 503, header: header("Retry-After", "5")}, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{now: time.Now, details: true, fault: onPost(c.fault)}
			id, err := clientOf(t, f).Dispatch(t.Context(), "train.yml", "main", "train k", inputs("k"))
			if err != nil || id != 1000 || f.titles()["train k"] != 1 || f.asked(posts) != c.posts {
				t.Errorf("%s: run %d of %v with %d posts, %v", name, id, f.titles(), f.asked(posts), err)
			}
			time.Sleep(time.Hour)
		})
	}
}

func TestADispatchThatNeverTakesPlaceEndsInItsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{now: time.Now, fault: onPost(fault{status: 500}, fault{status: 500}, fault{status: 500}, fault{status: 500})}
		_, err := clientOf(t, f).Dispatch(t.Context(), "train.yml", "main", "train k", inputs("k"))
		if github.Status(err) != 500 || errors.Is(err, github.ErrUnanswered) || f.asked(posts) != 3 || !strings.Contains(err.Error(), "started nothing") {
			t.Errorf("%d posts, %v", f.asked(posts), err)
		}
	})
}

func TestARefusedDispatchSaysWhatToDo(t *testing.T) {
	for status, message := range map[int]string{
		422: "Unexpected inputs provided: [\"batch\"]",
		404: "Not Found",
		403: "Resource not accessible by personal access token",
	} {
		synctest.Test(t, func(t *testing.T) {
			refusal := fault{status: status, body: message}
			f := &fake{now: time.Now, fault: onPost(refusal, refusal)}
			_, err := clientOf(t, f).Dispatch(t.Context(), "train.yml", "main", "train k", inputs("k"))
			if github.Status(err) != status || !strings.Contains(err.Error(), message) || !strings.Contains(err.Error(), "workflow_dispatch") {
				t.Errorf("error %v", err)
			}
		})
	}
	many := map[string]string{}
	for i := range 26 {
		many[fmt.Sprint(i)] = ""
	}
	f := &fake{now: time.Now}
	for _, bad := range []map[string]string{many, {"x": strings.Repeat("x", 65536)}} {
		if _, err := clientOf(t, f).Dispatch(t.Context(), "train.yml", "main", "train k", bad); err == nil || len(f.requests) > 0 {
			t.Errorf("%d requests, %v", len(f.requests), err)
		}
	}
}

func TestARepositoryDispatchIsReconciledToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{now: time.Now, fault: onPost(fault{cut: "after", lag: 10 * time.Second})}
		c := clientOf(t, f)
		for range 2 {
			id, err := c.DispatchRepository(t.Context(), "train.yml", "penstock-train", "train k", map[string]any{"run_key": "k"})
			if err != nil || id != 1000 || f.titles()["train k"] != 1 {
				t.Errorf("run %d of %v, %v", id, f.titles(), err)
			}
		}
	})
	if _, err := clientOf(t, &fake{now: time.Now}).DispatchRepository(t.Context(), "train.yml", strings.Repeat("x", 101), "r", nil); err == nil {
		t.Error("a type of 101 characters is taken")
	}
}

func TestBatchesGoToTheDefaultBranchUnderTheirKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{now: time.Now, details: true}
		var to intake.Dispatcher = github.NewBatches(clientOf(t, f), "train.yml", "")
		if has, err := to.Dispatched(t.Context(), "k"); has || err != nil {
			t.Errorf("%t, %v", has, err)
		}
		if err := to.Dispatch(t.Context(), intake.Batch{Key: "k"}); err != nil {
			t.Fatal(err)
		}
		run := f.runs[0]
		if run.Title != "train k" || run.Ref != "main" || run.Inputs["batch"] != "k" || run.Inputs["run_key"] != "k" {
			t.Errorf("run %+v", run)
		}
		if has, err := to.Dispatched(t.Context(), "k"); !has || err != nil {
			t.Errorf("%t, %v", has, err)
		}
	})
}

func TestAnOpenOutcomeIsSaidInIntakesWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outage := false
		f := &fake{now: time.Now}
		f.fault = func(r *http.Request) fault {
			if r.Method == http.MethodPost {
				outage = true
				return fault{cut: "after"}
			}
			if outage {
				return fault{status: 429, header: header("Retry-After", "3600")}
			}
			return fault{}
		}
		to := github.NewBatches(clientOf(t, f), "train.yml", "main")
		if err := to.Dispatch(t.Context(), intake.Batch{Key: "k"}); !errors.Is(err, intake.ErrUncertain) {
			t.Errorf("error %v", err)
		}
		if _, err := to.Dispatched(t.Context(), "k"); !errors.Is(err, intake.ErrUncertain) {
			t.Errorf("error %v", err)
		}
		time.Sleep(time.Hour)
		outage = false
		if has, err := to.Dispatched(t.Context(), "k"); !has || err != nil {
			t.Errorf("%t, %v", has, err)
		}
	})
}
