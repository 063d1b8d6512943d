package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// boundSuffix marks a metric that is another one's bound.
const boundSuffix = "-bound"

// parse reads go test's benchmark lines: a name, the number of rounds, and
// pairs of value and unit.
func parse(text string) ([]Row, error) {
	var rows []Row
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		if len(fields)%2 != 0 {
			return nil, fmt.Errorf("benchmark line of an unknown form: %q", line)
		}
		found, err := metrics(benchmarkName(fields[0]), fields[2:])
		if err != nil {
			return nil, fmt.Errorf("benchmark line %q: %w", strings.TrimSpace(line), err)
		}
		rows = append(rows, found...)
	}
	if len(rows) == 0 {
		return nil, errors.New("go test printed no benchmark: name a package that has one")
	}
	return rows, nil
}

// benchmarkName is the name without go's prefix and its suffix -<processors>.
func benchmarkName(name string) string {
	name = strings.TrimPrefix(name, "Benchmark")
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		if _, err := strconv.Atoi(name[i+1:]); err == nil {
			name = name[:i]
		}
	}
	return name
}

// metrics joins the values of one line with their bounds.
func metrics(name string, pairs []string) ([]Row, error) {
	bounds := map[string]float64{}
	var rows []Row
	for i := 0; i < len(pairs); i += 2 {
		value, err := strconv.ParseFloat(pairs[i], 64)
		if err != nil {
			return nil, err
		}
		if unit, ok := strings.CutSuffix(pairs[i+1], boundSuffix); ok {
			bounds[unit] = value
			continue
		}
		rows = append(rows, Row{Name: name, Value: value, Unit: pairs[i+1]})
	}
	for i := range rows {
		bound, ok := bounds[rows[i].Unit]
		if !ok {
			continue
		}
		holds := rows[i].Value <= bound
		rows[i].Bound, rows[i].Holds = &bound, &holds
		delete(bounds, rows[i].Unit)
	}
	for unit := range bounds {
		return nil, fmt.Errorf("a bound for %s, which was not measured", unit)
	}
	return rows, nil
}

// Machine is what figures depend on.
type Machine struct {
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"`
	OS    string `json:"os"`
	Go    string `json:"go"`
}

func thisMachine() Machine {
	m := Machine{CPU: "unknown processor", Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m // no Linux
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}
