package report

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// board is a pull request's comments in memory; it counts writes.
type board struct {
	comments []Comment
	writes   []string
	gone     int64
	fails    error
}

func (b *board) List(context.Context, int) ([]Comment, error) { return b.comments, nil }

func (b *board) Create(_ context.Context, _ int, body string) (Comment, error) {
	if b.fails != nil {
		return Comment{}, b.fails
	}
	c := Comment{ID: int64(100 + len(b.comments)), Body: body, Author: "bot"}
	b.comments = append(b.comments, c)
	b.writes = append(b.writes, "create")
	return c, nil
}

func (b *board) Update(_ context.Context, id int64, body string) (Comment, error) {
	b.writes = append(b.writes, fmt.Sprint("update ", id))
	if id == b.gone {
		return Comment{}, fmt.Errorf("%w: 404", ErrGone)
	}
	for i := range b.comments {
		if b.comments[i].ID == id {
			b.comments[i].Body = body
			return b.comments[i], nil
		}
	}
	return Comment{}, errors.New("no such comment")
}

func own(id int64, text string) Comment {
	return Comment{ID: id, Author: "bot", Body: text + "\n\n" + Marker("xray") + "\n"}
}

func TestTheCommentIsMarkedOwnAndVisible(t *testing.T) {
	stranger, hidden, foreign, quoted := own(1, "a"), own(2, "b"), own(3, "c"), own(4, "d")
	stranger.Author = "octocat"
	hidden.Minimized = true
	foreign.Body = strings.ReplaceAll(foreign.Body, "xray", "xray-2")
	quoted.Body = "> " + Marker("xray")
	crlf := own(5, "e")
	crlf.Body = strings.ReplaceAll(crlf.Body, "\n", "\r\n")
	b := &board{comments: []Comment{own(9, "younger"), stranger, hidden, foreign, quoted, crlf}}
	kept, outcome, others, err := Keep(t.Context(), b, "bot", "xray", 1, own(0, "new").Body)
	if err != nil || kept.ID != 5 || outcome != Updated || len(others) != 1 || others[0].ID != 9 || fmt.Sprint(b.writes) != "[update 5]" {
		t.Errorf("kept %d, %s, %d others, %v, writes %v", kept.ID, outcome, len(others), err, b.writes)
	}
	if len(Find(b.comments, "", "xray")) != 0 {
		t.Error("without a login a comment was taken for one's own")
	}
}

func TestTheSecondCallUpdatesAndTheThirdAsksForNothing(t *testing.T) {
	b := &board{}
	for i, want := range []string{Created, Updated, Unchanged} {
		body := own(0, []string{"one", "two", "two"}[i]).Body
		if _, outcome, _, err := Keep(t.Context(), b, "bot", "xray", 1, body); err != nil || outcome != want {
			t.Errorf("call %d: %s %v, want %s", i, outcome, err, want)
		}
	}
	b.comments[0].Body = strings.ReplaceAll(strings.TrimSpace(b.comments[0].Body), "\n", "\r\n") // as a server may store it
	if _, outcome, _, err := Keep(t.Context(), b, "bot", "xray", 1, own(0, "two").Body); err != nil || outcome != Unchanged {
		t.Errorf("%s %v", outcome, err)
	}
	if fmt.Sprint(b.writes) != "[create update 100]" {
		t.Errorf("writes %v", b.writes)
	}
}

func TestACommentDeletedMeanwhileIsWrittenAnew(t *testing.T) {
	b := &board{comments: []Comment{own(7, "old")}, gone: 7}
	kept, outcome, _, err := Keep(t.Context(), b, "bot", "xray", 1, own(0, "new").Body)
	if err != nil || outcome != Created || kept.ID == 7 {
		t.Errorf("%d %s %v", kept.ID, outcome, err)
	}
}

func TestKeepRefusesWhatItCouldNotFindAgain(t *testing.T) {
	b := &board{}
	if _, _, _, err := Keep(t.Context(), b, "", "xray", 1, own(0, "x").Body); err == nil {
		t.Error("without a login")
	}
	if _, _, _, err := Keep(t.Context(), b, "bot", "xray", 1, "x "+Marker("xray")); err == nil {
		t.Error("without a marker line")
	}
	b.fails = errors.New("403")
	if _, _, _, err := Keep(t.Context(), b, "bot", "xray", 1, own(0, "x").Body); !errors.Is(err, b.fails) || len(b.writes) != 0 {
		t.Errorf("%v %v", err, b.writes)
	}
}

func TestAMarkerStaysAMarkerWhateverTheProjectsName(t *testing.T) {
	if got := Marker("x --> <b>\n"); got != "<!-- penstock:x_--___b__ -->" {
		t.Error(got)
	}
}
