// Package mlflow speaks MLflow's REST API: experiments, runs, metrics,
// artifacts through the server's proxy, registered models, versions and
// aliases. It implements training.Tracker and the two roles of the registry.
//
// Every call has a time limit and bounded retries with jitter on 408, 429 and
// 5xx, obeying Retry-After. What creates is never repeated blindly: after an
// answer that was lost the server is asked whether the thing is there.
//
// Refused: stages (deprecated), credentials from anywhere but the environment,
// and an answer that cannot be understood taken for an empty one.
package mlflow

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-resty/resty/v2"
)

const (
	callTimeout = 30 * time.Second // of one try
	retries     = 4
	firstWait   = 250 * time.Millisecond
	longestWait = 8 * time.Second
)

// Credentials say which server is asked and as whom.
type Credentials struct {
	URI      string // http(s)://host[:port]
	Username string
	Password string
	Token    string
}

// String shows no secret, so that a logged value gives nothing away.
func (c Credentials) String() string { return "credentials for " + c.URI }

// GoString is String, for %#v.
func (c Credentials) GoString() string { return c.String() }

// CredentialsFromEnv reads MLFLOW_TRACKING_URI and, where the server asks for
// them, MLFLOW_TRACKING_USERNAME with MLFLOW_TRACKING_PASSWORD, else
// MLFLOW_TRACKING_TOKEN.
func CredentialsFromEnv(getenv func(string) string) (Credentials, error) {
	c := Credentials{
		URI:      strings.TrimRight(getenv("MLFLOW_TRACKING_URI"), "/"),
		Username: getenv("MLFLOW_TRACKING_USERNAME"),
		Password: getenv("MLFLOW_TRACKING_PASSWORD"),
		Token:    getenv("MLFLOW_TRACKING_TOKEN"),
	}
	if c.URI == "" {
		return Credentials{}, fmt.Errorf("no MLflow server: set MLFLOW_TRACKING_URI in the environment")
	}
	return c, nil
}

// Client is one MLflow server. It is safe for concurrent use.
type Client struct {
	uri  string
	http *resty.Client
	wait time.Duration // before the first repetition
}

// Open prepares a client. It makes no call: Ping does.
func Open(c Credentials) (*Client, error) {
	u, err := url.Parse(c.URI)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("MLflow server %q is not a URL like http://127.0.0.1:5000: correct MLFLOW_TRACKING_URI", c.URI)
	}
	h := resty.New().SetBaseURL(c.URI).SetTimeout(callTimeout).SetLogger(silent{})
	switch {
	case c.Username != "":
		h.SetBasicAuth(c.Username, c.Password)
	case c.Token != "":
		h.SetAuthToken(c.Token)
	}
	return &Client{uri: c.URI, http: h, wait: firstWait}, nil
}

// silent keeps resty from writing to stderr: every error is returned.
type silent struct{}

func (silent) Errorf(string, ...any) {}
func (silent) Warnf(string, ...any)  {}
func (silent) Debugf(string, ...any) {}

// URI is the address of the server.
func (c *Client) URI() string { return c.uri }

// Ping asks whether the server answers and takes the credentials, and returns
// its version.
func (c *Client) Ping(ctx context.Context) (version string, err error) {
	if err := c.get(ctx, "experiments/get-by-name", query{"experiment_name": "Default"}, &struct{}{}); err != nil && !isMissing(err) {
		return "", err
	}
	r, err := c.send(ctx, http.MethodGet, "/version", nil, nil)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(r.Body())), nil
}

type query map[string]string

func (c *Client) get(ctx context.Context, call string, q query, answer any) error {
	return c.call(ctx, http.MethodGet, call, q, nil, answer)
}

func (c *Client) post(ctx context.Context, call string, body, answer any) error {
	return c.call(ctx, http.MethodPost, call, nil, body, answer)
}

// call makes an API call that may be repeated: it changes nothing, or
// repeating it changes nothing more.
func (c *Client) call(ctx context.Context, method, call string, q query, body, answer any) error {
	r, err := c.retry(ctx, func() (*resty.Response, error) {
		return c.send(ctx, method, "/api/2.0/mlflow/"+call, q, body)
	})
	if err != nil {
		return err
	}
	return c.decode(r, call, answer)
}

func (c *Client) decode(r *resty.Response, call string, answer any) error {
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(r.Body(), answer); err != nil {
		return fmt.Errorf("MLflow at %s, %s: the answer is not MLflow's (%w): %s; is MLFLOW_TRACKING_URI right?", c.uri, call, err, first(r.Body()))
	}
	return nil
}

// send makes one try. Any answer but 2xx is an *Error.
func (c *Client) send(ctx context.Context, method, path string, q query, body any) (*resty.Response, error) {
	req := c.http.R().SetContext(ctx).SetQueryParams(q)
	if body != nil {
		req.SetBody(body)
	}
	r, err := req.Execute(method, path)
	call := strings.TrimPrefix(path, "/api/2.0/mlflow/")
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("MLflow at %s, %s: %w", c.uri, call, ctx.Err())
		}
		return nil, &Error{URI: c.uri, Call: call, err: err}
	}
	if !r.IsSuccess() {
		return nil, newError(c.uri, call, r)
	}
	return r, nil
}

// retry repeats a try while its error says that a repetition may help, and
// the bounds allow it.
func (c *Client) retry(ctx context.Context, try func() (*resty.Response, error)) (*resty.Response, error) {
	for n := 0; ; n++ {
		r, err := try()
		if err == nil || n == retries || !canRetry(err) {
			return r, err
		}
		if err := sleep(ctx, c.pause(n, err)); err != nil {
			return nil, fmt.Errorf("MLflow at %s: %w", c.uri, err)
		}
	}
}

// create makes something that must not be made twice: look is asked before
// each try whether it is there already. make is tried again only after look.
func (c *Client) create(ctx context.Context, look func() (found bool, err error), make func() error) error {
	for n := 0; ; n++ {
		found, err := look()
		if err != nil || found {
			return err
		}
		err = make()
		if err == nil || n == retries || !canRetry(err) {
			return err
		}
		if err := sleep(ctx, c.pause(n, err)); err != nil {
			return fmt.Errorf("MLflow at %s: %w", c.uri, err)
		}
	}
}

// createCall is one try of a call that creates.
func (c *Client) createCall(ctx context.Context, call string, body, answer any) error {
	r, err := c.send(ctx, http.MethodPost, "/api/2.0/mlflow/"+call, nil, body)
	if err != nil {
		return err
	}
	return c.decode(r, call, answer)
}

func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(v); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}
