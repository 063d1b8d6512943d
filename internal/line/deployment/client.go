package deployment

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-resty/resty/v2"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// States of a model on a server.
const (
	Ready   = "ready"
	Loading = "loading"
	Failed  = "failed"
)

// NotReady is the reason code of a server that does not come to serve what it
// was told to.
const NotReady = "not-ready"

// ErrRefused means that a server was reached and does not come to serve a
// bundle: it fails its checks, or the server never shows it.
var ErrRefused = errors.New("bundle refused")

// DigestHeader names, in every public answer, the digest of the model behind it.
const DigestHeader = "Penstock-Model-Digest"

// Times of the calls. A load fetches a bundle, checks goldens and warms up.
const (
	callTimeout = 5 * time.Second
	loadTimeout = 3 * time.Minute
	pollEvery   = 100 * time.Millisecond
	retries     = 2
	maxAnswer   = 16 << 20 // bytes, the metrics page of a busy server included
)

// Status is the body of GET and PUT /admin/v1/models/{name}: the digest that
// the state is about, and why it failed. Serving, where a server gives it, is
// the digest that answers meanwhile.
type Status struct {
	Digest  string `json:"digest"`
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`
	Serving string `json:"serving,omitempty"`
}

// Client speaks with servers and routers. It may be used by several
// goroutines.
type Client struct {
	admin  *resty.Client
	public *resty.Client
	router *resty.Client
}

// Tokens are the credentials: of the servers' admin listeners and of the
// routers. An empty one is not sent.
type Tokens struct {
	Admin  string
	Router string
}

// New makes a client.
func New(tokens Tokens) *Client {
	return &Client{
		admin:  newHTTP(tokens.Admin, retries),
		public: newHTTP("", retries),
		router: newHTTP(tokens.Router, 0), // a change carries a revision: repeating it is the caller's decision
	}
}

func newHTTP(token string, retry int) *resty.Client {
	c := resty.New().
		SetTransport(&http.Transport{Proxy: nil, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second}).
		SetRedirectPolicy(resty.NoRedirectPolicy()).
		SetResponseBodyLimit(maxAnswer).
		SetRetryCount(retry).
		SetRetryWaitTime(100*time.Millisecond).
		SetRetryMaxWaitTime(time.Second).
		SetHeader("Accept", "application/json").
		SetLogger(silent{})
	if token != "" {
		c.SetAuthToken(token).SetDisableWarn(true)
	}
	return c
}

// silent drops resty's own log: every error comes back to the caller.
type silent struct{}

func (silent) Errorf(string, ...any) {}
func (silent) Warnf(string, ...any)  {}
func (silent) Debugf(string, ...any) {}

// answerError says what a server answered instead of 200.
func answerError(r *resty.Response, what string) error {
	text := r.String()
	if len(text) > 500 {
		text = text[:500] + "…"
	}
	switch r.StatusCode() {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%s: %s: the token in PENSTOCK_ADMIN_TOKEN is missing or wrong: %s", what, r.Status(), text)
	}
	return fmt.Errorf("%s: %s: %s", what, r.Status(), text)
}

func modelURL(s Server, model string) string { return s.Admin + "/admin/v1/models/" + model }

// Status asks the admin listener of s. A model that was never loaded has the
// zero Status.
func (c *Client) Status(ctx context.Context, s Server, model string) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var status Status
	r, err := c.admin.R().SetContext(ctx).SetResult(&status).Get(modelURL(s, model))
	what := fmt.Sprintf("admin listener of %s, %s", s.Slot, s.Admin)
	switch {
	case err != nil:
		return Status{}, fmt.Errorf("%s: %w", what, err)
	case r.StatusCode() == http.StatusNotFound:
		return Status{}, nil
	case r.StatusCode() != http.StatusOK:
		return Status{}, answerError(r, what)
	}
	return status, nil
}

// Version asks the public side of s which program it is.
func (c *Client) Version(ctx context.Context, s Server) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var server struct{ Name, Version string }
	r, err := c.public.R().SetContext(ctx).SetResult(&server).Get(s.URL + "/v2")
	what := fmt.Sprintf("public side of %s, %s", s.Slot, s.URL)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", what, err)
	case r.StatusCode() != http.StatusOK:
		return "", answerError(r, what)
	case server.Version == "":
		return "", fmt.Errorf("%s: its answer names no version: is this penstock-serve?", what)
	}
	return server.Version, nil
}

// Load makes s serve the bundle with digest and proves it: the admin listener
// says ready, and the public side answers with the digest. A digest already
// served costs two reads. A bundle that the server does not take is ErrRefused
// with the reason code NotReady; the server then serves what it served before.
// One that the server could not fetch is an error and no refusal: nothing is
// known about it.
// A caller that gives up gets its context's error, not ErrRefused.
func (c *Client) Load(ctx context.Context, s Server, model, digest string) error {
	limited, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	err := c.load(limited, s, model, digest)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("load %s on %s: %w", digest, s.Slot, context.Cause(ctx))
	}
	return err
}

func (c *Client) load(ctx context.Context, s Server, model, digest string) error {
	status, err := c.Status(ctx, s, model)
	if err != nil {
		return err
	}
	if status.Digest != digest || status.State != Ready {
		if status, err = c.put(ctx, s, model, digest); err != nil {
			return err
		}
	}
	for status.Digest != digest || status.State != Ready {
		if status.State == Failed {
			return refused(s, digest, status.Reason)
		}
		if err := pause(ctx, fmt.Errorf("%s still has %q in state %q", s.Admin, status.Digest, status.State)); err != nil {
			return refusal("load %s on %s: %s", digest, s.Slot, err.Error())
		}
		if status, err = c.Status(ctx, s, model); err != nil {
			return err
		}
	}
	return c.prove(ctx, s, model, digest)
}

func refusal(format string, args ...any) error {
	return verdict.Coded(NotReady, fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...)))
}

func refused(s Server, digest, reason string) error {
	return refusal("%s (%s) does not take the bundle %s: %s", s.Slot, s.Admin, digest, reason)
}

// put asks for the digest. A server may answer at once, with the state
// loading, or when it is done.
func (c *Client) put(ctx context.Context, s Server, model, digest string) (Status, error) {
	var status, failed Status
	r, err := c.admin.R().SetContext(ctx).SetBody(Status{Digest: digest}).SetResult(&status).SetError(&failed).Put(modelURL(s, model))
	what := fmt.Sprintf("tell %s, %s, to load %s", s.Slot, s.Admin, digest)
	switch {
	case err != nil:
		return Status{}, fmt.Errorf("%s: %w", what, err)
	case r.IsSuccess():
		return status, nil
	case r.StatusCode() == http.StatusServiceUnavailable && failed.Reason != "":
		return Status{}, fmt.Errorf("%s: %s", what, failed.Reason)
	case failed.Reason != "":
		return Status{}, refused(s, digest, failed.Reason)
	case r.StatusCode() == http.StatusUnprocessableEntity:
		return Status{}, refusal("%s", answerError(r, what).Error())
	}
	return Status{}, answerError(r, what)
}

// prove waits until the public side of s answers with the digest.
func (c *Client) prove(ctx context.Context, s Server, model, digest string) error {
	for {
		got, err := c.Serving(ctx, s, model)
		if err == nil && got == digest {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it answers with %q", got)
		}
		if err := pause(ctx, err); err != nil {
			return refusal("%s says it loaded %s, but its public side %s does not show it: %s", s.Slot, digest, s.URL, err.Error())
		}
	}
}

// pause waits a moment before the next look; at the deadline it gives why.
func pause(ctx context.Context, why error) error {
	select {
	case <-ctx.Done():
		return errors.Join(why, ctx.Err())
	case <-time.After(pollEvery):
		return nil
	}
}

// ErrNothingServed means that the public side is up and has no model.
var ErrNothingServed = errors.New("nothing is served")

// Serving asks the public side of s which digest answers for model.
func (c *Client) Serving(ctx context.Context, s Server, model string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var meta struct {
		Versions []string `json:"versions"`
	}
	r, err := c.public.R().SetContext(ctx).SetResult(&meta).Get(s.URL + "/v2/models/" + model)
	what := fmt.Sprintf("public side of %s, %s", s.Slot, s.URL)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", what, err)
	case r.StatusCode() == http.StatusNotFound, r.StatusCode() == http.StatusServiceUnavailable:
		return "", fmt.Errorf("%s: %w: %s", what, ErrNothingServed, r.Status())
	case r.StatusCode() != http.StatusOK:
		return "", answerError(r, what)
	}
	digest := r.Header().Get(DigestHeader)
	if digest == "" && len(meta.Versions) == 1 {
		digest = meta.Versions[0]
	}
	if digest == "" {
		return "", fmt.Errorf("%s: the answer names no digest: neither the header %s nor one version", what, DigestHeader)
	}
	if len(meta.Versions) > 0 && !slices.Contains(meta.Versions, digest) {
		return "", fmt.Errorf("%s: the header says %s, the body %v", what, digest, meta.Versions)
	}
	return digest, nil
}
