package openapi

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var loaded = sync.OnceValues(func() (*Description, error) { return Load(cached()) })

func cached() string {
	dir := os.Getenv("PENSTOCK_CACHE")
	if dir == "" {
		dir = filepath.Join(os.Getenv("HOME"), ".cache", "penstock")
	}
	return filepath.Join(dir, "openapi", "api.github.com.json")
}

func TestCheckTellsAnswersOfGitHubFromOthers(t *testing.T) {
	d, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	const dispatch = "/repos/a/b/actions/workflows/train.yml/dispatches"
	for name, c := range map[string]struct {
		method, path string
		status       int
		body, want   string
	}{
		"a whole answer":        {"POST", dispatch, 200, `{"workflow_run_id":1,"run_url":"https://x/1","html_url":"https://x/1"}`, ""},
		"no content":            {"POST", dispatch, 204, "", ""},
		"a field is missing":    {"POST", dispatch, 200, `{"workflow_run_id":1,"run_url":"https://x/1"}`, "html_url"},
		"a field is no number":  {"POST", dispatch, 200, `{"workflow_run_id":"1","run_url":"https://x/1","html_url":"https://x/1"}`, "workflow_run_id"},
		"content where is none": {"POST", dispatch, 204, "{}", "no content"},
		"an unknown status":     {"POST", dispatch, 418, "{}", "418"},
		"an unknown path":       {"GET", "/repos/a/b/penstock", 200, "{}", "no path"},
		"a ref with slashes":    {"GET", "/repos/a/b/git/ref/heads/x/y", 200, `{"ref":"refs/heads/x/y","node_id":"n","url":"https://x","object":{"type":"commit","sha":"` + strings.Repeat("a", 40) + `","url":"https://x"}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := d.Check(c.method, c.path, c.status, []byte(c.body))
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want one about %q", err, c.want)
			}
		})
	}
}

func TestLoadNamesTheRemedyWhereNothingIsInstalled(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.json"))
	if err == nil || !strings.Contains(err.Error(), "make setup") {
		t.Errorf("error %v", err)
	}
}
