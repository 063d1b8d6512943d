// Package remote owns the fetching of a picture from a URL that a client gives.
// What a server fetches for others is a way into its own network, so everything
// is bounded and nothing is followed blindly.
//
// Fetched is what an allowed host (exact, with its port; https unless its entry
// says http) gives with status 200 as an image, within a size and a time. A
// name is resolved once and dialled by the addresses that were checked, so that
// a second answer of DNS changes nothing. Redirects are few, and each is
// checked like the first URL.
//
// Refused: every address that is not one of the Internet, credentials in URLs,
// compressed answers, a step from https to http. Never used: proxies of the
// environment, cookies, connections of another request.
//
// What a client is told names the host that it gave and never what was found
// there: no address, no port that answered, no status text. The cause is for
// the log.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Bounds of a fetch beside those of Options.
const (
	maxURL       = 2048 // bytes
	maxRedirects = 3
	maxHeader    = 64 << 10 // bytes
	dialTerm     = 3 * time.Second
)

// Reason says why there is no picture.
type Reason string

// Reasons.
const (
	BadURL      Reason = "url"         // it cannot be understood, or has what it may not have
	NotAllowed  Reason = "not-allowed" // the host is not on the list, or not one of the Internet
	TooLarge    Reason = "too-large"
	NoPicture   Reason = "no-picture"  // the answer says that it is none
	Unreachable Reason = "unreachable" // no answer, or none that was a success, in time
)

// Refused is why a picture was not fetched. Its text is for the client, Cause
// for the log only.
type Refused struct {
	Reason Reason
	Text   string
	Cause  error // may be nil
}

func (r *Refused) Error() string { return r.Text }

func refuse(reason Reason, cause error, format string, args ...any) *Refused {
	return &Refused{Reason: reason, Text: fmt.Sprintf(format, args...), Cause: cause}
}

// Options are the bounds of a fetch.
type Options struct {
	Allowed  []string      // host, host:port, http://host[:port]
	MaxBytes int64         // of the picture
	Timeout  time.Duration // of everything, redirects included
}

// Fetcher is safe for concurrent use.
type Fetcher struct {
	allowed []origin
	o       Options
	lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	permits func(netip.Addr) bool // public; only a test of this package has another
	tls     *tls.Config           // nil: the system's roots
}

// New makes a fetcher of the allowed hosts.
func New(o Options) (*Fetcher, error) {
	if len(o.Allowed) == 0 || o.MaxBytes <= 0 || o.Timeout <= 0 {
		return nil, errors.New("fetching pictures: want at least one allowed host, a size and a time above 0")
	}
	f := &Fetcher{o: o, permits: public, lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}}
	for _, entry := range o.Allowed {
		allowed, err := parseAllowed(entry)
		if err != nil {
			return nil, err
		}
		f.allowed = append(f.allowed, allowed)
	}
	return f, nil
}

// Get fetches the picture. Errors are *Refused, or ctx's cause when the client
// left.
func (f *Fetcher) Get(ctx context.Context, rawURL string) ([]byte, error) {
	if len(rawURL) > maxURL {
		return nil, refuse(BadURL, nil, "the URL has more than %d bytes", maxURL)
	}
	u, err := url.Parse(rawURL)
	if err != nil { // which repeats the URL: neither for the client nor for the log
		return nil, refuse(BadURL, nil, "the URL cannot be understood")
	}
	within, cancel := context.WithTimeout(ctx, f.o.Timeout)
	defer cancel()
	for led := range 1 + maxRedirects {
		data, next, err := f.hop(within, u)
		switch {
		case err == nil && next == nil:
			return data, nil
		case err != nil && ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil && led > 0:
			return nil, elsewhere(err)
		case err != nil:
			return nil, err
		}
		if u.Scheme == "https" && next.Scheme == "http" {
			return nil, refuse(NotAllowed, nil, "the URL leads from https to http")
		}
		u = next
	}
	return nil, refuse(Unreachable, nil, "the URL leads on more than %d times", maxRedirects)
}

// elsewhere keeps from the client where the URL that it gave leads on to.
func elsewhere(err error) error {
	var r *Refused
	if !errors.As(err, &r) || r.Reason == TooLarge {
		return err
	}
	return refuse(r.Reason, errors.Join(r, r.Cause), "the URL leads on to where no picture can be fetched")
}

// hop fetches from one URL, or gives where it leads on.
func (f *Fetcher) hop(ctx context.Context, u *url.URL) ([]byte, *url.URL, error) {
	o, err := f.check(u)
	if err != nil {
		return nil, nil, err
	}
	addresses, err := f.resolve(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	transport := f.transport(o, addresses)
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, nil, refuse(BadURL, nil, "the URL cannot be understood") // err repeats it
	}
	request.Header.Set("User-Agent", "penstock-serve")
	request.Header.Set("Accept", "image/png, image/jpeg")
	request.Header.Set("Accept-Encoding", "identity")
	response, err := transport.RoundTrip(request) // no client: no cookies, no redirects by itself
	if err != nil {
		return nil, nil, f.unreachable(ctx, o, err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		data, err := f.read(ctx, o, response)
		return data, nil, err
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		next, err := response.Location()
		if err != nil {
			return nil, nil, refuse(Unreachable, fmt.Errorf("%s leads on to what is no URL", o), "the URL leads on to an address that cannot be understood")
		}
		return nil, next, nil
	}
	return nil, nil, refuse(Unreachable, fmt.Errorf("%s answered %s", o, response.Status), "%s gives no picture at this URL", o.host)
}

// check holds a URL to the list.
func (f *Fetcher) check(u *url.URL) (origin, error) {
	if u.User != nil {
		return origin{}, refuse(BadURL, nil, "the URL holds credentials: none are sent")
	}
	if u.Opaque != "" || u.Host == "" {
		return origin{}, refuse(BadURL, nil, "the URL is not of the form https://host/path")
	}
	o, why := originOf(u)
	if why != "" {
		return o, refuse(BadURL, nil, "the URL cannot be fetched: %s", why)
	}
	if !slices.Contains(f.allowed, o) {
		return o, refuse(NotAllowed, nil, "pictures are not fetched from %s: the server's operator lists the hosts (--allow-url-host)", o)
	}
	return o, nil
}

// resolve finds the addresses of a host, all of which must be allowed: a name
// that leads inside as well is not tried at its other address.
func (f *Fetcher) resolve(ctx context.Context, o origin) ([]netip.Addr, error) {
	addresses := []netip.Addr{}
	if a, err := netip.ParseAddr(o.host); err == nil {
		addresses = append(addresses, a)
	} else if addresses, err = f.lookup(ctx, o.host); err != nil {
		return nil, f.unreachable(ctx, o, err)
	}
	if len(addresses) == 0 {
		return nil, f.unreachable(ctx, o, errors.New("the name has no address"))
	}
	for _, a := range addresses {
		if !f.permits(a.Unmap()) {
			return nil, refuse(NotAllowed, fmt.Errorf("%s has the address %s", o.host, a), "pictures are not fetched from %s: it is not a host of the Internet", o.host)
		}
	}
	return addresses, nil
}

// transport reaches exactly these addresses, for one request.
func (f *Fetcher) transport(o origin, addresses []netip.Addr) *http.Transport {
	dialer := net.Dialer{Timeout: dialTerm, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		// the socket's own address, whatever led to it
		if a, err := netip.ParseAddrPort(address); err != nil || !f.permits(a.Addr().Unmap()) {
			return fmt.Errorf("%s is not an address of the Internet", address)
		}
		return nil
	}}
	return &http.Transport{
		Proxy: nil, DisableKeepAlives: true, DisableCompression: true,
		MaxResponseHeaderBytes: maxHeader, TLSClientConfig: f.tls, TLSHandshakeTimeout: dialTerm,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var failed error
			for _, a := range addresses {
				c, err := dialer.DialContext(ctx, network, net.JoinHostPort(a.Unmap().String(), o.port))
				if err == nil {
					return c, nil
				}
				failed = errors.Join(failed, err)
			}
			return nil, failed
		},
	}
}

// read takes the body of a success, as long as it is a picture by what it says
// and within the size. What it really is, the decoder finds.
func (f *Fetcher) read(ctx context.Context, o origin, response *http.Response) ([]byte, error) {
	media, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(media, "image/") && media != "application/octet-stream" && media != "binary/octet-stream" {
		return nil, refuse(NoPicture, fmt.Errorf("%s answered with Content-Type %q", o, response.Header.Get("Content-Type")), "what %s gives at this URL is not an image", o.host)
	}
	if coding := response.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, refuse(NoPicture, fmt.Errorf("%s answered with Content-Encoding %q", o, coding), "%s gives the picture compressed, which was not asked for", o.host)
	}
	tooLarge := refuse(TooLarge, nil, "the picture at the URL has more than %d bytes", f.o.MaxBytes)
	if response.ContentLength > f.o.MaxBytes {
		return nil, tooLarge
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, f.o.MaxBytes+1))
	if err != nil {
		return nil, f.unreachable(ctx, o, err)
	}
	if int64(len(data)) > f.o.MaxBytes {
		return nil, tooLarge
	}
	return data, nil
}

// unreachable says the same of all that can happen on the way, but for the
// time, which is known anyway.
func (f *Fetcher) unreachable(ctx context.Context, o origin, cause error) *Refused {
	if ctx.Err() != nil {
		return refuse(Unreachable, cause, "the picture did not come from %s within %s", o.host, f.o.Timeout)
	}
	return refuse(Unreachable, cause, "the picture cannot be fetched from %s", o.host)
}
