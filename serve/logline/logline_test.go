package logline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/logtest"
)

// reader takes nothing until it is let go, and may fail.
type reader struct {
	logtest.Buffer
	gate chan struct{} // closed: it goes on
	fail func() error
}

func (r *reader) Write(p []byte) (int, error) {
	<-r.gate
	if r.fail != nil {
		if err := r.fail(); err != nil {
			return 0, err
		}
	}
	return r.Buffer.Write(p)
}

func going() *reader {
	r := &reader{gate: make(chan struct{})}
	close(r.gate)
	return r
}

func closed(t *testing.T, w *Writer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := w.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// await polls until ok, for half a minute.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%s never came", what)
		}
	}
}

func TestLinesOfManyComeWholeAndInTheirOrder(t *testing.T) {
	out := going()
	w := New(out)
	log := slog.New(slog.NewTextHandler(w, nil))
	var all sync.WaitGroup
	for who := range 8 {
		all.Go(func() {
			for i := range 500 {
				log.Info("request", "who", who, "i", i)
			}
		})
	}
	all.Wait()
	closed(t, w)
	lines := regexp.MustCompile(`(?m)^time=\S+ level=INFO msg=request who=(\d) i=(\d+)$`).FindAllStringSubmatch(out.String(), -1)
	next := map[string]int{}
	for _, l := range lines {
		if l[2] != strconv.Itoa(next[l[1]]) {
			t.Fatalf("line %s of %s came when %d was next", l[2], l[1], next[l[1]])
		}
		next[l[1]]++
	}
	if len(lines) != 8*500 || strings.Count(out.String(), "\n") != len(lines) || w.Lost() != 0 {
		t.Errorf("%d whole lines of %d, %d lost", len(lines), strings.Count(out.String(), "\n"), w.Lost())
	}
}

func TestALineIsThereSoonWithoutAnother(t *testing.T) {
	out := going()
	w := New(out)
	defer closed(t, w)
	fmt.Fprintln(w, "alone")
	await(t, "the line", func() bool { return out.String() == "alone\n" })
}

func TestWhoeverLogsDoesNotWaitForTheReader(t *testing.T) {
	out := &reader{gate: make(chan struct{})}
	w := New(out)
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range 3 * most / len(line) {
		if n, err := w.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	lost := w.Lost()
	if lost < most/int64(len(line)) {
		t.Errorf("%d lines were lost: more than the bound waits", lost)
	}
	close(out.gate)
	await(t, "word of the loss", func() bool { return strings.Contains(out.String(), "msg=\"lines of the log were lost") })
	closed(t, w)
	if kept := strings.Count(out.String(), "x\n"); int64(kept)+lost != 3*most/int64(len(line)) || !strings.Contains(out.String(), fmt.Sprintf("lines=%d\n", lost)) {
		t.Errorf("%d kept, %d lost; told: %.200q", kept, lost, out.String()[len(out.String())-100:])
	}
}

func TestCloseGivesUpAReaderThatIsStuck(t *testing.T) {
	out := &reader{gate: make(chan struct{})}
	defer close(out.gate)
	w := New(out)
	fmt.Fprintln(w, "never read")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	for range 2 {
		if err := w.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
	fmt.Fprintln(w, "after the end")
	if w.Lost() != 1 {
		t.Errorf("%d lost, want the one after the end", w.Lost())
	}
}

func TestWhatCannotBeWrittenIsCountedAndToldLater(t *testing.T) {
	full := 2
	out := going()
	out.fail = func() error {
		if full--; full >= 0 {
			return errors.New("no space left on the device")
		}
		return nil
	}
	w := New(out)
	for i := range 3 {
		fmt.Fprintf(w, "line %d\n", i)
		await(t, "the line or its loss", func() bool { return w.Lost() > int64(i) || out.String() != "" })
	}
	closed(t, w)
	if got := out.String(); !strings.HasPrefix(got, "line 2\n") || !strings.Contains(got, "lines=2\n") || w.Lost() != 2 {
		t.Errorf("%d lost: %q", w.Lost(), got)
	}
}

// writes counts them.
type writes struct{ atomic.Int64 }

func (w *writes) Write(p []byte) (int, error) {
	w.Add(1)
	return len(p), nil
}

func TestLinesThatComeSoonAfterAWriteAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &writes{}
		w := New(out)
		log := slog.New(slog.NewTextHandler(w, nil))
		log.Info("at once")
		if synctest.Wait(); out.Load() != 1 {
			t.Fatalf("%d writes of the first line", out.Load())
		}
		for range 100 {
			log.Info("soon")
			synctest.Wait()
		}
		if out.Load() != 1 {
			t.Fatalf("%d writes before the pause is over", out.Load())
		}
		time.Sleep(pause)
		if synctest.Wait(); out.Load() != 2 {
			t.Fatalf("%d writes of lines that came in one pause", out.Load())
		}
		time.Sleep(pause)
		log.Info("at once again")
		if synctest.Wait(); out.Load() != 3 {
			t.Fatalf("%d writes when a line came late", out.Load())
		}
		closed(t, w)
	})
}
