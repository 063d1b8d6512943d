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
	_, metrics := s.do("GET", s.admin+"/metrics", nil)
	lost := regexp.MustCompile(`(?m)^penstock_log_lines_lost_total\{slot="canary"\} ([1-9]\d*)$`).FindSubmatch(metrics)
	if lost == nil {
		t.Fatal("no line counts as lost")
	}
	release()
	s.await("the log says how many lines were lost", func() bool { return strings.Contains(s.log.String(), "lines of the log were lost") })
	told := regexp.MustCompile(`msg="lines of the log were lost: nobody took them" lines=(\d+)`).FindStringSubmatch(s.log.String())
	if n, err := strconv.Atoi(told[1]); err != nil || strconv.Itoa(n) != string(lost[1]) {
		t.Errorf("told of %s lines, counted %s", told[1], lost[1])
	}
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
		s.await("the line counts as lost", func() bool {
			_, metrics, err := s.try("GET", s.admin+"/metrics", nil)
			return err == nil && regexp.MustCompile(`(?m)^penstock_log_lines_lost_total\{slot="canary"\} [1-9]`).Match(metrics)
		})
	}
}
