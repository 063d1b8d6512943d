package trigger

import (
	"fmt"
	"regexp"
	"strings"
)

// Glob is a list of GitHub's filter patterns. A later pattern overrides an
// earlier one: "!x" takes back what "*" gave, and another "x" gives it again.
type Glob []pattern

type pattern struct {
	negative bool
	match    *regexp.Regexp
}

// NewGlob reads filter patterns: * is all but /, ** is all, ? and + repeat what
// stands before them, [] is a set of characters, \ takes a character as it is,
// ! at the start negates.
func NewGlob(patterns []string) (Glob, error) {
	var g Glob
	for _, text := range patterns {
		p := pattern{}
		rest := text
		if after, ok := strings.CutPrefix(text, "!"); ok {
			p.negative, rest = true, after
		}
		expr, err := translate(rest)
		if err == nil {
			p.match, err = regexp.Compile(`\A(?s:` + expr + `)\z`)
		}
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", text, err)
		}
		g = append(g, p)
	}
	return g, nil
}

// Match says whether the last pattern that knows the name is a positive one.
func (g Glob) Match(name string) bool {
	matched := false
	for _, p := range g {
		if p.match.MatchString(name) {
			matched = !p.negative
		}
	}
	return matched
}

// translate makes a regular expression of a pattern.
func translate(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); {
		rest := text[i:]
		switch {
		case strings.HasPrefix(rest, "**/") && (i == 0 || text[i-1] == '/'):
			b.WriteString(`(?:.*/)?`)
			i += 3
		case strings.HasPrefix(rest, "**"):
			b.WriteString(`.*`)
			i += 2
		case rest[0] == '*':
			b.WriteString(`[^/]*`)
			i++
		case rest[0] == '?' || rest[0] == '+':
			if i == 0 {
				return "", fmt.Errorf("%c repeats nothing", rest[0])
			}
			b.WriteByte(rest[0])
			i++
		case rest[0] == '[':
			end := strings.IndexByte(rest, ']')
			if end < 2 {
				return "", fmt.Errorf("a set of characters has no end, or is empty")
			}
			b.WriteString(strings.ReplaceAll(rest[:end+1], `\`, `\\`))
			i += end + 1
		case rest[0] == '\\' && len(rest) > 1:
			b.WriteString(regexp.QuoteMeta(rest[1:2]))
			i += 2
		default:
			b.WriteString(regexp.QuoteMeta(rest[:1]))
			i++
		}
	}
	return b.String(), nil
}
