package main

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
)

func TestALogThatNobodyReadsKeepsNoRequestWaiting(t *testing.T) {
	w := newWorld(t)
	s := w.serve(t.TempDir())
	s.load(w, bundletest.Mean)
	picture := bundletest.Picture(t, 9, 9, 9)
	release := s.log.Hold()
	defer release()
	for i := range 5000 { // the pipe and what waits hold some 3,500 lines
		if code, body := s.predict(picture); code != 200 {
			t.Fatalf("request %d: %d %s", i, code, body)
		}
	}
	lost := s.lostLines()
	if lost == 0 {
		t.Fatal("no line counts as lost")
	}
	release()
	s.await("the log says how many lines were lost", func() bool { return strings.Contains(s.log.String(), "lines of the log were lost") })
	told := regexp.MustCompile(`msg="lines of the log were lost: nobody took them" lines=(\d+)`).FindStringSubmatch(s.log.String())
	if n, err := strconv.Atoi(told[1]); err != nil || n != lost {
		t.Errorf("told of %s lines, counted %d", told[1], lost)
	}
}

// lostLines is how many lines of the log count as lost.
func (s *server) lostLines() int {
	s.t.Helper()
	_, metrics := s.do("GET", s.admin+"/metrics", nil)
	found := regexp.MustCompile(`(?m)^penstock_log_lines_lost_total\{slot="canary"\} (\d+)$`).FindSubmatch(metrics)
	if found == nil {
		s.t.Fatal("lost lines are not counted")
	}
	n, err := strconv.Atoi(string(found[1]))
	must(s.t, err)
	return n
}

func TestAServerOutlivesTheReaderOfItsLog(t *testing.T) {
	w := newWorld(t)
	reader, writer, err := os.Pipe()
	must(t, err)
	w.log = writer
	s := w.serve(t.TempDir())
	must(t, writer.Close()) // the server's own is left
	s.load(w, bundletest.Mean)
	must(t, reader.Close())
	for i := range 3 {
		if code, body, err := s.try("POST", s.public+"/v1/models/test/predict", bundletest.Picture(t, 9, 9, 9)); err != nil || code != 200 {
			t.Fatalf("request %d: %d %s %v", i, code, body, err)
		}
		// the line is written in the background
		s.await("the line counts as lost", func() bool { return s.lostLines() > i })
	}
}
