package objectstore_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
)

func front(t *testing.T, s3 *servertest.S3, handle func(next http.Handler, w http.ResponseWriter, r *http.Request)) objectstore.Credentials {
	t.Helper()
	target, err := url.Parse(s3.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // the signature covers it
	}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(proxy, w, r) }))
	t.Cleanup(s.Close)
	c := credentials(s3)
	c.Endpoint = s.URL
	return c
}

func failedDownloadKeeps(t *testing.T, s3 *servertest.S3) {
	c := front(t, s3, func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		fmt.Fprint(w, "only this")
	})
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(t, c, "bucket").Download(t.Context(), "k", path); err == nil {
		t.Fatal("a cut download passes")
	}
	data, err := os.ReadFile(path)
	if string(data) != "old" || err != nil {
		t.Errorf("the destination is %q, %v", data, err)
	}
	if left, err := os.ReadDir(dir); len(left) != 1 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func ignoredConditionIsFound(t *testing.T, s3 *servertest.S3) {
	name := servertest.Bucket(t, s3)
	for _, header := range []string{"If-None-Match", "If-Match"} {
		// MinIO does not require these headers to be signed.
		c := front(t, s3, func(next http.Handler, w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && r.Header.Get(header) != "" {
				w.Header().Set("ETag", `"0123"`)
				return
			}
			next.ServeHTTP(w, r)
		})
		err := open(t, c, name).CheckConditional(t.Context())
		if err == nil || !strings.Contains(err.Error(), "ignores "+header) {
			t.Errorf("%s ignored: %v", header, err)
		}
	}
}

func badAccess(t *testing.T, s3 *servertest.S3) {
	name := servertest.Bucket(t, s3)
	key, secret, host := credentials(s3), credentials(s3), credentials(s3)
	key.AccessKey = "nobody"
	secret.SecretKey = "wrong-secret"
	host.Endpoint = "http://" + closedAddress(t)
	for _, c := range []struct {
		credentials objectstore.Credentials
		target      error
		remedy      string
	}{
		{key, objectstore.ErrCredentials, "AWS_ACCESS_KEY_ID"},
		{secret, objectstore.ErrCredentials, "AWS_SECRET_ACCESS_KEY"},
		{host, objectstore.ErrUnreachable, "AWS_ENDPOINT_URL_S3"},
	} {
		b := open(t, c.credentials, name)
		wants(t, b.Ping(t.Context()), c.target, c.remedy)
		_, _, err := b.Get(t.Context(), "k")
		wants(t, err, c.target, c.remedy, "s3://"+name+"/k")
		_, err = b.Put(t.Context(), "k", nil, journal.IfAbsent())
		wants(t, err, c.target, c.remedy)
		_, err = b.List(t.Context(), "raw/")
		wants(t, err, c.target, c.remedy)
		if strings.Contains(err.Error(), c.credentials.SecretKey) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func closedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func clockIsKnown(t *testing.T, s3 *servertest.S3) {
	name := servertest.Bucket(t, s3)
	ahead := 3 * time.Hour
	c := front(t, s3, func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(dated{w, time.Now().Add(ahead)}, r)
	})
	b := open(t, c, name)
	if err := b.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if off := time.Until(b.Now()) - ahead; off < -5*time.Second || off > 5*time.Second {
		t.Errorf("the store's clock is told %s off", off)
	}
}

type dated struct {
	http.ResponseWriter
	date time.Time
}

func (d dated) WriteHeader(status int) {
	d.Header().Set("Date", d.date.UTC().Format(http.TimeFormat))
	d.ResponseWriter.WriteHeader(status)
}

func passing503(t *testing.T, s3 *servertest.S3) {
	var mu sync.Mutex
	failed := map[string]bool{}
	c := front(t, s3, func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		first := !failed[r.Method]
		failed[r.Method] = true
		mu.Unlock()
		if first {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
	b := open(t, c, servertest.Bucket(t, s3))
	put(t, b, "k", "text")
	if data, _, err := b.Get(t.Context(), "k"); string(data) != "text" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
}

func credentialsStaySecret(t *testing.T, c objectstore.Credentials) {
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c)} {
		if strings.Contains(text, c.SecretKey) || strings.Contains(text, c.AccessKey) {
			t.Errorf("%s", text)
		}
	}
}

func TestOpenRefusesBadNamesAndAddresses(t *testing.T) {
	good := objectstore.Credentials{Endpoint: "http://127.0.0.1:9000", AccessKey: "a", SecretKey: "b"}
	for _, name := range []string{"", "ab", "Upper", "a/b", "a b"} {
		if _, err := objectstore.Open(good, name); err == nil || !strings.Contains(err.Error(), "data.bucket") {
			t.Errorf("bucket %q: %v", name, err)
		}
	}
	for _, endpoint := range []string{"", "127.0.0.1:9000", "ftp://host", "http://host/path", "http://"} {
		c := good
		c.Endpoint = endpoint
		if _, err := objectstore.Open(c, "bucket"); err == nil || !strings.Contains(err.Error(), "AWS_ENDPOINT_URL_S3") {
			t.Errorf("endpoint %q: %v", endpoint, err)
		}
	}
}

func TestCredentialsNameEveryMissingVariable(t *testing.T) {
	env := map[string]string{}
	getenv := func(name string) string { return env[name] }
	_, err := objectstore.CredentialsFromEnv(getenv)
	for _, name := range []string{"AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v does not name %s", err, name)
		}
		env[name] = "http://x"
	}
	env["AWS_ENDPOINT_URL"] = "http://general"
	if c, err := objectstore.CredentialsFromEnv(getenv); err != nil || c.Endpoint != "http://x" {
		t.Errorf("%v, %v", c, err)
	}
	delete(env, "AWS_ENDPOINT_URL_S3")
	if c, err := objectstore.CredentialsFromEnv(getenv); err != nil || c.Endpoint != "http://general" || c.Region != "us-east-1" {
		t.Errorf("%v, %v", c, err)
	}
}

// Another server at the store's address knows of no object: that nothing was
// found there must not read as absence, nor a refusal as a lost race.
func TestAnAnswerThatIsNoStoresIsNeitherAbsenceNorConflict(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed} {
		for name, body := range map[string]string{"nothing": "", "JSON": `{"error": "no such address"}`, "a page": "<html><body>not here</body></html>"} {
			t.Run(fmt.Sprintf("%d with %s", status, name), func(t *testing.T) {
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(status)
					fmt.Fprint(w, body)
				}))
				defer s.Close()
				b := open(t, objectstore.Credentials{Endpoint: s.URL, Region: "us-east-1", AccessKey: "a", SecretKey: "b"}, "bucket")
				refused := func(err error) {
					t.Helper()
					if err == nil || errors.Is(err, journal.ErrNotFound) || errors.Is(err, journal.ErrConflict) ||
						errors.Is(err, objectstore.ErrNoBucket) || !strings.Contains(err.Error(), "AWS_ENDPOINT_URL_S3") {
						t.Errorf("got %v", err)
					}
				}
				_, _, err := b.Get(t.Context(), "k")
				refused(err)
				_, err = b.Exists(t.Context(), "k")
				refused(err)
				_, err = b.List(t.Context(), "raw/")
				refused(err)
				_, err = b.Put(t.Context(), "k", nil, journal.IfAbsent())
				refused(err)
				refused(b.Ping(t.Context()))
			})
		}
	}
}
