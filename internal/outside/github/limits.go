package github

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// shortestSilence is how long GitHub wants no calls where it names no time.
	shortestSilence = time.Minute
	// waitLimit bounds all waiting of one call for limits.
	waitLimit = 10 * time.Minute
)

// LimitError means that GitHub wants no calls until then, and that this is
// longer than the caller has.
type LimitError struct {
	What  string // which limit
	Until time.Time
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("GitHub's %s is reached; it wants no calls before %s: try again then, or ask less often", e.What, e.Until.UTC().Format(time.RFC3339))
}

// limits remembers until when GitHub wants silence, for all calls of a client.
type limits struct {
	mu    sync.Mutex
	what  string
	until time.Time
}

func (l *limits) set(what string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until.After(l.until) {
		l.what, l.until = what, until
	}
}

func (l *limits) get() (what string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.what, l.until
}

// limited tells whether an answer says "too many", and for how long to be
// silent. before is how many such answers the call had already: where GitHub
// names no time, each doubles it. An answer 403 that means "you may not" is no
// limit.
func limited(status int, h http.Header, body []byte, now time.Time, before int) (what string, wait time.Duration, is bool) {
	if status != http.StatusForbidden && status != http.StatusTooManyRequests {
		return "", 0, false
	}
	if wait, ok := retryAfter(h, now); ok {
		return "secondary rate limit", wait, true
	}
	if h.Get("X-RateLimit-Remaining") == "0" {
		reset, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64)
		if err == nil {
			// one more second, since the header is cut to seconds
			return "rate limit", max(time.Second, time.Unix(reset+1, 0).Sub(now)), true
		}
		return "rate limit", shortestSilence << min(before, 4), true
	}
	text := bytes.ToLower(body)
	if status == http.StatusTooManyRequests || bytes.Contains(text, []byte("secondary rate limit")) ||
		bytes.Contains(text, []byte("abuse detection")) || bytes.Contains(text, []byte("rate limit exceeded")) {
		return "secondary rate limit", shortestSilence << min(before, 4), true
	}
	return "", 0, false
}

// retryAfter reads Retry-After: seconds or a date (RFC 9110, 10.2.3).
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	text := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds >= 0 {
		return max(time.Second, time.Duration(seconds)*time.Second), true
	}
	if date, err := http.ParseTime(text); err == nil {
		return max(time.Second, date.Sub(now)), true
	}
	return 0, false
}
