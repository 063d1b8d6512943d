package openloop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Names of the wire (contract 8).
const (
	keyHeader     = "Penstock-Key"
	digestHeader  = "Penstock-Model-Digest"
	requestHeader = "Penstock-Request-Id"
)

// maxAnswer bounds how much of an answer is read, in bytes. A heat map is part
// of it.
const maxAnswer = 16 << 20

// Kind says what became of a request.
type Kind string

// The kinds of answers. All but Answered are failures.
const (
	Answered    Kind = "answered"     // 200, the wanted digest, a complete prediction
	TimedOut    Kind = "timeout"      // nothing complete within the timeout, counted from the intended start
	Unconnected Kind = "connection"   // refused, reset, closed before an answer
	BadStatus   Kind = "status"       // a status other than 200
	BadBody     Kind = "body"         // cut short, not JSON, an error, labels missing, scores not finite
	WrongDigest Kind = "wrong-digest" // another model's answer, or one that names none
	Dropped     Kind = "dropped"      // not sent: too many requests were in flight
)

// Target is the endpoint and what its answers must be.
type Target struct {
	URL     string        // base URL, http or https
	Model   string        // name in the path
	Digest  string        // digest that every answer must carry; empty: any, but one
	Labels  []string      // labels that every prediction must hold; nil: at least one
	Timeout time.Duration // of a request, from its intended start
	Token   string        // sent as a bearer token; empty: none
}

// Client posts images to one target. Safe for concurrent use.
type Client struct {
	target   Target
	endpoint string
	http     *http.Client
}

// NewClient prepares a client with its own transport that keeps up to
// connections connections open. Proxies of the environment are not used: they
// would be measured too.
func NewClient(target Target, connections int) (*Client, error) {
	base, err := url.Parse(target.URL)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, fmt.Errorf("URL %q: want http://host:port or https://host:port", target.URL)
	}
	if target.Model == "" {
		return nil, errors.New("a target needs the name of its model")
	}
	if target.Timeout <= 0 {
		return nil, fmt.Errorf("timeout %s: must be positive", target.Timeout)
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: target.Timeout, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:        connections,
		MaxIdleConnsPerHost: connections,
		IdleConnTimeout:     5 * time.Second, // before servers and proxies close them
		DisableCompression:  true,
	}
	return &Client{
		target:   target,
		endpoint: base.JoinPath("v1", "models", target.Model, "predict").String(),
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Endpoint is the URL that images are posted to.
func (c *Client) Endpoint() string { return c.endpoint }

// Answer is what became of one request.
type Answer struct {
	Kind      Kind
	Status    int           // HTTP status, 0 without an answer
	Digest    string        // of the model that answered, as its header says
	RequestID string        // as the server named the request
	Image     string        // name of the payload
	Err       string        // failures only: what was wrong
	Latency   time.Duration // from the intended start to the last byte, or to giving up
}

// OK tells whether the request was answered as it must be.
func (a Answer) OK() bool { return a.Kind == Answered }

// Post sends one image as the user with key, and waits until it is answered or
// the target's timeout, counted from intended, is over. It never retries; only
// a request that met a connection which the server had closed while it was idle
// is written anew, by net/http, because no server has seen it.
func (c *Client) Post(ctx context.Context, intended time.Time, key string, image Image) Answer {
	ctx, cancel := context.WithDeadline(ctx, intended.Add(c.target.Timeout))
	defer cancel()
	answer := c.exchange(ctx, intended, key, image)
	answer.Image = image.Name
	return answer
}

func (c *Client) exchange(ctx context.Context, intended time.Time, key string, image Image) Answer {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(image.Data))
	if err != nil {
		return Answer{Kind: Unconnected, Err: err.Error(), Latency: time.Since(intended)}
	}
	request.Header.Set("Content-Type", image.Type)
	request.Header.Set("Accept", "application/json")
	request.Header.Set(keyHeader, key)
	if c.target.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.target.Token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return Answer{Kind: broken(ctx, err, Unconnected), Err: reason(err), Latency: time.Since(intended)}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	answer := Answer{
		Kind: Answered, Status: response.StatusCode, Latency: time.Since(intended),
		Digest: response.Header.Get(digestHeader), RequestID: response.Header.Get(requestHeader),
	}
	switch {
	case err != nil:
		answer.Kind, answer.Err = broken(ctx, err, BadBody), "body: "+reason(err)
	case len(body) > maxAnswer:
		answer.Kind, answer.Err = BadBody, fmt.Sprintf("body: more than %d MiB", maxAnswer>>20)
	default:
		answer.Kind, answer.Err = c.target.judge(response.StatusCode, answer.Digest, body)
	}
	return answer
}

// judge classifies a complete answer.
func (t Target) judge(status int, digest string, body []byte) (Kind, string) {
	if status != http.StatusOK {
		return BadStatus, strconv.Itoa(status) + ": " + excerpt(body)
	}
	if digest == "" {
		return WrongDigest, "no " + digestHeader + " header"
	}
	if t.Digest != "" && digest != t.Digest {
		return WrongDigest, fmt.Sprintf("answered by %s, not by %s", digest, t.Digest)
	}
	if err := checkPrediction(body, t.Labels); err != nil {
		return BadBody, err.Error()
	}
	return Answered, ""
}

// broken tells a timeout from another failure of the connection.
func broken(ctx context.Context, err error, otherwise Kind) Kind {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) || os.IsTimeout(err) {
		return TimedOut
	}
	return otherwise
}

// reason is the cause without the URL, which every line would repeat.
func reason(err error) string {
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err
	}
	return err.Error()
}

// excerpt is the beginning of a body for a failure report, on one line.
func excerpt(body []byte) string {
	const most = 160
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body[:min(len(body), most)]), "?")), " ")
	if len(body) > most {
		text += " …"
	}
	return text
}
