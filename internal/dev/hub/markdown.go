package hub

import (
	"bytes"
	"fmt"
	"html/template"
	"regexp"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"
)

// markdown renders comments and summaries as GitHub does: its flavour of
// Markdown, HTML inside it, and then only the elements that are harmless.
type markdown struct {
	parser goldmark.Markdown
	policy *bluemonday.Policy
}

func newMarkdown() markdown {
	policy := bluemonday.UGCPolicy()
	policy.AllowAttrs("class").Matching(regexp.MustCompile(`^language-[a-zA-Z0-9_+-]+$`)).OnElements("code")
	policy.AllowAttrs("open").OnElements("details")
	policy.AllowAttrs("align").Matching(regexp.MustCompile(`^(left|right|center)$`)).OnElements("td", "th", "p", "div")
	policy.AllowAttrs("style").Matching(regexp.MustCompile(`^text-align:(left|right|center)$`)).OnElements("td", "th")
	policy.AllowAttrs("type").Matching(regexp.MustCompile(`^checkbox$`)).OnElements("input")
	policy.AllowAttrs("checked", "disabled").OnElements("input")
	policy.AllowElements("picture", "source")
	return markdown{
		parser: goldmark.New(goldmark.WithExtensions(extension.GFM, extension.Footnote), goldmark.WithRendererOptions(html.WithUnsafe())),
		policy: policy,
	}
}

// render gives HTML that may stand in a page.
func (md markdown) render(text string) (template.HTML, error) {
	var out bytes.Buffer
	if err := md.parser.Convert([]byte(text), &out); err != nil {
		return "", fmt.Errorf("markdown: %w", err)
	}
	return template.HTML(md.policy.SanitizeBytes(out.Bytes())), nil
}
