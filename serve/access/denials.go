package access

import (
	"log/slog"
	"sync"
	"time"
)

// tellTerm is how often at most the log says that somebody was turned away:
// whoever guesses tokens must not fill the disk.
const tellTerm = 10 * time.Second

// Denials tells the log of those who are turned away for one reason. It says how
// many, and nothing of what they sent.
type Denials struct {
	log *slog.Logger
	why string

	mu    sync.Mutex
	told  time.Time
	count int // since then
}

// NoToken is the reason of those who have none that is valid.
const NoToken = "for want of a valid token"

// NewDenials makes it; why goes on after "turned away".
func NewDenials(log *slog.Logger, why string) *Denials { return &Denials{log: log, why: why} }

// Add adds one.
func (d *Denials) Add() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	if now := time.Now(); now.Sub(d.told) >= tellTerm {
		d.log.Warn("turned away "+d.why, "requests", d.count)
		d.told, d.count = now, 0
	}
}
