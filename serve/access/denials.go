package access

import (
	"log/slog"
	"sync"
	"time"
)

// tellTerm is how often at most the log says that somebody was turned away:
// whoever guesses tokens must not fill the disk.
const tellTerm = 10 * time.Second

// Denials tells the log of those who are turned away. It says how many, and
// nothing of what they sent.
type Denials struct {
	log *slog.Logger

	mu    sync.Mutex
	told  time.Time
	count int // since then
}

// NewDenials makes it.
func NewDenials(log *slog.Logger) *Denials { return &Denials{log: log} }

// Add adds one.
func (d *Denials) Add() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	if now := time.Now(); now.Sub(d.told) >= tellTerm {
		d.log.Warn("turned away for want of a valid token", "requests", d.count)
		d.told, d.count = now, 0
	}
}
