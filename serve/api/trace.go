package api

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
)

// traceHeader is that of W3C Trace Context, level 1 (w3.org/TR/trace-context-1).
const traceHeader = "traceparent"

// trace is the trace that a request belongs to and its own span in it.
type trace struct{ id, span, flags string }

func (t trace) String() string { return "00-" + t.id + "-" + t.span + "-" + t.flags }

// traceOf goes on with the caller's trace in a new span. A traceparent that is
// none begins a new trace, as the specification wants it.
func traceOf(h http.Header) trace {
	t := trace{span: randomHex(8), flags: "00"}
	values := h.Values(traceHeader)
	if len(values) == 1 {
		t.id, t.flags = parent(values[0])
	}
	if t.id == "" {
		t.id, t.flags = randomHex(16), "00"
	}
	return t
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

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // it never fails: it ends the program instead
	return hex.EncodeToString(b)
}
