package training

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"strings"
	"sync"
)

// lastLines is how many lines of the trainer an error shows.
const lastLines = 12

const maxLine = 16 << 10 // bytes; a progress bar without line breaks must not fill the memory

// relay hands the trainer's output on, line by line: to people, to the log, and
// to the short memory that an error shows. Standard output and standard error
// of the trainer both end here.
type relay struct {
	mu      sync.Mutex
	people  io.Writer
	log     io.Writer
	pending []byte
	last    []string
	err     error // the first failure to write the log
}

func (r *relay) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = append(r.pending, p...)
	for {
		at := bytes.IndexByte(r.pending, '\n')
		if at < 0 && len(r.pending) < maxLine {
			return len(p), nil
		}
		if at < 0 {
			at = len(r.pending) - 1
		}
		r.line(r.pending[:at+1])
		r.pending = r.pending[at+1:]
	}
}

// Close hands on a last line without a line break. It returns what kept the
// log from being written.
func (r *relay) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) > 0 {
		r.line(append(r.pending, '\n'))
		r.pending = nil
	}
	return r.err
}

func (r *relay) line(line []byte) {
	if _, err := r.log.Write(line); err != nil && r.err == nil {
		r.err = fmt.Errorf("write the trainer's log: %w", err)
	}
	if _, err := r.people.Write(line); err != nil {
		r.people = io.Discard // nobody reads any more; the log goes on
	}
	text := strings.TrimRight(string(line), "\r\n")
	if text == "" {
		return
	}
	if len(r.last) == lastLines {
		r.last = r.last[1:]
	}
	r.last = append(r.last, text)
}

// tail is the end of what the trainer said.
func (r *relay) tail() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.last, "\n")
}

// muteCommands keeps GitHub Actions from obeying workflow commands between the
// returned texts: a trainer's output is data. The token is random, because a
// known one could be spoken by the trainer.
func muteCommands() (begin, end string) {
	token := rand.Text()
	return "::stop-commands::" + token + "\n", "::" + token + "::\n"
}
