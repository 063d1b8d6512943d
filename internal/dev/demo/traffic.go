package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Live traffic: requests a second, and users behind them.
const (
	liveRate  = 60
	liveUsers = 20000
)

// traffic is a running `penstock send-live` and what it last reported.
type traffic struct {
	program *resident
	report  string
}

// startTraffic plays users with the images of a folder until stopped.
func (d *demo) startTraffic(name, images string) (*traffic, error) {
	report := filepath.Join(d.Dir, name+".json")
	p, err := d.programs.start("penstock", name, "send-live",
		"--url", d.stack.Endpoints.Production, "--images", images, "--report", report,
		"--rate", fmt.Sprint(liveRate), "--users", fmt.Sprint(liveUsers), "--seed", "7", "--duration", "30m")
	if err != nil {
		return nil, err
	}
	return &traffic{program: p, report: report}, nil
}

// freshLimit is how long a report may take to be rewritten; send-live does so
// every second.
const freshLimit = 15 * time.Second

// now gives the counts as of this moment: it waits for a report that is younger
// than the call.
func (t *traffic) now(ctx context.Context) (Requests, error) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, freshLimit)
	defer cancel()
	for {
		info, err := os.Stat(t.report)
		if err == nil && info.ModTime().After(asked) {
			return t.read()
		}
		if err != nil && !os.IsNotExist(err) {
			return Requests{}, err
		}
		select {
		case <-ctx.Done():
			return Requests{}, fmt.Errorf("the live traffic wrote no report within %s: %w (log: %s)", freshLimit, ctx.Err(), t.program.log.Name())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (t *traffic) read() (Requests, error) {
	data, err := os.ReadFile(t.report)
	if err != nil {
		return Requests{}, err
	}
	var r Requests
	if err := json.Unmarshal(data, &r); err != nil {
		return Requests{}, fmt.Errorf("report of the live traffic %s: %w", t.report, err)
	}
	return r, nil
}

// stop ends the traffic and gives its final counts.
func (t *traffic) stop() (Requests, error) {
	if err := t.program.stop(); err != nil {
		return Requests{}, fmt.Errorf("live traffic: %w", err)
	}
	return t.read()
}
