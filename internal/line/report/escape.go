package report

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Longest texts, in runes. What is longer ends in an ellipsis.
const (
	maxName  = 200
	maxProse = 1_200
)

// code shows a name that came from data. GitHub looks for mentions, addresses,
// issue numbers, commits, links, emoji and formulas everywhere but in code, and
// within a code span only a backtick ends it, in a table also a bar, and a
// backslash before a bar is read differently by every renderer. These three are
// shown by their look-alikes; so is the beginning of an HTML comment, for those
// who look for markers without reading Markdown.
func code(s string) string {
	s = clean(s, maxName)
	if s == "" {
		s = "(empty)"
	}
	return "`" + strings.NewReplacer("`", "\u02CB", "|", "\u00A6", "\\", "\u2216", "<!--", "\u2039!--").Replace(s) + "`"
}

// prose shows text that holds words from data, inside a line (never at its
// start, where a number and a dot would be a list). Words that GitHub could
// bring to life are shown as code; in the others, punctuation that means
// something in Markdown or HTML is written as numeric entities.
func prose(s string) string {
	words := strings.Fields(clean(s, maxProse))
	for i, w := range words {
		if alive(w) {
			bare := strings.TrimRight(w, `,.;`)
			words[i] = code(bare) + w[len(bare):]
		} else {
			words[i] = entities(w, `,;()%'".:=+?!-/`)
		}
	}
	return strings.Join(words, " ")
}

// live are words that GitHub or a Markdown renderer turns into more than text:
// mentions, issue numbers, formulas, links, emoji, commits.
var live = regexp.MustCompile("(?i)[@#$`\\\\]|//|www\\.|:.*:|gh-[0-9]|\\b[0-9a-f]{7,40}\\b")

func alive(word string) bool { return live.MatchString(word) }

// entities writes every ASCII punctuation character that is not in plain as a
// numeric entity.
func entities(s, plain string) string {
	var b strings.Builder
	for _, r := range s {
		if r < utf8.RuneSelf && !isAlphanumeric(r) && r != ' ' && !strings.ContainsRune(plain, r) {
			fmt.Fprintf(&b, "&#%d;", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isAlphanumeric(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// clean makes one printable line of at most limit runes: no control character,
// no line end, no invisible or direction-changing character, no broken UTF-8.
func clean(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.Is(unicode.Cf, r):
			return -1
		}
		return ' '
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > limit {
		s = string(runes[:limit-1]) + "…"
	}
	return s
}

// chartText is what of a name may stand between quotes in a Mermaid chart:
// letters, digits, spaces and a few signs. Quotes would end the string, %% is
// a comment or a directive, # and ; write entities, backticks Markdown.
func chartText(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(" _-.()+", r) {
			return r
		}
		return '.'
	}, clean(s, limit))
	if s == "" {
		return "."
	}
	return s
}

// link links text to a web address. An address that is none, or that carries a
// password, leaves the text alone.
func link(text, address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return code(text)
	}
	return "[" + code(text) + "](" + destination(u.String()) + ")"
}

// destination percent-encodes what could end a link.
func destination(address string) string {
	var b strings.Builder
	for _, c := range []byte(address) {
		if c < utf8.RuneSelf && (isAlphanumeric(rune(c)) || strings.IndexByte("/.:?#&=%+-_~,;", c) >= 0) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// short abbreviates a digest as people know it from git.
func short(digest string) string {
	if len(digest) > 12 && strings.Trim(digest, "0123456789abcdef") == "" {
		return digest[:12]
	}
	return digest
}
