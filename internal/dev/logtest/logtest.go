// Package logtest owns a log that a test reads while others write it.
package logtest

import (
	"bytes"
	"sync"
)

// Buffer keeps what is written. It is safe for concurrent use, by goroutines
// and as the output of a process.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write adds to the log; it never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String is all that was written since the beginning or the last Reset.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Reset forgets what was written.
func (b *Buffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Reset()
}

// Hold keeps whoever writes waiting until release, which may be called again.
// Nothing can be read meanwhile either.
func (b *Buffer) Hold() (release func()) {
	b.mu.Lock()
	return sync.OnceFunc(b.mu.Unlock)
}
