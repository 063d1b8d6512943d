package training

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Metrics of the machine carry the names that MLflow's own client uses, so its
// charts know them.
const (
	observeEvery = 10 * time.Second
	gpuTimeout   = 5 * time.Second
)

// observe logs the machine's metrics until ctx ends, the first ones at once.
// The step is the number of the observation.
func observe(ctx context.Context, metrics *logger, now func() time.Time) {
	before, _ := readCPU()
	t := time.NewTicker(observeEvery)
	defer t.Stop()
	for step := int64(0); ; step++ {
		for name, value := range look(ctx, &before) {
			metrics.add(Metric{name, value, step, now()})
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// look gives what can be seen now. A source that is not there, such as a GPU's,
// adds nothing: absence is no zero.
func look(ctx context.Context, before *cpuTimes) map[string]float64 {
	seen := map[string]float64{}
	if now, ok := readCPU(); ok {
		if busy, ok := before.busyUntil(now); ok {
			seen["system/cpu_utilization_percentage"] = busy
		}
		*before = now
	}
	if used, total, ok := readMemory(); ok {
		seen["system/system_memory_usage_megabytes"] = used / 1e6
		seen["system/system_memory_usage_percentage"] = 100 * used / total
	}
	for name, value := range readGPUs(ctx) {
		seen[name] = value
	}
	return seen
}

// cpuTimes are the kernel's ticks since it started.
type cpuTimes struct{ busy, all float64 }

// busyUntil is the busy share between two readings, in percent.
func (b cpuTimes) busyUntil(now cpuTimes) (percent float64, ok bool) {
	if now.all <= b.all {
		return 0, false
	}
	return 100 * (now.busy - b.busy) / (now.all - b.all), true
}

// parseCPU reads the first line of /proc/stat: user nice system idle iowait …
func parseCPU(text string) (cpuTimes, bool) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[0] != "cpu" {
		return cpuTimes{}, false
	}
	var t cpuTimes
	for i, f := range fields[1:min(len(fields), 9)] {
		ticks, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return cpuTimes{}, false
		}
		t.all += ticks
		if i != 3 && i != 4 { // idle and waiting for disks
			t.busy += ticks
		}
	}
	return t, true
}

// parseMemory reads /proc/meminfo, in bytes.
func parseMemory(text string) (used, total float64, ok bool) {
	value := func(key string) (float64, bool) {
		for line := range strings.Lines(text) {
			if rest, found := strings.CutPrefix(line, key+":"); found {
				kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
				return kb * 1024, err == nil
			}
		}
		return 0, false
	}
	total, ok = value("MemTotal")
	free, freeOK := value("MemAvailable")
	return total - free, total, ok && freeOK && total > 0
}

// readGPUs asks nvidia-smi, where there is one.
func readGPUs(ctx context.Context) map[string]float64 {
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, gpuTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--query-gpu=index,utilization.gpu,memory.used,memory.total,power.draw", "--format=csv,noheader,nounits").Output()
	if err != nil {
		return nil
	}
	seen, err := parseGPUs(out)
	if err != nil {
		return nil
	}
	return seen
}

var errGPU = errors.New("nvidia-smi's answer cannot be understood")

// parseGPUs reads nvidia-smi's table: index, percent, MiB, MiB, watts. A field
// that a device does not have ("[N/A]") is left out.
func parseGPUs(table []byte) (map[string]float64, error) {
	r := csv.NewReader(bytes.NewReader(table))
	r.TrimLeadingSpace, r.FieldsPerRecord = true, 5
	records, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGPU, err)
	}
	const mebi = 1048576.0 / 1e6
	seen := map[string]float64{}
	for _, rec := range records {
		index, err := strconv.Atoi(rec[0])
		if err != nil {
			return nil, fmt.Errorf("%w: device %q", errGPU, rec[0])
		}
		value := func(i int) (float64, bool) {
			v, err := strconv.ParseFloat(rec[i], 64)
			return v, err == nil
		}
		name := func(what string) string { return fmt.Sprintf("system/gpu_%d_%s", index, what) }
		if v, ok := value(1); ok {
			seen[name("utilization_percentage")] = v
		}
		used, usedOK := value(2)
		total, totalOK := value(3)
		if usedOK {
			seen[name("memory_usage_megabytes")] = used * mebi
		}
		if usedOK && totalOK && total > 0 {
			seen[name("memory_usage_percentage")] = 100 * used / total
		}
		if v, ok := value(4); ok {
			seen[name("power_usage_watts")] = v
		}
	}
	return seen, nil
}
