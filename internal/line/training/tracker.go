package training

import (
	"context"
	"sync"
	"time"
)

// Metric is one measured value of a training.
type Metric struct {
	Key   string
	Value float64
	Step  int64
	Time  time.Time
}

// Tracker takes metrics while the training runs.
type Tracker interface {
	Log(ctx context.Context, metrics []Metric) error
}

const (
	flushEvery = 2 * time.Second
	keptMost   = 200_000 // metrics that wait for a tracker that does not answer
)

// logger gathers metrics and hands them on in batches. A tracker that does not
// answer for a while loses nothing: the batch stays for the next time.
type logger struct {
	tracker Tracker
	mu      sync.Mutex
	waiting []Metric
	dropped int
}

func (l *logger) add(m ...Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if room := keptMost - len(l.waiting); len(m) > room {
		l.dropped += len(m) - room
		m = m[:room]
	}
	l.waiting = append(l.waiting, m...)
}

func (l *logger) flush(ctx context.Context) error {
	l.mu.Lock()
	batch := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	err := l.tracker.Log(ctx, batch)
	if err != nil {
		l.mu.Lock()
		l.waiting = append(batch, l.waiting...)
		l.mu.Unlock()
	}
	return err
}

// run flushes until ctx ends. An error is told once for each row of failures.
func (l *logger) run(ctx context.Context, tell func(error)) {
	t := time.NewTicker(flushEvery)
	defer t.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			err := l.flush(ctx)
			if err != nil && !failing && ctx.Err() == nil {
				tell(err)
			}
			failing = err != nil
		}
	}
}
