package model

import (
	"math"
	"strings"
	"testing"
	"testing/fstest"
)

// system is a file system with the given cgroup files.
func system(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
	return fsys
}

const (
	v2Mount = "25 20 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw"
	v1Mount = "30 25 0:27 / /sys/fs/cgroup/cpu rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
)

func TestQuotaIsTheSmallestOnTheWayUp(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		cpus  float64
		file  string
	}{
		"none": {map[string]string{}, 0, ""},
		"version 2, unlimited": {map[string]string{
			"proc/self/cgroup": "0::/a", "proc/self/mountinfo": v2Mount, "sys/fs/cgroup/a/cpu.max": "max 100000",
		}, 0, ""},
		"version 2, of the group above": {map[string]string{
			"proc/self/cgroup": "0::/a/b", "proc/self/mountinfo": v2Mount,
			"sys/fs/cgroup/a/b/cpu.max": "800000 100000", "sys/fs/cgroup/a/cpu.max": "150000 100000", "sys/fs/cgroup/cpu.max": "max 100000",
		}, 1.5, "/sys/fs/cgroup/a/cpu.max"},
		"version 2, a container's own root": {map[string]string{
			"proc/self/cgroup": "0::/", "proc/self/mountinfo": v2Mount, "sys/fs/cgroup/cpu.max": "50000 100000",
		}, 0.5, "/sys/fs/cgroup/cpu.max"},
		"version 2, a mount that shows a part": {map[string]string{
			"proc/self/cgroup": "0::/docker/x", "proc/self/mountinfo": strings.Replace(v2Mount, " / /sys", " /docker/x /sys", 1),
			"sys/fs/cgroup/cpu.max": "300000 100000",
		}, 3, "/sys/fs/cgroup/cpu.max"},
		"version 1": {map[string]string{
			"proc/self/cgroup": "9:name=systemd:/\n4:cpu,cpuacct:/a", "proc/self/mountinfo": v1Mount,
			"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "250000", "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
		}, 2.5, "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us"},
		"both, as in a hybrid": {map[string]string{
			"proc/self/cgroup": "4:cpu,cpuacct:/\n0::/", "proc/self/mountinfo": v1Mount + "\n" + v2Mount,
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
		}, 4, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"},
	} {
		got, err := readQuota(system(c.files))
		if err != nil || math.Abs(got.cpus-c.cpus) > 1e-9 || got.file != c.file {
			t.Errorf("%s: got %+v, %v; want %v by %q", name, got, err, c.cpus, c.file)
		}
	}
	_, err := readQuota(system(map[string]string{
		"proc/self/cgroup": "0::/", "proc/self/mountinfo": v2Mount, "sys/fs/cgroup/cpu.max": "many 100000",
	}))
	if err == nil || !strings.Contains(err.Error(), "cpu.max") {
		t.Errorf("got %v", err)
	}
}

func TestCPUsAreTheSmallestOfWhatIsAllowed(t *testing.T) {
	limited := func(quota string) fstest.MapFS {
		return system(map[string]string{"proc/self/cgroup": "0::/", "proc/self/mountinfo": v2Mount, "sys/fs/cgroup/cpu.max": quota + " 100000"})
	}
	for _, c := range []struct {
		quota, told string
		want        int
		text        string
	}{
		{"max", "", 8, "8 by affinity, no cgroup quota"},
		{"350000", "", 3, "quota of 3.50 by /sys/fs/cgroup/cpu.max"},
		{"50000", "", 1, "quota of 0.50"},
		{"2000000", "", 8, "quota of 20.00"},
		{"350000", "2", 2, "GOMAXPROCS 2"},
		{"what", "2", 2, "cannot be read"},
	} {
		n, found, err := countCPUs(limited(c.quota), 8, c.told)
		if err != nil || n != c.want || !strings.Contains(found, c.text) {
			t.Errorf("%+v: got %d, %q, %v", c, n, found, err)
		}
	}
	if _, _, err := countCPUs(limited("what"), 8, ""); err == nil || !strings.Contains(err.Error(), "GOMAXPROCS") {
		t.Errorf("got %v", err)
	}
}

func TestThisProcessHasCPUs(t *testing.T) {
	n, found, err := CPUs()
	if err != nil || n < 1 || !strings.Contains(found, "affinity") {
		t.Errorf("got %d, %q, %v", n, found, err)
	}
}

func TestCallersTimesThreadsNeverExceedTheCPUs(t *testing.T) {
	for cpus := 1; cpus <= 64; cpus++ {
		for threads := range cpus + 1 {
			for _, profile := range []string{"", Throughput, Latency} {
				p, err := planOf(Options{CPUs: cpus, Threads: threads, Profile: profile})
				if err != nil || p.callers < 1 || p.threads < 1 || p.callers*p.threads > cpus {
					t.Fatalf("%d CPUs, %d threads, %q: %+v, %v", cpus, threads, profile, p, err)
				}
			}
		}
	}
}

func TestThePlanExplainsItself(t *testing.T) {
	for _, c := range []struct {
		o                Options
		threads, callers int
		text             string
	}{
		{Options{CPUs: 4}, 1, 4, "profile throughput"},
		{Options{CPUs: 4, Profile: Latency}, 4, 1, "profile latency"},
		{Options{CPUs: 5, Threads: 2}, 2, 2, "2 threads a run (as told)"},
		{Options{CPUs: 5, Threads: 2, Profile: Latency}, 2, 2, "as told"},
	} {
		p, err := planOf(c.o)
		if err != nil || p.threads != c.threads || p.callers != c.callers || !strings.Contains(p.text, c.text) {
			t.Errorf("%+v: %+v, %v", c.o, p, err)
		}
	}
	for text, o := range map[string]Options{
		`profile "fast"`: {CPUs: 2, Profile: "fast"}, "3 threads": {CPUs: 2, Threads: 3}, "-1 threads": {CPUs: 2, Threads: -1},
	} {
		if _, err := planOf(o); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
