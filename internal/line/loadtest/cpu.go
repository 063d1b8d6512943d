//go:build unix

package loadtest

import (
	"fmt"
	"runtime"
	"syscall"
	"time"
)

// cpuClock measures how much of the cores this process used.
type cpuClock struct {
	used time.Duration
	at   time.Time
}

func startCPU() (cpuClock, error) {
	used, err := cpuUsed()
	return cpuClock{used, time.Now()}, err
}

// share is the part of the available cores that was used since the start, from
// 0 to 1.
func (c cpuClock) share() (float64, error) {
	used, err := cpuUsed()
	if err != nil {
		return 0, err
	}
	available := time.Since(c.at).Seconds() * float64(runtime.GOMAXPROCS(0))
	return (used - c.used).Seconds() / available, nil
}

func cpuUsed() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("measure the CPU that the load generator uses: %w", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
