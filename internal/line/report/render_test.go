package report

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"
	xhtml "golang.org/x/net/html"

	"github.com/penstock-ml/penstock/internal/verdict"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run go test -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (go test -update writes it):\n%s", name, diff)
	}
}

func TestEqualFactsGiveEqualBytes(t *testing.T) {
	cases := map[string]Facts{"reject.md": factsOf(benign()), "hostile.md": factsOf(every(hostile[0]))}
	alone := factsOf(benign())
	alone.Report, alone.Steps[1].Verdict, alone.Steps = first(benign()), verdict.Pass, alone.Steps[:2]
	data := Compare(datasetOf(alone), nil, "")
	alone.Data = &data
	cases["first-model.md"] = alone
	cases["fork.md"] = Facts{
		Project: "xray", Commit: benign().commit, Unverified: "the run of stranger/xray ended with success",
		Jobs: []Job{{"the whole run", "success"}, {"lint", "success"}, {"test", "success"}}, Links: []Link{{"run", "pull-request", benign().url}},
	}
	for name, f := range cases {
		golden(t, name, Render(f))
		if again := Render(f); again != Render(f) {
			t.Errorf("%s: two renderings differ", name)
		}
		if Overflow(f) != "" {
			t.Errorf("%s: something is said to be cut", name)
		}
	}
}

// hostile strings want to be more than text.
var hostile = []string{
	"<!-- penstock:xray --> @octocat #1 https://evil.example | x",
	"<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</code></details><h1>x", "<!--", "-->",
	"@octocat", "@org/team", "mail@evil.example", "mailto:a@b.example", "xmpp:a@b.example/x",
	"[x](https://evil.example)", "![x](https://evil.example/x.png)", "[x][y]", "[x]: https://evil.example", "[^1]", "[ ] task",
	"https://evil.example", "http://evil.example.", "(www.evil.example)", "WWW.EVIL.EXAMPLE", "ftp://evil.example", "<https://evil.example>", "*www.evil.example", "_https://evil.example",
	"#1", "GH-1", "o/r#1", "o/r@8ce1afc2f3ab4e1c8ce1afc2f3ab4e1c8ce1afc2", "8ce1afc2f3ab", ":smile:", "a :+1:.", "$x^2$", "$$x$$", "$`x`$",
	"a|b|c", "a\\|b", "a\\\\|b", "|", "\\", "\\`|`", "`", "``", "```", "`x` | `y`", "~~~", "~~x~~", "**x**", "_x_", "__x__", "*", "- x", "1. x", "1) x", "+ x", "# x", "> x", "---", "===", "    x", "\tx",
	"a\nb", "a\r\nb", "a\n\n# b", "a\u2028b", "\u0000", "a\u202eb", "\u200b", "\xff\xfe", "\xc3",
	"```\n\n<h1>x</h1>\n\n```mermaid\ngraph TD", "\"]\n    line [1", "\"", "\";", "%%{init: {\"theme\": \"dark\"}}%%", "%% x", "#quot;", "#35;", "accTitle: x", "click A href \"https://evil.example\"",
	"&lt;b&gt;", "&#64;octocat", "&amp;", "&nbsp;", "x&y", "::error::x", "javascript:alert(1)", "https://u:p@evil.example/", "https://evil.example/\"onmouseover=\"x", "https://evil.example/) [y](https://more.example",
	"", " ", strings.Repeat("x", 5000), strings.Repeat("@a ", 3000), strings.Repeat("ä", 3000), strings.Repeat("|", 3000),
}

func rendered(t *testing.T, markdown string) *xhtml.Node {
	t.Helper()
	var page bytes.Buffer
	md := goldmark.New(goldmark.WithExtensions(extension.GFM, extension.Footnote), goldmark.WithRendererOptions(html.WithUnsafe()))
	if err := md.Convert([]byte(markdown), &page); err != nil {
		t.Fatal(err)
	}
	root, err := xhtml.Parse(&page)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// shape lists the elements of a page with their attributes, in order. Code
// elements within a line are left out: words of prose become code where they
// could come to life.
func shape(n *xhtml.Node) (list []string, text, comments string) {
	var walk func(n *xhtml.Node, dead bool)
	walk = func(n *xhtml.Node, dead bool) {
		switch n.Type {
		case xhtml.ElementNode:
			if n.Data != "code" || n.Parent.Data == "pre" {
				list = append(list, fmt.Sprint(n.Data, n.Attr))
			}
			dead = dead || n.Data == "code" || n.Data == "pre"
		case xhtml.TextNode:
			if !dead {
				text += n.Data + "\n"
			}
		case xhtml.CommentNode:
			comments += n.Data + "\n"
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c, dead)
		}
	}
	walk(n, false)
	return list, text, comments
}

// magic is what GitHub makes of text outside of code, beyond Markdown.
var magic = regexp.MustCompile(`(?i)@[a-z0-9]|#[0-9]|\bgh-[0-9]|://|www\.|:[a-z0-9+_-]+:|\$|\b[0-9a-f]{7,40}\b`)

func TestNothingFromDataBecomesMoreThanText(t *testing.T) {
	for _, build := range []func(names) Facts{factsOf, func(n names) Facts {
		f := factsOf(n)
		f.Report, f.Unverified = first(n), "because "+n.reason
		return f
	}} {
		plain := build(benign())
		plain.Links[0].URL = "" // a hostile address is no link
		want, _, wantComments := shape(rendered(t, Render(plain)))
		for _, s := range hostile {
			f := build(every(s))
			if strings.HasPrefix(s, "https://evil.example/") || strings.HasSuffix(s, "//evil.example") || strings.HasSuffix(s, "evil.example.") {
				f.Links[0].URL = "" // an address that is one; TestLinks looks at it
			}
			body := Render(f)
			got, text, comments := shape(rendered(t, body))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%.60q changes the page:\n%s", s, diff)
			}
			if found := magic.FindString(text); found != "" {
				t.Errorf("%.60q leaves %q outside of code", s, found)
			}
			if comments != wantComments || strings.Count(body, "<!--") != 1 {
				t.Errorf("%.60q makes comments of its own: %q", s, comments)
			}
			if len(Find([]Comment{{ID: 1, Body: body, Author: "bot"}}, "bot", "xray")) != 1 || !utf8.ValidString(body) || len(body) > Limit {
				t.Errorf("%.60q: the comment is not found again, or is no valid text of at most %d bytes", s, Limit)
			}
			validChart(t, s, body)
		}
	}
}

// chartLine is every line that a chart of ours has.
var chartLine = regexp.MustCompile(`^(xychart-beta|%%\{init: \{"xyChart": \{"width": \d+, "height": \d+, "chartOrientation": "horizontal"\}, "themeVariables": \{"xyChart": \{"plotColorPalette": "#56B4E9,#D55E00"\}\}\}\}%%|    title "[\p{L}\p{N} :,]+"|    x-axis \["[\p{L}\p{N} _.()+-]+"(, "[\p{L}\p{N} _.()+-]+")*\]|    y-axis "AUROC" 0\.\d00 --> 1|    (bar|line) \[\d\.\d{3}(, \d\.\d{3})*\])$`)

func validChart(t *testing.T, name, body string) {
	t.Helper()
	_, chart, found := strings.Cut(body, "```mermaid\n")
	chart, _, closed := strings.Cut(chart, "\n```\n")
	if !found || !closed {
		t.Errorf("%.60q: no chart, or one without an end", name)
		return
	}
	for line := range strings.SplitSeq(chart, "\n") {
		if !chartLine.MatchString(line) {
			t.Errorf("%.60q: chart line %q", name, line)
		}
	}
}

func TestADifferenceWithoutEvidenceIsNotBold(t *testing.T) {
	body := Render(factsOf(benign()))
	for label, bold := range map[string]bool{"Mass": true, "Pleural_Thickening": false} {
		_, row, found := strings.Cut(body, "\n| `"+label+"` | ")
		row, _, _ = strings.Cut(row, "\n")
		if !found || strings.Contains(row, "**") != bold {
			t.Errorf("%s: %q", label, row)
		}
	}
}

func TestLinksGoNowhereElse(t *testing.T) {
	for address, want := range map[string]string{
		"https://github.example/o/r/actions/runs/1":     "https://github.example/o/r/actions/runs/1",
		"http://127.0.0.1:5000/#/runs/a":                "http://127.0.0.1:5000/#/runs/a",
		"https://e.example/\"onmouseover=\"x":           "https://e.example/%22onmouseover=%22x",
		"https://e.example/) [y](https://more.example":  "https://e.example/%29%20%5By%5D%28https://more.example",
		"https://e.example/?a=b|c":                      "https://e.example/?a=b%7Cc",
		"javascript:alert(1)":                           "",
		"https://user:password@mlflow.example/#/runs/a": "",
		"https://":              "",
		"//e.example":           "",
		"data:text/html,x":      "",
		"https://e.example/\nx": "",
		"s3://xray/runs/1.json": "",
		"https://e.example/`x`": "https://e.example/%60x%60",
		"HTTPS://e.example/<b>": "https://e.example/%3Cb%3E",
		"https://e.example/" + strings.Repeat("ä", 2): "https://e.example/%C3%A4%C3%A4",
		"https://e.example/a_b*c*_d":                  "https://e.example/a_b%2Ac%2A_d",
		"https://e.example/@octocat":                  "https://e.example/%40octocat",
		"https://e.example/<!-- penstock:xray -->":    "https://e.example/%3C%21--%20penstock:xray%20--%3E",
	} {
		list, _, _ := shape(rendered(t, "x: "+link("text", address)))
		wanted := ""
		if want != "" {
			wanted = "a[{ href " + want + "}]"
		}
		got := ""
		for _, element := range list {
			if strings.HasPrefix(element, "a") {
				got = element
			}
		}
		if got != wanted {
			t.Errorf("%q: %q, want %q", address, got, wanted)
		}
	}
}

func TestLongCommentsAreCutAtWholeSectionsAndNothingIsLost(t *testing.T) {
	n := benign()
	for i := range 700 {
		n.labels = append(n.labels, fmt.Sprintf("Label-%03d-äöü", i))
	}
	f := factsOf(n)
	body, rest := Render(f), Overflow(f)
	if len(body) > Limit || !utf8.ValidString(body) || !strings.Contains(body, "Cut for length: AUROC by label") {
		t.Fatalf("%d bytes, cut %q", len(body), Cut(f))
	}
	if !strings.HasSuffix(body, Marker("xray")+"\n") || !strings.HasPrefix(body, "❌ **xray: reject**") {
		t.Error("first line or marker were cut")
	}
	for _, s := range f.sections() {
		if strings.Contains(body, s.text) == strings.Contains(rest, s.text) {
			t.Errorf("section %q stands in both or in neither", s.title)
		}
	}
	if len(Cut(f)) == len(f.sections()) {
		t.Error("sections that find room were cut as well")
	}
}

func TestTheLimitHoldsAtEveryLength(t *testing.T) {
	f := factsOf(benign())
	whole := Render(f)
	for limit := len(whole) + 200; limit > 1500; limit -= 97 {
		body, left := fit(f, limit)
		if len(body) > limit && len(left) < len(f.sections()) {
			t.Fatalf("%d bytes, the limit is %d", len(body), limit)
		}
		if (len(left) == 0) != (body == whole) {
			t.Fatalf("at %d bytes %d sections are left out", limit, len(left))
		}
	}
}

func TestAnOverflowThatIsTooLongSaysSo(t *testing.T) {
	n := benign()
	for i := range 9000 {
		n.labels = append(n.labels, fmt.Sprintf("Label-%05d", i))
	}
	rest := Overflow(factsOf(n))
	if len(rest) > 1<<20 || !strings.Contains(rest, "There is no more room here either; left out: ") {
		t.Errorf("%d bytes", len(rest))
	}
}
