package hub

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
)

const attack = `<script>alert(1)</script><img src=x onerror=alert(1)>`

// What comes from branch names, logs, titles and comments never becomes markup.
func TestPagesEscapeWhatStrangersWrite(t *testing.T) {
	w := newWorld(t, workflow("a", "run-name: ${{ inputs.x }}\non: {workflow_dispatch: {inputs: {x: {}}}}"))
	w.runs.do = func(_ context.Context, _ actrun.Spec, tell func(actrun.Event)) (actrun.Result, error) {
		for _, e := range []actrun.Event{
			{Kind: actrun.JobStarted},
			{Kind: actrun.StepStarted, Step: attack},
			{Kind: actrun.Log, Step: attack, Text: "\x1b[31m" + attack + "</pre>"},
			{Kind: actrun.Summary, Step: attack, Text: attack + "\n\n[x](javascript:alert(1))\n\n```mermaid\n" + attack + "\n```"},
			{Kind: actrun.StepEnded, Step: attack, Conclusion: actrun.Failure},
			{Kind: actrun.JobEnded, Conclusion: actrun.Failure, Outputs: map[string]string{attack: attack}},
		} {
			e.Time, e.Job, e.JobID = time.Now(), attack, "work"
			tell(e)
		}
		return actrun.Result{Conclusion: actrun.Failure}, nil
	}
	id := w.dispatchNow("a.yml", `{"x":"`+attack+`"}`)
	w.ended(id)
	w.want(201, "POST", "/issues", `{"title":"`+attack+`","body":"`+attack+`"}`, nil)
	w.want(201, "POST", "/issues/1/comments", `{"body":"`+attack+` <a href='javascript:alert(1)'>x</a> <svg onload=alert(1)> <style>*{}</style>"}`, nil)
	for _, path := range []string{"/", "/acme/line", "/acme/line/actions/runs/" + num(id), "/acme/line/issues/1"} {
		page := w.fetch(w.URL + path)
		for _, bad := range []string{"<script>alert", "onerror=alert", "onload=", "javascript:", "<style>", "\x1b"} {
			for at := 0; ; {
				i := strings.Index(page[at:], bad)
				if i < 0 {
					break
				}
				// As text it may stand there: inside an escaped tag.
				if before := page[max(0, at+i-60) : at+i]; !strings.Contains(before, "&lt;") {
					t.Errorf("%s holds %s after %q", path, bad, before)
				}
				at += i + len(bad)
			}
		}
	}
}

func TestPagesForbidWhatIsNotTheirOwn(t *testing.T) {
	w := newWorld(t, nil)
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/_hub/style.css": "text/css; charset=utf-8", "/_hub/hub.js": "text/javascript; charset=utf-8",
		"/_hub/avatar.svg": "image/svg+xml; charset=utf-8",
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", w.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != kind || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, res.StatusCode, res.Header)
		}
		if policy := res.Header.Get("Content-Security-Policy"); path == "/" && !strings.HasPrefix(policy, "default-src 'none'; script-src 'self';") {
			t.Errorf("policy %q", policy)
		}
	}
	for _, path := range []string{"/acme/none", "/acme/line/actions/runs/1", "/acme/line/pull/1", "/_hub/mermaid.min.js", "/_hub/page.html"} {
		if got := w.admin(testToken, "GET", path, ""); got != http.StatusNotFound {
			t.Errorf("%s: %d", path, got)
		}
	}
}

func TestMarkdownKeepsWhatGitHubKeeps(t *testing.T) {
	md := newMarkdown()
	got, err := md.render("<!-- marker -->\n**Pass**\n\n| a | b |\n|--|--:|\n| 1 | 2 |\n\n<details><summary>more</summary>\n\n- [x] done\n\n~~no~~ https://example.org\n\n</details>\n\n```mermaid\npie\n```\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<strong>Pass</strong>", "<table>", "text-align:right", "<details><summary>more</summary>", `type="checkbox"`, "<del>no</del>", `href="https://example.org"`, `<code class="language-mermaid">`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%s is gone from\n%s", want, got)
		}
	}
	if strings.Contains(string(got), "marker") {
		t.Error("the comment's hidden marker shows")
	}
}

func TestPageLoadsMermaidWhereItIsInstalled(t *testing.T) {
	library := filepath.Join(t.TempDir(), "mermaid.min.js")
	if err := os.WriteFile(library, []byte("library"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil, func(o *Options) { o.Mermaid = library })
	if page := w.fetch(w.URL + "/"); !strings.Contains(page, `src="/_hub/mermaid.min.js"`) {
		t.Error("the page does not load it")
	}
	if got := w.fetch(w.URL + "/_hub/mermaid.min.js"); got != "library" {
		t.Errorf("it is %q", got)
	}
}
