package replay

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Resident is the resident memory of this process in bytes, from proc(5)'s
// statm, whose second field counts pages.
func Resident() (int, error) {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("resident memory: %w", err)
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0, fmt.Errorf("resident memory: /proc/self/statm says %q", data)
	}
	pages, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0, fmt.Errorf("resident memory: %w", err)
	}
	return pages * os.Getpagesize(), nil
}
