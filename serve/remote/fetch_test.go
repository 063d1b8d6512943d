package remote

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var (
	here   = netip.MustParseAddr("127.0.0.1") // stands for an address of the Internet
	inside = netip.MustParseAddr("127.0.0.2") // stands for a private one
)

// world is a real server that pictures.test leads to.
type world struct {
	*Fetcher
	at      string // http://pictures.test:port
	port    string
	visits  atomic.Int32
	lookups atomic.Int32
}

// newWorld allows pictures.test and other.test at the server's port.
func newWorld(t *testing.T, handler http.HandlerFunc) *world {
	t.Helper()
	w := &world{}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.visits.Add(1)
		handler(rw, r)
	}))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	w.port = u.Port()
	w.at = "http://pictures.test:" + w.port
	w.Fetcher = w.fetcher(t, w.at, "http://other.test:"+w.port, "http://inside.test:"+w.port)
	return w
}

func (w *world) fetcher(t *testing.T, allowed ...string) *Fetcher {
	t.Helper()
	f, err := New(Options{Allowed: allowed, MaxBytes: 1000, Timeout: 400 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	f.permits = func(a netip.Addr) bool { return a == here || public(a) }
	f.lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
		w.lookups.Add(1)
		if host == "inside.test" {
			return []netip.Addr{here, inside}, nil
		}
		return []netip.Addr{netip.AddrFrom16(here.As16())}, nil // mapped, as resolvers may give it
	}
	return f
}

func picture(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "image/png")
	fmt.Fprint(w, "a picture")
}

// wantRefused also looks that the client is told nothing that it did not say.
func wantRefused(t *testing.T, err error, reason Reason, said ...string) *Refused {
	t.Helper()
	var r *Refused
	if !errors.As(err, &r) || r.Reason != reason {
		t.Fatalf("%v (%+v), want %q", err, r, reason)
	}
	for _, secret := range []string{here.String(), inside.String(), "refused", "lookup", "418"} {
		if strings.Contains(r.Text, secret) && !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, secret) }) {
			t.Errorf("the client is told %q: %s", secret, r.Text)
		}
	}
	return r
}

func TestGetFetchesFromAnAllowedHost(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.Host != "pictures.test:"+r.URL.Query().Get("port") || r.Header.Get("Cookie") != "" || r.Header.Get("Authorization") != "" {
			t.Errorf("%s %v", r.Host, r.Header)
		}
		picture(rw, r)
	})
	data, err := w.Get(t.Context(), w.at+"/chest.png?port="+w.port+"#part")
	if err != nil || string(data) != "a picture" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestGetVerifiesTheNameByTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(picture)) // its certificate is of example.com
	server.Config.ErrorLog = log.New(t.Output(), "", 0)
	server.StartTLS()
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{port: port}
	f := w.fetcher(t, "example.com:"+port, "pictures.test:"+port)
	f.tls = &tls.Config{RootCAs: x509.NewCertPool()}
	f.tls.RootCAs.AddCert(server.Certificate())
	if data, err := f.Get(t.Context(), "https://example.com:"+port+"/"); err != nil || string(data) != "a picture" {
		t.Errorf("%q, %v", data, err)
	}
	_, err = f.Get(t.Context(), "https://pictures.test:"+port+"/")
	wantRefused(t, err, Unreachable)
}

func TestURLsOutsideTheListAreRefusedWithoutALookup(t *testing.T) {
	w := newWorld(t, picture)
	for raw, reason := range map[string]Reason{
		"http://127.0.0.1:" + w.port + "/":                 NotAllowed,
		"http://2130706433:" + w.port + "/":                BadURL, // 127.0.0.1 in decimal
		"http://0177.0.0.1:" + w.port + "/":                BadURL, // in octal
		"http://0x7f000001:" + w.port + "/":                BadURL, // in hexadecimal
		"http://0x7f.1:" + w.port + "/":                    BadURL,
		"http://127.1:" + w.port + "/":                     BadURL,
		"http://[::1]:" + w.port + "/":                     NotAllowed,
		"http://[::ffff:127.0.0.1]:" + w.port + "/":        BadURL,
		"http://[0:0:0:0:0:0:0:1]/":                        BadURL,
		"http://[fe80::1%25eth0]/":                         BadURL,
		"http://localhost:" + w.port + "/":                 NotAllowed,
		"http://pictures.test/":                            NotAllowed, // another port
		"https://pictures.test:" + w.port + "/":            NotAllowed, // only http is listed
		"http://pictures.test.:" + w.port + "/":            BadURL,
		"http://pictures.test.evil.test:" + w.port + "/":   NotAllowed,
		"http://evil.test:" + w.port + "/pictures.test":    NotAllowed,
		"http://pictures.test:" + w.port + "@evil.test/":   BadURL,
		"http://user:secret@pictures.test:" + w.port + "/": BadURL,
		"http://pictures.test:0" + w.port + "/":            BadURL,
		"http://pictures.test:99999/":                      BadURL,
		"http://pictures。test:" + w.port + "/":             BadURL, // a full stop of Japanese
		"file:///etc/passwd":                               BadURL,
		"gopher://pictures.test:" + w.port + "/":           BadURL,
		"//pictures.test:" + w.port + "/":                  BadURL,
		"http:pictures.test":                               BadURL,
		"http://pictures.test:" + w.port + "/\x00":         BadURL,
		"":                                       BadURL,
		w.at + "/" + strings.Repeat("a", maxURL): BadURL,
	} {
		_, err := w.Get(t.Context(), raw)
		r := wantRefused(t, err, reason, raw)
		if strings.Contains(r.Text, "secret") {
			t.Errorf("the credentials are repeated: %s", r.Text)
		}
	}
	if w.visits.Load() != 0 || w.lookups.Load() != 0 {
		t.Errorf("%d visits, %d lookups", w.visits.Load(), w.lookups.Load())
	}
}

func TestANameThatAlsoLeadsInsideIsNotFetched(t *testing.T) {
	w := newWorld(t, picture)
	_, err := w.Get(t.Context(), "http://inside.test:"+w.port+"/")
	wantRefused(t, err, NotAllowed)
	if w.visits.Load() != 0 {
		t.Error("it was visited at its other address")
	}
}

func TestASecondAnswerOfDNSChangesNothing(t *testing.T) {
	w := newWorld(t, picture)
	w.lookup = func(context.Context, string) ([]netip.Addr, error) {
		if w.lookups.Add(1) > 1 {
			return []netip.Addr{inside}, nil
		}
		return []netip.Addr{here}, nil
	}
	if data, err := w.Get(t.Context(), w.at+"/"); err != nil || string(data) != "a picture" || w.lookups.Load() != 1 {
		t.Errorf("%q, %v after %d lookups", data, err, w.lookups.Load())
	}
	_, err := w.Get(t.Context(), w.at+"/")
	wantRefused(t, err, NotAllowed)
}

// Were a check before it ever missing, the socket itself would still refuse.
func TestTheSocketRefusesAnAddressThatIsNotAllowed(t *testing.T) {
	w := newWorld(t, picture)
	first := true
	w.permits = func(netip.Addr) bool { before := first; first = false; return before }
	_, err := w.Get(t.Context(), w.at+"/")
	r := wantRefused(t, err, Unreachable)
	if !strings.Contains(r.Cause.Error(), "not an address of the Internet") || w.visits.Load() != 0 {
		t.Errorf("%v, %d visits", r.Cause, w.visits.Load())
	}
}

func TestRedirectsAreCheckedLikeTheFirstURL(t *testing.T) {
	to := ""
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/there" {
			picture(rw, r)
			return
		}
		http.Redirect(rw, r, to, http.StatusFound)
	})
	for _, c := range []struct {
		to     string
		reason Reason // empty: fetched
	}{
		{"http://other.test:" + w.port + "/there", ""},
		{"/there", ""},
		{"http://127.0.0.1:" + w.port + "/there", NotAllowed},
		{"http://inside.test:" + w.port + "/there", NotAllowed},
		{"http://169.254.169.254/latest/meta-data/", NotAllowed},
		{"http://2852039166/latest/meta-data/", BadURL},
		{"http://a:b@pictures.test:" + w.port + "/there", BadURL},
		{"ftp://pictures.test/there", BadURL},
		{"/again", Unreachable},
	} {
		to = c.to
		data, err := w.Get(t.Context(), w.at+"/")
		if c.reason == "" {
			if err != nil || string(data) != "a picture" {
				t.Errorf("%s: %q, %v", c.to, data, err)
			}
			continue
		}
		if r := wantRefused(t, err, c.reason); c.to != "/again" && (r.Cause == nil || strings.Contains(r.Text, "inside")) {
			t.Errorf("%s: %q, %v", c.to, r.Text, r.Cause)
		}
	}
	before := w.visits.Load()
	to = "/again"
	_, err := w.Get(t.Context(), w.at+"/")
	wantRefused(t, err, Unreachable)
	if n := w.visits.Load() - before; n != 1+maxRedirects {
		t.Errorf("%d visits for one URL", n)
	}
}

func TestAStepFromHTTPSToHTTPIsRefused(t *testing.T) {
	w := newWorld(t, picture)
	server := httptest.NewTLSServer(http.RedirectHandler(w.at+"/", http.StatusFound))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f := w.fetcher(t, "example.com:"+port, w.at)
	f.tls = &tls.Config{RootCAs: x509.NewCertPool()}
	f.tls.RootCAs.AddCert(server.Certificate())
	_, err = f.Get(t.Context(), "https://example.com:"+port+"/")
	wantRefused(t, err, NotAllowed)
	if w.visits.Load() != 0 {
		t.Error("it was followed")
	}
}

func TestAnswersOutsideTheBoundsAreRefused(t *testing.T) {
	bomb := &bytes.Buffer{}
	z := gzip.NewWriter(bomb)
	if _, err := z.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	image := func(w http.ResponseWriter) { w.Header().Set("Content-Type", "image/jpeg") }
	drip := func(w http.ResponseWriter, r *http.Request) {
		image(w)
		for r.Context().Err() == nil {
			fmt.Fprint(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		reason Reason
	}{
		"huge by its length": {func(w http.ResponseWriter, _ *http.Request) {
			image(w)
			w.Header().Set("Content-Length", "1000000000000")
			w.WriteHeader(200)
		}, TooLarge},
		"huge without a length": {func(w http.ResponseWriter, r *http.Request) {
			image(w)
			for range 1 << 20 { // ends when the fetcher hangs up
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
			t.Error("all of it was read")
		}, TooLarge},
		"slow body":   {drip, Unreachable},
		"slow header": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, Unreachable},
		"gzip bomb": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "identity" {
				t.Error("compression is asked for")
			}
			image(w)
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(bomb.Bytes())
		}, NoPicture},
		"a page":    {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, NoPicture},
		"no type":   {func(w http.ResponseWriter, _ *http.Request) { w.Header()["Content-Type"] = nil; fmt.Fprint(w, "?") }, NoPicture},
		"not found": {http.NotFound, Unreachable},
		"a teapot":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(418) }, Unreachable},
		"partial":   {func(w http.ResponseWriter, _ *http.Request) { image(w); w.WriteHeader(206) }, Unreachable},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			image(w)
			w.Header().Set("Content-Length", "9")
			fmt.Fprint(w, "x")
		}, Unreachable},
		"a long header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 2*maxHeader))
			image(w)
		}, Unreachable},
		"nowhere to go": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(302) }, Unreachable},
		"a broken place": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://[::1")
			w.WriteHeader(302)
		}, Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.answer)
			began := time.Now()
			_, err := w.Get(t.Context(), w.at+"/")
			wantRefused(t, err, c.reason)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestAHostThatCannotBeReachedIsNotDescribed(t *testing.T) {
	w := newWorld(t, picture)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := "http://pictures.test:" + strings.TrimPrefix(closed.Addr().String(), "127.0.0.1:")
	closed.Close()
	f := w.fetcher(t, at, "http://nowhere.test")
	_, err = f.Get(t.Context(), at)
	deaf := wantRefused(t, err, Unreachable)
	f.lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("lookup: no such host") }
	_, err = f.Get(t.Context(), "http://nowhere.test/")
	unknown := wantRefused(t, err, Unreachable)
	if strings.ReplaceAll(deaf.Text, "pictures", "nowhere") != unknown.Text || deaf.Cause == nil || unknown.Cause == nil {
		t.Errorf("a client can tell a deaf host from one that does not exist: %q, %q", deaf.Text, unknown.Text)
	}
}

func TestAClientThatLeavesEndsTheFetch(t *testing.T) {
	begun := make(chan struct{})
	w := newWorld(t, func(_ http.ResponseWriter, r *http.Request) { close(begun); <-r.Context().Done() })
	w.o.Timeout = time.Minute
	gone := errors.New("the client went away")
	ctx, leave := context.WithCancelCause(t.Context())
	go func() { <-begun; leave(gone) }()
	if _, err := w.Get(ctx, w.at+"/"); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
}

func TestProxiesOfTheEnvironmentAreNotUsed(t *testing.T) {
	proxied := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") }))
	defer proxied.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxied.URL)
	}
	w := newWorld(t, picture)
	if _, err := w.Get(t.Context(), w.at+"/"); err != nil {
		t.Error(err)
	}
}

func TestAddressesThatAreNotOfTheInternet(t *testing.T) {
	for _, text := range []string{
		"0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.0.1", "168.63.129.16",
		"169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.168.1.1", "198.18.0.1",
		"198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1",
		"2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "5f00::1",
	} {
		if public(netip.MustParseAddr(text)) {
			t.Errorf("%s passes", text)
		}
	}
	for _, text := range []string{"1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "::ffff:8.8.8.8", "2606:4700::1111", "2a00:1450::1"} {
		if !public(netip.MustParseAddr(text)) {
			t.Errorf("%s does not pass", text)
		}
	}
	if public(netip.Addr{}) {
		t.Error("no address passes")
	}
}

func TestTheListOfHostsIsReadStrictly(t *testing.T) {
	for _, entry := range []string{
		"", "*", "*.example.com", "example.com/pictures", "https://example.com/", "ftp://example.com", "user@example.com", "example.com:", ":443",
		"example.com:0", "example.com:https", "example.com?x", "exa mple.com", "10.0.0.1", "localhost:80/", "127.0.0.1:80", "[::1]:80", "http://169.254.169.254",
		"[::ffff:1.2.3.4]", "2130706433", "0x7f.1", "bücher.example", "-a.example", "example.com.",
	} {
		if _, err := New(Options{Allowed: []string{entry}, MaxBytes: 1, Timeout: 1}); err == nil {
			t.Errorf("%q is taken", entry)
		}
	}
	for entry, want := range map[string]string{
		"Example.com": "https://example.com:443", "example.com:8443": "https://example.com:8443",
		"http://example.com": "http://example.com:80", "8.8.8.8": "https://8.8.8.8:443", "[2606:4700::1111]:8443": "https://[2606:4700::1111]:8443",
	} {
		f, err := New(Options{Allowed: []string{entry}, MaxBytes: 1, Timeout: 1})
		if err != nil || f.allowed[0].String() != want {
			t.Errorf("%q: %v, %v, want %s", entry, f, err, want)
		}
	}
	for _, o := range []Options{{MaxBytes: 1, Timeout: 1}, {Allowed: []string{"a.example"}, Timeout: 1}, {Allowed: []string{"a.example"}, MaxBytes: 1}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}
