package model

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// CPUs is how many CPUs the process may use, and how that was found: the
// smallest of the scheduler's affinity, GOMAXPROCS where it is set, and the
// quotas of its cgroup and of those above. The Go runtime looks at the same
// files, but rounds up and never goes below 2; here a quota is rounded down, to
// 1 at least.
func CPUs() (n int, found string, err error) {
	return countCPUs(os.DirFS("/"), runtime.NumCPU(), os.Getenv("GOMAXPROCS"))
}

func countCPUs(root fs.FS, affinity int, told string) (n int, found string, err error) {
	n, found = affinity, fmt.Sprintf("%d by affinity", affinity)
	if most, err := strconv.Atoi(told); err == nil && most > 0 {
		n, found = min(n, most), found+fmt.Sprintf(", GOMAXPROCS %d", most)
	}
	q, err := readQuota(root)
	switch {
	case err != nil && told == "":
		return 0, "", fmt.Errorf("how many CPUs this process may use cannot be told from its cgroup: %w: set GOMAXPROCS to their number", err)
	case err != nil:
		found += ", a cgroup quota that cannot be read"
	case q.cpus > 0:
		n, found = min(n, max(1, int(q.cpus))), found+fmt.Sprintf(", quota of %.2f by %s", q.cpus, q.file)
	default:
		found += ", no cgroup quota"
	}
	return n, found, nil
}

// quota is a bound on CPU time: how many CPUs' worth, and who says so.
type quota struct {
	cpus float64 // 0: none
	file string
}

// hierarchy is where a cgroup controller is mounted and which group of it the
// process is in.
type hierarchy struct {
	version int
	mount   string // relative to the root of the file system
	group   string // relative to mount
}

// readQuota finds the smallest quota in cgroup v2 (cpu.max) or v1
// (cpu.cfs_quota_us) on the way from the process's group up to the mount.
func readQuota(root fs.FS) (quota, error) {
	groups, err := readGroups(root)
	if err != nil {
		return quota{}, err
	}
	mounts, err := readMounts(root)
	if err != nil {
		return quota{}, err
	}
	var smallest quota
	for version, m := range mounts {
		group, ok := groups[version]
		if !ok {
			continue
		}
		h := hierarchy{version, m.at, strings.TrimPrefix(group, m.root)}
		q, err := h.smallest(root)
		if err != nil {
			return quota{}, err
		}
		if q.cpus > 0 && (smallest.cpus == 0 || q.cpus < smallest.cpus) {
			smallest = q
		}
	}
	return smallest, nil
}

// readGroups gives the process's group by version: the line 0::PATH is v2's,
// N:…,cpu,…:PATH v1's.
func readGroups(root fs.FS) (map[int]string, error) {
	groups := map[int]string{}
	err := lines(root, "proc/self/cgroup", func(line string) {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 {
			return
		}
		if parts[0] == "0" && parts[1] == "" {
			groups[2] = parts[2]
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			if controller == "cpu" {
				groups[1] = parts[2]
			}
		}
	})
	return groups, err
}

// mounted is a mount of a hierarchy: at is its place, root the group that it
// shows there.
type mounted struct{ at, root string }

// readMounts gives the CPU controller's mounts by version, from mountinfo:
// ID PARENT MAJOR:MINOR ROOT PLACE OPTIONS [FIELDS…] - TYPE SOURCE SUPEROPTIONS.
func readMounts(root fs.FS) (map[int]mounted, error) {
	mounts := map[int]mounted{}
	err := lines(root, "proc/self/mountinfo", func(line string) {
		before, after, ok := strings.Cut(line, " - ")
		front, back := strings.Fields(before), strings.Fields(after)
		if !ok || len(front) < 5 || len(back) < 3 {
			return
		}
		m := mounted{strings.TrimPrefix(front[4], "/"), strings.TrimSuffix(front[3], "/")}
		switch {
		case back[0] == "cgroup2":
			mounts[2] = m
		case back[0] == "cgroup" && strings.Contains(","+back[2]+",", ",cpu,"):
			mounts[1] = m
		}
	})
	return mounts, err
}

// smallest walks from the group up to the mount.
func (h hierarchy) smallest(root fs.FS) (quota, error) {
	var found quota
	group := path.Clean("/" + h.group)
	for {
		q, err := h.read(root, path.Join(h.mount, group))
		if err != nil {
			return quota{}, err
		}
		if q.cpus > 0 && (found.cpus == 0 || q.cpus < found.cpus) {
			found = q
		}
		if group == "/" {
			return found, nil
		}
		group = path.Dir(group)
	}
}

// read gives one group's own quota; a group without the files has none.
func (h hierarchy) read(root fs.FS, dir string) (quota, error) {
	file := path.Join(dir, "cpu.max")
	text, err := text(root, file)
	if h.version == 1 {
		file = path.Join(dir, "cpu.cfs_quota_us")
		text, err = both(root, file, path.Join(dir, "cpu.cfs_period_us"))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return quota{}, nil
	}
	if err != nil {
		return quota{}, err
	}
	fields := strings.Fields(text)
	if len(fields) > 0 && (fields[0] == "max" || fields[0] == "-1") {
		return quota{}, nil
	}
	if len(fields) == 2 {
		time, err1 := strconv.ParseFloat(fields[0], 64)
		period, err2 := strconv.ParseFloat(fields[1], 64)
		if err1 == nil && err2 == nil && time > 0 && period > 0 {
			return quota{time / period, "/" + file}, nil
		}
	}
	return quota{}, fmt.Errorf("/%s says %q, which is no quota and period", file, text)
}

func text(root fs.FS, name string) (string, error) {
	data, err := fs.ReadFile(root, name)
	return strings.TrimSpace(string(data)), err
}

func both(root fs.FS, one, other string) (string, error) {
	a, err := text(root, one)
	if err != nil {
		return "", err
	}
	b, err := text(root, other)
	return a + " " + b, err
}

// lines calls see for each line of a file; one that is not there has none.
func lines(root fs.FS, name string, see func(line string)) error {
	data, err := fs.ReadFile(root, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	scanner := bufio.NewScanner(strings.NewReader(string(data)))
	for scanner.Scan() {
		see(scanner.Text())
	}
	return scanner.Err()
}
