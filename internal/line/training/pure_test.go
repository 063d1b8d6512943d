package training

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"
)

func TestConfigRefusesWhatItCannotKeep(t *testing.T) {
	good := Config{Command: []string{"train"}}
	must(t, good.Validate())
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no command", func(c *Config) { c.Command = nil }, "command"},
		{"a credential let through", func(c *Config) { c.Env = []string{"AWS_SECRET_ACCESS_KEY"} }, "AWS_SECRET_ACCESS_KEY"},
		{"a token of penstock let through", func(c *Config) { c.Env = []string{"PENSTOCK_ADMIN_TOKEN"} }, "PENSTOCK_ADMIN_TOKEN"},
		{"no name of a variable", func(c *Config) { c.Env = []string{"A=B"} }, "A=B"},
		{"a negative time", func(c *Config) { c.Timeout = -time.Second }, "timeout"},
		{"a tolerance beyond a score", func(c *Config) { c.Tolerance = 2 }, "tolerance"},
		{"a tolerance that is no number", func(c *Config) { c.Tolerance = math.NaN() }, "tolerance"},
		{"too many goldens", func(c *Config) { c.Goldens = 1000 }, "goldens"},
		{"an unknown activation", func(c *Config) { c.Graph.Activation = "tanh" }, "tanh"},
		{"params that JSON lacks", func(c *Config) { c.Params = map[string]any{"lr": math.Inf(1)} }, "params"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := good
			c.change(&config)
			if err := config.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v does not name %q", err, c.want)
			}
		})
	}
}

func TestRelayKeepsLinesWholeAndMemorySmall(t *testing.T) {
	var people, log bytes.Buffer
	r := &relay{people: &people, log: &log}
	for _, part := range []string{"one\ntw", "o\n", strings.Repeat("x", 3*maxLine), "\nlast"} {
		if n, err := r.Write([]byte(part)); err != nil || n != len(part) {
			t.Fatalf("%d, %v", n, err)
		}
	}
	must(t, r.Close())
	if want := "one\ntwo\n" + strings.Repeat("x", 3*maxLine) + "\nlast\n"; people.String() != want || log.String() != want {
		t.Errorf("people read %d bytes, the log has %d, want %d", people.Len(), log.Len(), len(want))
	}
	if tail := r.tail(); !strings.HasPrefix(tail, "one\ntwo\n") || !strings.HasSuffix(tail, "\nlast") {
		t.Errorf("the last lines are %.40q …", tail)
	}
}

func TestCPUAndMemoryAreReadFromTheKernel(t *testing.T) {
	before, ok := parseCPU("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 1 1 1\n")
	now, ok2 := parseCPU("cpu  150 0 150 800 100 0 0 0 0 0\n")
	if !ok || !ok2 {
		t.Fatal("the kernel's line was not understood")
	}
	if busy, ok := before.busyUntil(now); !ok || busy != 50 {
		t.Errorf("busy %v, want 50 percent", busy)
	}
	if _, ok := now.busyUntil(now); ok {
		t.Error("no time passed, and a share came out")
	}
	if _, ok := parseCPU("nonsense"); ok {
		t.Error("nonsense was understood")
	}
	used, total, ok := parseMemory("MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    250 kB\n")
	if !ok || used != 750*1024 || total != 1000*1024 {
		t.Errorf("used %v of %v, %v", used, total, ok)
	}
	if _, _, ok := parseMemory("MemTotal: 1000 kB\n"); ok {
		t.Error("absence was taken for a number")
	}
}

func TestGPUsCarryMLflowsNames(t *testing.T) {
	seen, err := parseGPUs([]byte("0, 87, 1000, 80000, 312.5\n1, [N/A], 0, 80000, [N/A]\n"))
	must(t, err)
	want := map[string]float64{
		"system/gpu_0_utilization_percentage": 87, "system/gpu_0_memory_usage_megabytes": 1048.576,
		"system/gpu_0_memory_usage_percentage": 1.25, "system/gpu_0_power_usage_watts": 312.5,
		"system/gpu_1_memory_usage_megabytes": 0, "system/gpu_1_memory_usage_percentage": 0,
	}
	if len(seen) != len(want) {
		t.Errorf("%v, want %v", seen, want)
	}
	for name, value := range want {
		if seen[name] != value {
			t.Errorf("%s is %v, want %v", name, seen[name], value)
		}
	}
	if _, err := parseGPUs([]byte("No devices were found\n")); err == nil {
		t.Error("a message was read as a table")
	}
}
