package model

import (
	"errors"
	"fmt"
	"slices"
)

// Profiles are the ways to share the CPUs out. On DenseNet-121 with 2 CPUs one
// thread a run and two callers gave 36 pictures a second, two threads and one
// caller 33, but the latter took 29 ms a picture instead of 55.
var Profiles = []string{Throughput, Latency}

const (
	Throughput = "throughput" // one thread a run, a caller for each CPU: most pictures a second
	Latency    = "latency"    // all CPUs for each run, one at a time: the shortest run
)

// plan is how the CPUs are shared out.
type plan struct {
	cpus, threads, callers int
	text                   string
}

// Validate refuses a profile, threads, a provider or a device that there cannot
// be. That the provider works, Start finds out.
func (o Options) Validate() error {
	_, err := planOf(o)
	_, other := providerOf(o)
	return errors.Join(err, other, o.Batch.Validate())
}

// planOf chooses threads and callers so that their product never exceeds the
// CPUs: beyond that, runs only take turns on them and every one gets slower.
func planOf(o Options) (plan, error) {
	found := "as told"
	if o.CPUs == 0 {
		var err error
		if o.CPUs, found, err = CPUs(); err != nil {
			return plan{}, err
		}
	}
	profile := o.Profile
	if profile == "" {
		profile = Throughput
	}
	if !slices.Contains(Profiles, profile) {
		return plan{}, fmt.Errorf("profile %q: want one of %q", profile, Profiles)
	}
	if o.Threads < 0 || o.Threads > o.CPUs {
		return plan{}, fmt.Errorf("%d threads a run: want 1 to %d, the CPUs of this process (%s), or 0 for the profile's", o.Threads, o.CPUs, found)
	}
	p := plan{cpus: o.CPUs, threads: o.Threads}
	why := "as told"
	switch {
	case o.Threads > 0:
	case profile == Latency:
		p.threads, why = o.CPUs, "profile latency: all CPUs for each run"
	default:
		p.threads, why = 1, "profile throughput: a run keeps to one CPU, so do several models"
	}
	p.callers = p.cpus / p.threads
	p.text = fmt.Sprintf("%d CPUs (%s); %d threads a run (%s) x %d runs at a time; a decode takes one CPU", p.cpus, found, p.threads, why, p.callers)
	return p, nil
}
