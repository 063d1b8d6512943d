package trigger

import (
	"strings"
	"testing"
)

// The rows are those of GitHub's "filter pattern cheat sheet", and what follows
// from its text.
func TestGlobMatchesAsGitHubsCheatSheetSays(t *testing.T) {
	for _, c := range []struct{ patterns, yes, no string }{
		{"feature/*", "feature/my-branch feature/your-branch", "feature/beta-a/my-branch feature"},
		{"feature/**", "feature/beta-a/my-branch feature/your-branch feature/mona/the/octocat", "features/x"},
		{"main releases/mona-the-octocat", "main releases/mona-the-octocat", "releases/x mainx"},
		{"*", "main releases", "all/the/branches"},
		{"**", "all/the/branches every/tag main", ""},
		{"*feature", "mona-feature feature ver-10-feature", "feature/x"},
		{"v2*", "v2 v2.0 v2.9", "v1 xv2"},
		{"v[12].[0-9]+.[0-9]+", "v1.10.1 v2.0.0", "v3.0.0 v1.0"},
		{"*.jsx?", "page.js page.jsx", "page.jsxx a/page.js"},
		{"**.js", "index.js js/index.js src/js/app.js", "index.ts"},
		{"docs/*", "docs/README.md docs/file.txt", "docs/a/b.md"},
		{"docs/**", "docs/README.md docs/mona/octocat.txt", "src/docs/x"},
		{"docs/**/*.md", "docs/README.md docs/mona/hello-world.md docs/a/markdown/file.md", "docs/a.txt"},
		{"**/docs/**", "docs/hello.md dir/docs/my-file.txt space/docs/plan/space.doc", "docsx/a"},
		{"**/README.md", "README.md js/README.md", "README.mdx"},
		{"**/*src/**", "a/src/app.js my-src/code/js/app.js", "src"},
		{"**/*-post.md", "my-post.md path/their-post.md", "post.md"},
		{"**/migrate-*.sql", "migrate-10909.sql db/migrate-v1.0.sql db/sept/migrate-v1.sql", "migrate.sql"},
		{"*.md !README.md", "hello.md", "README.md docs/hello.md"},
		{"*.md !README.md README*", "hello.md README.md README.doc", "docs/hello.md"},
		{"!main", "", "main other"},
		{"release/** !release/**-alpha", "release/2 release/beta/3-gamma", "release/10-alpha release/beta/3-alpha"},
		{`a\*b \!x`, "a*b !x", "aab x"},
		{"a.b", "a.b", "axb"},
		{"colou?r", "color colour", "colouur"},
	} {
		g, err := NewGlob(strings.Fields(c.patterns))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range strings.Fields(c.yes) {
			if !g.Match(name) {
				t.Errorf("%q does not match %s", c.patterns, name)
			}
		}
		for _, name := range strings.Fields(c.no) {
			if g.Match(name) {
				t.Errorf("%q matches %s", c.patterns, name)
			}
		}
	}
}

func TestGlobRefusesPatternsThatGitHubRefuses(t *testing.T) {
	for _, p := range []string{"?x", "+x", "[", "[]", "a[z-a]"} {
		if _, err := NewGlob([]string{p}); err == nil {
			t.Errorf("%q is taken", p)
		}
	}
}
