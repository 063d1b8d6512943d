package mlflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-resty/resty/v2"
)

// Error is an answer that is not a success, or the lack of an answer (Status
// 0).
type Error struct {
	URI     string
	Call    string
	Status  int
	Code    string // MLflow's error_code; empty where something else answered
	Message string // MLflow's message, or the first bytes of the answer

	after time.Duration
	err   error
}

func (e *Error) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("MLflow gives no answer at %s (%s): is it running, and is MLFLOW_TRACKING_URI right? (%v)", e.URI, e.Call, e.err)
	}
	code := ""
	if e.Code != "" {
		code = " " + e.Code
	}
	return fmt.Sprintf("MLflow at %s, %s: %d%s: %s%s", e.URI, e.Call, e.Status, code, e.Message, e.remedy())
}

func (e *Error) Unwrap() error { return e.err }

func (e *Error) remedy() string {
	switch {
	case strings.Contains(e.Message, "Invalid Host header"):
		return "; start the server with --allowed-hosts naming this host and port"
	case e.Status == http.StatusUnauthorized:
		return "; wrong credentials: correct MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN"
	case e.Status == http.StatusForbidden:
		return "; these credentials do not allow it"
	case e.Code == "":
		return "; this is not MLflow's own answer: is something between, or MLFLOW_TRACKING_URI wrong?"
	}
	return ""
}

const shownBytes = 200

// first is the beginning of an answer that is not MLflow's, on one line.
func first(body []byte) string {
	text := strings.Join(strings.Fields(string(body)), " ")
	if len(text) > shownBytes {
		text = strings.ToValidUTF8(text[:shownBytes], "") + " …"
	}
	if text == "" {
		return "(empty answer)"
	}
	return text
}

func newError(uri, call string, r *resty.Response) *Error {
	e := &Error{URI: uri, Call: call, Status: r.StatusCode(), after: retryAfter(r.Header())}
	var told struct {
		Code    string `json:"error_code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(r.Body(), &told); err != nil || told.Code == "" {
		e.Message = first(r.Body())
		return e
	}
	e.Code, e.Message = told.Code, told.Message
	return e
}

var retriable = []int{
	http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
	http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

func canRetry(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Status == 0 || slices.Contains(retriable, e.Status)
}

func hasCode(err error, codes ...string) bool {
	var e *Error
	return errors.As(err, &e) && slices.Contains(codes, e.Code)
}

// isMissing tells the one honest absence from every failure.
func isMissing(err error) bool { return hasCode(err, "RESOURCE_DOES_NOT_EXIST") }

func isThere(err error) bool { return hasCode(err, "RESOURCE_ALREADY_EXISTS") }

// pause is the wait before repetition n: doubled each time with full jitter,
// but never shorter than the server asked for, and never longer than a minute.
func (c *Client) pause(n int, err error) time.Duration {
	wait := min(c.wait<<n, longestWait)
	wait = wait/2 + rand.N(wait/2+1)
	var e *Error
	if errors.As(err, &e) && e.after > wait {
		wait = min(e.after, time.Minute)
	}
	return wait
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// noSuchAlias recognises how MLflow's SQL store says that an alias is missing:
// as an invalid parameter, like much else, so that the message must decide.
func noSuchAlias(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == "INVALID_PARAMETER_VALUE" &&
		strings.Contains(e.Message, "alias") && strings.Contains(e.Message, "not found")
}
