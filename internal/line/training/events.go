package training

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"time"
)

// Event is one line of $PENSTOCK_EVENTS. Steps, optional, is how many steps
// the training will have: it makes progress a share. Other keys are ignored.
type Event struct {
	Step    int64              `json:"step"`
	Epoch   float64            `json:"epoch"`
	Steps   int64              `json:"steps"`
	Metrics map[string]float64 `json:"metrics"`
}

// ErrNotFinite means that a trainer reported NaN or an infinity.
var ErrNotFinite = errors.New("a metric is not a finite number")

// nonFinite finds what Python writes for numbers that JSON does not have.
var nonFinite = regexp.MustCompile(`"([^"]*)"\s*:\s*(-?Infinity|NaN)\b`)

// parseEvent reads a line.
func parseEvent(line []byte) (Event, error) {
	var e Event
	if m := nonFinite.FindSubmatch(line); m != nil {
		return e, fmt.Errorf("the trainer reported %s = %s: %w; lower the learning rate, or look for broken images", m[1], m[2], ErrNotFinite)
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return e, fmt.Errorf("the trainer wrote a line to $%s that is no event (%w): %.200q", EnvEvents, err, line)
	}
	return e, nil
}

// Names are the metrics' names in a stable order.
func (e Event) Names() []string { return slices.Sorted(maps.Keys(e.Metrics)) }

const maxEventLine = 1 << 20

// tail hands on every event of a file that another process appends to, until
// ctx ends; then it reads what is left and returns. A line counts when its
// line break is there.
func tail(ctx context.Context, path string, every time.Duration, see func(Event) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	var pending []byte
	drain := func() error {
		for {
			part, err := r.ReadBytes('\n')
			pending = append(pending, part...)
			if errors.Is(err, io.EOF) {
				if len(pending) > maxEventLine {
					return fmt.Errorf("a line of $%s is longer than %d bytes", EnvEvents, maxEventLine)
				}
				return nil
			}
			if err != nil {
				return fmt.Errorf("events: %w", err)
			}
			line := bytes.TrimSpace(pending)
			pending = nil
			if len(line) == 0 {
				continue
			}
			e, err := parseEvent(line)
			if err != nil {
				return err
			}
			if err := see(e); err != nil {
				return err
			}
		}
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return drain()
		case <-tick.C:
			if err := drain(); err != nil {
				return err
			}
		}
	}
}
