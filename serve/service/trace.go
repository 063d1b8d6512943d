package service

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// TraceHeader is the header, and the metadata's key, of W3C Trace Context, level
// 1 (w3.org/TR/trace-context-1).
const TraceHeader = "traceparent"

// Trace is the trace that a request belongs to and its own span in it.
type Trace struct {
	ID   string // of the trace: 32 hexadecimal digits
	text string
}

// String is the traceparent of the answer.
func (t Trace) String() string { return t.text }

// TraceOf goes on with the caller's trace in a new span; sent are the values of
// TraceHeader that came. What is no traceparent, and one that comes twice,
// begins a new trace, as the specification wants it.
func TraceOf(sent []string) Trace {
	var random [16 + 8]byte
	_, _ = rand.Read(random[:]) // it never fails: it ends the program instead
	var digits [2 * len(random)]byte
	hex.Encode(digits[:], random[:])
	id, span, flags := digits[:32], digits[32:], "00"
	if len(sent) == 1 {
		if parentID, parentFlags := parent(sent[0]); parentID != "" {
			copy(id, parentID)
			flags = parentFlags
		}
	}
	const before = "00-"
	text := before + string(id) + "-" + string(span) + "-" + flags
	return Trace{ID: text[len(before):][:len(id)], text: text}
}

// parent reads version-traceid-spanid-flags; later versions may have more
// fields. It gives nothing for what is none.
func parent(value string) (id, flags string) {
	fields := strings.Split(value, "-")
	if len(fields) < 4 || !lowerHex(fields[0], 2) || fields[0] == "ff" || fields[0] == "00" && len(fields) != 4 {
		return "", ""
	}
	if !lowerHex(fields[1], 32) || !lowerHex(fields[2], 16) || !lowerHex(fields[3], 2) {
		return "", ""
	}
	if strings.Trim(fields[1], "0") == "" || strings.Trim(fields[2], "0") == "" {
		return "", ""
	}
	return fields[1], sampled(fields[3])
}

// sampled keeps the one flag that level 1 knows.
func sampled(flags string) string {
	bits, err := hex.DecodeString(flags)
	if err == nil && bits[0]&1 == 1 {
		return "01"
	}
	return "00"
}

func lowerHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
