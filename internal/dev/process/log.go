package process

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// tailLines is how much of a log stands in an error.
const tailLines = 12

// Tail returns the last n lines of a log file, or a note why there are none.
func Tail(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	defer f.Close()
	const most = 16 << 10 // enough for a dozen long lines
	if info, err := f.Stat(); err == nil && info.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return fmt.Sprintf("(log unreadable: %v)", err)
		}
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return fmt.Sprintf("(log unreadable: %v)", err)
	}
	text := strings.TrimRight(string(data), "\n")
	if text == "" {
		return "(its log is empty)"
	}
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// quote is the log's end as it stands in an error.
func quote(path string) string {
	return fmt.Sprintf("; last lines of %s:\n  %s", path, strings.ReplaceAll(Tail(path, tailLines), "\n", "\n  "))
}
