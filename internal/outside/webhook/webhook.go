// Package webhook hands batches to an HTTP endpoint: GET <url>/<batch key>
// answers 200 where the key is known and 404 where it is not, PUT
// <url>/<batch key> takes the batch as JSON and answers 2xx. A PUT of a known
// key must change nothing, so that a repeated one is harmless.
//
// Refused: any other answer. It is an error with the first bytes of the body,
// never taken for known or unknown.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/penstock-ml/penstock/internal/line/intake"
)

const (
	callTimeout = 10 * time.Second
	maxTries    = 3
	shown       = 200 // bytes of a body in an error
)

// Endpoint is an intake.Dispatcher. It is safe for concurrent use.
type Endpoint struct {
	url    *url.URL
	client *http.Client
}

// New checks the URL; it makes no call.
func New(address string) (*Endpoint, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("webhook %q is not a URL like http://127.0.0.1:8080/batches", address)
	}
	return &Endpoint{u, &http.Client{
		Timeout: callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // a redirected PUT would become a GET
		},
	}}, nil
}

// Dispatched asks whether the endpoint knows the key.
func (e *Endpoint) Dispatched(ctx context.Context, key string) (bool, error) {
	status, body, err := e.call(ctx, http.MethodGet, key, nil)
	switch {
	case err != nil:
		return false, err
	case status == http.StatusOK:
		return true, nil
	case status == http.StatusNotFound:
		return false, nil
	}
	return false, e.unexpected(http.MethodGet, key, status, body)
}

// Dispatch hands the batch on.
func (e *Endpoint) Dispatch(ctx context.Context, b intake.Batch) error {
	data, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode batch %s: %w", b.Key, err)
	}
	status, body, err := e.call(ctx, http.MethodPut, b.Key, data)
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return e.unexpected(http.MethodPut, b.Key, status, body)
	}
	return nil
}

// call sends a request until an answer other than 5xx or 429 comes.
func (e *Endpoint) call(ctx context.Context, method, key string, data []byte) (status int, body []byte, err error) {
	target := e.url.JoinPath(key).String()
	status, err = backoff.Retry(ctx, func() (int, error) {
		status, body, err = e.send(ctx, method, target, data)
		if err == nil && (status >= 500 || status == http.StatusTooManyRequests) {
			return status, e.unexpected(method, key, status, body)
		}
		return status, err
	}, backoff.WithBackOff(backoff.NewExponentialBackOff()), backoff.WithMaxTries(maxTries))
	if err != nil {
		return 0, nil, fmt.Errorf("webhook %s: %w", e.url.Redacted(), err)
	}
	return status, body, nil
}

func (e *Endpoint) send(ctx context.Context, method, target string, data []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(data))
	if err != nil {
		return 0, nil, backoff.Permanent(err)
	}
	if data != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := e.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return 0, nil, backoff.Permanent(ctx.Err())
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL is named already
		}
		return 0, nil, fmt.Errorf("no answer (%w): is it running, and is --webhook right?", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, shown))
	return resp.StatusCode, body, err
}

func (e *Endpoint) unexpected(method, key string, status int, body []byte) error {
	return fmt.Errorf("%s %s answered %d %s: %q", method, e.url.JoinPath(key).Redacted(), status, http.StatusText(status), body)
}
