package demo

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
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

// read gives the counts so far. Before the first report there are none.
func (t *traffic) read() (Requests, error) {
	data, err := os.ReadFile(t.report)
	if os.IsNotExist(err) {
		return Requests{ByDigest: map[string]int{}}, nil
	}
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
