// Package github is the one wrapper over GitHub's REST API (go-github): it
// dispatches workflows so that nothing runs twice, reads runs, comments,
// comparisons, deployments and runner groups, and speaks as a token or as an
// App, to github.com or to a GitHub Enterprise server.
//
// What go-github leaves to its caller is done here, once, in the transport: an
// answer 403 or 429 that means "too many" is waited for as the answer says, or
// for at least a minute; a passing failure of a call that may be repeated is
// repeated; a write that was sent is waited for even when the caller gives up,
// because only its answer tells whether it took place. Every call is bounded.
// Sources: GitHub, "Best practices for using the REST API" and "Rate limits
// for the REST API" (2026).
//
// Refused: repeating a write whose answer was lost without having looked;
// plain HTTP to any host but loopback; tokens in errors.
package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	gh "github.com/google/go-github/v60/github"
)

// Names of the environment variables that FromEnv reads.
const (
	TokenVariable      = "GITHUB_TOKEN"
	RepositoryVariable = "GITHUB_REPOSITORY"
	APIVariable        = "GITHUB_API_URL"
	AppVariable        = "PENSTOCK_APP_ID"
	KeyVariable        = "PENSTOCK_APP_PRIVATE_KEY"
)

// ErrNoCredentials means that neither a token nor an App is set.
var ErrNoCredentials = errors.New("no credentials for GitHub: set " + TokenVariable + ", or " + AppVariable + " and " + KeyVariable)

// ErrNoRepository means that no repository is named.
var ErrNoRepository = errors.New("no repository on GitHub is named: set " + RepositoryVariable + " to owner/name")

// Settings say where GitHub is and who asks: Token, or App and Key.
type Settings struct {
	API        string // base URL; empty means https://api.github.com
	Repository string // owner/name
	Token      string // personal (classic or fine-grained), GITHUB_TOKEN or an installation's
	App        string // id or client id of a GitHub App
	Key        string // its private key, PEM
	Actions    bool   // the program runs in GitHub Actions

	Transport http.RoundTripper // nil: Go's own
	Now       func() time.Time  // nil: time.Now
	// Sleep waits; nil: by the system's clock, and where ctx ends before the
	// time is over it fails at once.
	Sleep func(ctx context.Context, d time.Duration) error
}

// SettingsFromEnv reads the variables above, and GITHUB_ACTIONS.
func SettingsFromEnv(getenv func(string) string) Settings {
	return Settings{
		API: getenv(APIVariable), Repository: getenv(RepositoryVariable), Token: getenv(TokenVariable),
		App: getenv(AppVariable), Key: getenv(KeyVariable), Actions: getenv("GITHUB_ACTIONS") == "true",
	}
}

// FromEnv makes a client of the environment; it makes no call.
func FromEnv(getenv func(string) string) (*Client, error) { return New(SettingsFromEnv(getenv)) }

// Client speaks to GitHub about one repository. It is safe for concurrent use.
type Client struct {
	owner, name string
	actions     bool
	api         *gh.Client // asks as token or installation
	app         *gh.Client // asks as the App itself; nil for a token
	now         func() time.Time
	sleep       func(context.Context, time.Duration) error

	mu        sync.Mutex
	noDetails bool                 // the server does not know return_run_details
	unsure    map[string]time.Time // dispatches without an answer, by workflow and run name
}

// New checks the settings; it makes no call.
func New(s Settings) (*Client, error) {
	if s.Token == "" && s.App == "" && s.Key == "" {
		return nil, ErrNoCredentials
	}
	owner, name, err := splitRepository(s.Repository)
	if err != nil {
		return nil, err
	}
	base, err := apiURL(s.API)
	if err != nil {
		return nil, err
	}
	c := &Client{owner: owner, name: name, actions: s.Actions, now: s.Now, sleep: s.Sleep, unsure: map[string]time.Time{}}
	if c.now == nil {
		c.now = time.Now
	}
	if c.sleep == nil {
		c.sleep = sleep
	}
	if s.Transport == nil {
		s.Transport = http.DefaultTransport
	}
	if c.api, c.app, err = c.open(s, base); err != nil {
		return nil, err
	}
	return c, nil
}

// open makes the clients of go-github: one that asks, and for an App one that
// asks in the App's own name.
func (c *Client) open(s Settings, base *url.URL) (api, app *gh.Client, err error) {
	limits := &limits{} // GitHub counts by who asks, so all calls share one
	client := func(who credentials) (*gh.Client, error) {
		t := &transport{base: s.Transport, host: base.Host, who: who, limits: limits, now: c.now, sleep: c.sleep}
		g, err := gh.NewClient(&http.Client{Transport: t, CheckRedirect: sameRequest}).WithEnterpriseURLs(base.String(), base.String())
		if err != nil {
			return nil, err
		}
		g.UserAgent = "penstock"
		return g, nil
	}
	switch {
	case s.App == "" && s.Key == "":
		api, err = client(token(s.Token))
		return api, nil, err
	case s.App == "" || s.Key == "":
		return nil, nil, fmt.Errorf("a GitHub App asks with %s and %s: one of them is not set", AppVariable, KeyVariable)
	}
	key, err := parseKey(s.Key)
	if err != nil {
		return nil, nil, err
	}
	if app, err = client(&appKey{id: s.App, key: key, now: c.now}); err != nil {
		return nil, nil, err
	}
	api, err = client(&installation{client: c, now: c.now})
	return api, app, err
}

// Repository is owner/name.
func (c *Client) Repository() string { return c.owner + "/" + c.name }

// API is the base URL of the calls.
func (c *Client) API() string { return strings.TrimSuffix(c.api.BaseURL.Redacted(), "/") }

var repositoryPattern = regexp.MustCompile(`^([A-Za-z0-9-]+(?:_[A-Za-z0-9]+)?)/([A-Za-z0-9._-]+)$`)

func splitRepository(s string) (owner, name string, err error) {
	if s == "" {
		return "", "", ErrNoRepository
	}
	parts := repositoryPattern.FindStringSubmatch(s)
	if parts == nil || parts[2] == "." || parts[2] == ".." {
		return "", "", fmt.Errorf("%s=%q names no repository: set it to owner/name", RepositoryVariable, s)
	}
	return parts[1], parts[2], nil
}

// apiURL reads the base URL. Tokens travel over TLS, on loopback aside.
func apiURL(s string) (*url.URL, error) {
	if s == "" {
		s = "https://api.github.com"
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return nil, fmt.Errorf("%s is no URL like https://api.github.com or https://github.example.org/api/v3", APIVariable)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%s holds more than a host and a path: credentials go into %s", APIVariable, TokenVariable)
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("%s=%s would send the token in clear: use https", APIVariable, u)
	}
	return u, nil
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// sameRequest follows redirects of reads only: Go would turn a redirected
// write into a read.
func sameRequest(_ *http.Request, via []*http.Request) error {
	if len(via) > 3 || via[0].Method != http.MethodGet {
		return http.ErrUseLastResponse
	}
	return nil
}

// errTooLong means that a wait would end after the caller's deadline.
var errTooLong = errors.New("the wait would outlast the caller")

func sleep(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return errTooLong
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// pages calls read for page after page until there is none or read says stop.
func pages(read func(gh.ListOptions) (resp *gh.Response, stop bool, err error)) error {
	options := gh.ListOptions{PerPage: 100, Page: 1}
	for {
		resp, stop, err := read(options)
		if err != nil || stop || resp.NextPage <= options.Page {
			return err
		}
		options.Page = resp.NextPage
	}
}
