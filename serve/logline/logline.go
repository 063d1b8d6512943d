// Package logline owns the way of the log out of the process. Lines are
// gathered, and written in the background, several at a time: whoever logs never
// waits. Else every request would stand still when the disk does on which the
// log lies, or whoever reads it.
//
// Refused: lines beyond a bound, while nobody takes those before. They are
// lost and counted, and the log says how many as soon as it goes on. A process
// that is killed takes along the lines of its last milliseconds.
package logline

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// most is how many bytes wait at most: some thousand lines.
const most = 1 << 20

// pause is how long lines are gathered that come this soon after a write: a
// server at work would wake somebody for each line else, beside the request that
// made it.
const pause = time.Millisecond

// Writer is the output of a log's handler. It is safe for concurrent use.
type Writer struct {
	out  io.Writer
	wake chan struct{} // closed in the end
	done chan struct{}
	lost atomic.Int64

	mu      sync.Mutex
	waiting []byte
	closed  bool
}

// New makes a writer of whole lines in the text form of log/slog.
func New(out io.Writer) *Writer {
	w := &Writer{out: out, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// Write takes a line, or counts it as lost. It never waits and never fails.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.waiting)+len(line) > most {
		w.lost.Add(1)
		return len(line), nil
	}
	w.waiting = append(w.waiting, line...)
	select {
	case w.wake <- struct{}{}:
	default: // it is awake, and will look again
	}
	return len(line), nil
}

// Lost is how many lines were lost.
func (w *Writer) Lost() int64 { return w.lost.Load() }

// Close writes what waits, or gives it up when ctx ends. Lines that come later
// are lost.
func (w *Writer) Close(ctx context.Context) error {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.wake)
	}
	w.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("nobody takes the last lines of the log: %w", context.Cause(ctx))
	}
}

// run writes what waits, whenever there is something, until the writer is
// closed.
func (w *Writer) run() {
	defer close(w.done)
	own := slog.New(slog.NewTextHandler(w.out, nil))
	var lines []byte
	var told int64
	var wrote time.Time
	for open := true; open; {
		_, open = <-w.wake
		if open && time.Since(wrote) < pause {
			time.Sleep(pause)
		}
		if lines = w.take(lines); len(lines) == 0 {
			continue
		}
		_, err := w.out.Write(lines)
		wrote = time.Now()
		if err != nil {
			w.lost.Add(int64(bytes.Count(lines, []byte("\n"))))
		} else if lost := w.Lost(); lost > told {
			own.Warn("lines of the log were lost: nobody took them", "lines", lost-told)
			told = lost
		}
	}
}

// take gives all that waits, in exchange for room for what will.
func (w *Writer) take(room []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.waiting
	w.waiting = room[:0]
	return lines
}
