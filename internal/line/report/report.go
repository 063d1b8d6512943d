// Package report writes what a run found out as the one comment on a pull
// request, and keeps that comment.
//
// Render is pure: equal Facts give equal bytes. The comment is cut at whole
// sections, never inside one; what is cut is given by Overflow, for the step
// summary. Everything in it that came from data, labels, branches, results or
// forks passes code, prose, chartText or link, and there is no other way in.
//
// The comment is found again by a marker that is invisible on the page, written
// by the same login, and not minimised (the rule of
// marocchino/sticky-pull-request-comment; matching without the author is a
// known way to overwrite other people's words). GitHub has no conditional
// create for comments: two calls at the same moment may make two. Every later
// call then updates the oldest and tells of the others.
//
// Refused: Markdown from another run. What crosses a trust boundary is an
// Artifact: Facts as JSON, decoded strictly and rendered here.
package report

import (
	"fmt"
	"strings"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// Limit is the greatest length of a comment in bytes. GitHub's own is 65,536
// characters.
const Limit = 60_000

// summaryLimit is the greatest length of an overflow in bytes; a step summary
// may have 1 MiB, and the result's own part comes on top.
const summaryLimit = 900_000

// Render gives the comment's body, at most Limit bytes, ending in the marker.
func Render(f Facts) string {
	body, _ := fit(f, Limit)
	return body
}

// Overflow gives the sections that Render left out, whole. It is empty where
// all of them found room.
func Overflow(f Facts) string {
	_, left := fit(f, Limit)
	if len(left) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "## %s: what did not fit into the comment\n\n", prose(f.Project))
	for i, s := range left {
		if b.Len()+len(s.text) > summaryLimit {
			fmt.Fprintf(&b, "\nThere is no more room here either; left out: %s. The report and the results in the bucket hold all of it.\n", titles(left[i:]))
			break
		}
		b.WriteString(s.text)
	}
	return b.String()
}

// Cut names the sections that Render left out.
func Cut(f Facts) []string {
	_, left := fit(f, Limit)
	names := make([]string, 0, len(left))
	for _, s := range left {
		names = append(names, strings.ReplaceAll(s.title, "`", ""))
	}
	return names
}

// section is a part of the comment that is shown whole or not at all. Its text
// ends in an empty line.
type section struct{ title, text string }

// fit joins head, as many sections as there is room for, in their order, and
// the foot.
func fit(f Facts, limit int) (body string, left []section) {
	head, foot := f.head(), f.foot()
	// The line that tells of a cut names every section at worst.
	room := limit - len(head) - len(foot) - len(cutLine(f.sections()))
	var b strings.Builder
	b.WriteString(head)
	for _, s := range f.sections() {
		if len(s.text) > room {
			left = append(left, s)
			continue
		}
		room -= len(s.text)
		b.WriteString(s.text)
	}
	if len(left) > 0 {
		b.WriteString(cutLine(left))
	}
	b.WriteString(foot)
	return b.String(), left
}

func cutLine(left []section) string {
	return fmt.Sprintf("*Cut for length: %s. The step summary of the run holds these sections whole.*\n\n", titles(left))
}

func titles(sections []section) string {
	names := make([]string, 0, len(sections))
	for _, s := range sections {
		names = append(names, s.title)
	}
	return strings.Join(names, ", ")
}

// head is the verdict in the first line, and what was judged.
func (f Facts) head() string {
	v, reason, by := f.Overall()
	var b strings.Builder
	says := string(v)
	if f.Unverified != "" {
		says = "not verified, says " + says
	}
	where := code(reason.Code)
	if by != "" {
		where = code(by) + ", " + where
	}
	fmt.Fprintf(&b, "%s **%s: %s** (%s): %s\n\n", f.sign(v), prose(f.Project), says, where, prose(reason.Text))
	if f.Unverified != "" {
		fmt.Fprintf(&b, "> What stands below was reported by another run and is not verified: %s.\n\n", prose(f.Unverified))
	}
	if about := f.about(); about != "" {
		b.WriteString(about + "\n\n")
	}
	return b.String()
}

func (f Facts) sign(v verdict.Verdict) string {
	if f.Unverified != "" {
		return "❔"
	}
	switch v {
	case verdict.Pass:
		return "✅"
	case verdict.Reject:
		return "❌"
	case verdict.Inconclusive:
		return "⚠️"
	}
	return "💥"
}

// about names what was judged by digest.
func (f Facts) about() string {
	var parts []string
	add := func(what, digest string) {
		if digest != "" {
			parts = append(parts, what+" "+code(short(digest)))
		}
	}
	add("commit", f.Commit)
	if r := f.Report; r != nil {
		add("candidate", r.Model)
		add("data set", r.Dataset)
		add("champion", r.Champion)
		if r.ChampionDataset != r.Dataset {
			add("the champion's data set", r.ChampionDataset)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.ToUpper(parts[0][:1]) + parts[0][1:] + suffix(parts[1:])
}

func suffix(parts []string) string {
	if len(parts) == 0 {
		return "."
	}
	return ", " + strings.Join(parts, ", ") + "."
}

// foot is the links and the marker.
func (f Facts) foot() string {
	var parts []string
	for _, l := range f.Links {
		parts = append(parts, prose(l.Name)+": "+link(l.Text, l.URL))
	}
	var b strings.Builder
	if len(parts) > 0 {
		b.WriteString(strings.Join(parts, " · ") + "\n\n")
	}
	b.WriteString(Marker(f.Project) + "\n")
	return b.String()
}
