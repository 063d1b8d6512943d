package github

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// attemptLimit bounds one request with its answer.
	attemptLimit = 20 * time.Second
	// answerLimit bounds an answer's size in bytes.
	answerLimit = 16 << 20
	// tries bounds the attempts at a call that fails in passing.
	tries = 4
)

// ErrUnanswered means that a write was sent and no answer came: whether it
// took place is not known.
var ErrUnanswered = errors.New("no answer to a write that was sent")

// transport sends requests the way GitHub wants them: with credentials, one
// attempt bounded, limits waited for, passing failures of repeatable calls
// repeated. Answers are read whole, so that a broken one counts as none.
type transport struct {
	base   http.RoundTripper
	host   string // credentials go nowhere else
	who    credentials
	limits *limits
	now    func() time.Time
	sleep  func(context.Context, time.Duration) error
}

type repeatKey struct{}

// repeat marks the calls of ctx as harmless to repeat although they are POSTs.
func repeat(ctx context.Context) context.Context {
	return context.WithValue(ctx, repeatKey{}, true)
}

// fate tells the caller of a write what became of it, past go-github, which
// answers for a cancelled context only that it was cancelled.
type fate struct{ unanswered bool }

type fateKey struct{}

// write makes a call that must not be repeated blindly. Its error is
// ErrUnanswered where the call may have taken place.
func write(ctx context.Context, do func(context.Context) error) error {
	f := &fate{}
	err := do(context.WithValue(ctx, fateKey{}, f))
	if err != nil && f.unanswered && !errors.Is(err, ErrUnanswered) {
		return fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	return err
}

// repeatable tells whether two requests do the same as one. PATCH does here:
// it sets a comment's text.
func repeatable(req *http.Request) bool {
	return req.Method != http.MethodPost || req.Context().Value(repeatKey{}) != nil
}

// call is the state of one call through its attempts.
type call struct {
	*transport
	req     *http.Request
	pause   *backoff.ExponentialBackOff
	failed  int           // attempts that failed in passing
	limits  int           // answers that said "too many"
	waited  time.Duration // for limits
	bearer  string        // of the last attempt
	renewed bool          // the credentials were replaced
}

// RoundTrip makes attempts until one is final.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close() // attempts take copies by GetBody
	}
	c := &call{transport: t, req: req, pause: backoff.NewExponentialBackOff()}
	c.pause.InitialInterval, c.pause.Multiplier = time.Second, 2
	for {
		if err := c.beSilent(); err != nil {
			return nil, err
		}
		resp, body, err := c.attempt()
		again, failure := c.judge(resp, body, err)
		if failure != nil {
			return nil, failure
		}
		if !again {
			// go-github would remember the limits itself, by the system's
			// clock, and refuse calls.
			for _, name := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After"} {
				resp.Header.Del(name)
			}
			return resp, nil
		}
	}
}

// beSilent waits while GitHub wants no calls.
func (c *call) beSilent() error {
	for {
		what, until := c.transport.limits.get()
		wait := until.Sub(c.now())
		if wait <= 0 {
			return c.req.Context().Err()
		}
		c.waited += wait
		if c.waited > waitLimit {
			return &LimitError{what, until}
		}
		// several waiters do not come back at once
		err := c.sleep(c.req.Context(), wait+rand.N(max(wait/20, time.Millisecond)))
		if errors.Is(err, errTooLong) {
			return &LimitError{what, until}
		}
		if err != nil {
			return err
		}
	}
}

// judge decides about an attempt: again after a wait, final, or a failure.
func (c *call) judge(resp *http.Response, body []byte, err error) (again bool, failure error) {
	if err == nil {
		if what, wait, is := limited(resp.StatusCode, resp.Header, body, c.now(), c.limits); is {
			c.limits++
			c.transport.limits.set(what, c.now().Add(wait))
			return true, nil
		}
		if resp.StatusCode == http.StatusUnauthorized && !c.renewed && c.bearer != "" && c.who.refused(c.bearer) {
			c.renewed = true
			return true, nil
		}
		if resp.StatusCode < 500 || !repeatable(c.req) {
			return false, nil
		}
	}
	var unsent *unsentError
	switch {
	case err == nil:
	case errors.As(err, &unsent):
		if unsent.final || c.req.Context().Err() != nil {
			return false, unsent.err
		}
	case !repeatable(c.req):
		if f, is := c.req.Context().Value(fateKey{}).(*fate); is {
			f.unanswered = true
		}
		return false, fmt.Errorf("%w: %w", ErrUnanswered, err)
	case c.req.Context().Err() != nil:
		return false, c.req.Context().Err()
	}
	if c.failed++; c.failed >= tries {
		return false, err // nil for an answer 5xx, which the caller sees
	}
	wait := c.pause.NextBackOff()
	if err == nil {
		if asked, ok := retryAfter(resp.Header, c.now()); ok {
			wait = min(max(wait, asked), shortestSilence)
		}
	}
	switch slept := c.sleep(c.req.Context(), wait); {
	case errors.Is(slept, errTooLong):
		return false, err // no time is left for another attempt
	case slept != nil:
		return false, slept
	}
	return true, nil
}

// unsentError means that nothing of the request went out.
type unsentError struct {
	err   error
	final bool // no use to try again
}

func (e *unsentError) Error() string { return e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

// attempt sends the request once. A write is not cut off by its caller: it
// ends by itself within attemptLimit.
func (c *call) attempt() (*http.Response, []byte, error) {
	ctx := c.req.Context()
	c.bearer = ""
	if c.req.URL.Host == c.host {
		var err error
		if c.bearer, err = c.who.bearer(ctx); err != nil {
			return nil, nil, &unsentError{err, true}
		}
	}
	if c.req.Method != http.MethodGet {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	out := c.req.Clone(ctx)
	if c.bearer != "" {
		out.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	if c.req.GetBody != nil {
		body, err := c.req.GetBody()
		if err != nil {
			return nil, nil, &unsentError{err, true}
		}
		out.Body = body
	}
	resp, err := c.base.RoundTrip(out)
	if err != nil {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" {
			return nil, nil, &unsentError{err: err}
		}
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit+1))
	if err != nil {
		return nil, nil, fmt.Errorf("the answer broke off: %w", err)
	}
	if len(body) > answerLimit {
		return nil, nil, fmt.Errorf("an answer of more than %d bytes", answerLimit)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, body, nil
}
