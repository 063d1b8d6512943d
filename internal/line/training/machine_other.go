//go:build !linux

package training

// Elsewhere than on Linux the machine's metrics are not logged.
func readCPU() (cpuTimes, bool) { return cpuTimes{}, false }

func readMemory() (used, total float64, ok bool) { return 0, 0, false }
