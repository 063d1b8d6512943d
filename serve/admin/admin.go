// Package admin owns the private side of the server: telling it which digest
// to serve, and its metrics. It never listens where the public side does.
//
//	GET|PUT /admin/v1/models/{name}   {digest, state, reason, serving}
//	GET     /metrics
//	GET     /health
//
// Who may: with a token, who knows it; without one, whoever reaches the
// listener, which then must be on loopback. Off loopback the listener wants a
// token and TLS, for /metrics too. /health says nothing and is always open.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/host"
)

// loadTerm bounds a load: download, goldens, warm-up.
const loadTerm = 2 * time.Minute

// maxBody bounds a request's body, in bytes.
const maxBody = 64 << 10

// Host is the model name that is administered.
type Host interface {
	Name() string
	Status() host.Status
	Assign(ctx context.Context, digest string) (host.Status, error)
}

// Access says who may.
type Access struct {
	Token    string // empty: everybody who reaches the listener
	Loopback bool   // the listener is on loopback
}

// Server answers on the admin listener.
type Server struct {
	host    Host
	access  Access
	metrics http.Handler
}

// New makes the private side.
func New(h Host, access Access, metrics http.Handler) *Server {
	return &Server{host: h, access: access, metrics: metrics}
}

// CheckListener refuses an admin address that the world could reach without
// TLS and a token.
func CheckListener(address, token string, tls bool) (Access, error) {
	addressHost, _, err := net.SplitHostPort(address)
	if err != nil {
		return Access{}, fmt.Errorf("admin address %q: want host:port: %w", address, err)
	}
	ip := net.ParseIP(addressHost)
	loopback := addressHost == "localhost" || (ip != nil && ip.IsLoopback())
	switch {
	case loopback:
	case token == "":
		return Access{}, fmt.Errorf("the admin listener %s is not on loopback: set PENSTOCK_ADMIN_TOKEN", address)
	case !tls:
		return Access{}, fmt.Errorf("the admin listener %s is not on loopback and would send its token in the clear: give --tls-cert and --tls-key, or listen on 127.0.0.1", address)
	}
	return Access{Token: token, Loopback: loopback}, nil
}

// Handler is the private side's routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /admin/v1/models/{name}", s.authorised(http.HandlerFunc(s.status)))
	mux.Handle("PUT /admin/v1/models/{name}", s.authorised(http.HandlerFunc(s.assign)))
	metrics := s.metrics
	if !s.access.Loopback {
		metrics = s.authorised(metrics)
	}
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, oip.Live{Live: true}) })
	return mux
}

// authorised compares digests of the tokens: equal lengths, constant time.
func (s *Server) authorised(next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(s.access.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.access.Token != "" {
			scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			got := sha256.Sum256([]byte(token))
			if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				w.Header().Set("WWW-Authenticate", "Bearer")
				fail(w, http.StatusUnauthorized, "the admin token is missing or wrong: send Authorization: Bearer, as in PENSTOCK_ADMIN_TOKEN")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) known(w http.ResponseWriter, r *http.Request) bool {
	if name := r.PathValue("name"); name != s.host.Name() {
		fail(w, http.StatusNotFound, fmt.Sprintf("no model %q here: this server serves %q", name, s.host.Name()))
		return false
	}
	return true
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	if s.known(w, r) {
		reply(w, http.StatusOK, s.host.Status())
	}
}

// assign loads and answers when that is done, well or not. It is idempotent: a
// digest that answers already is left alone.
func (s *Server) assign(w http.ResponseWriter, r *http.Request) {
	if !s.known(w, r) {
		return
	}
	digest, err := digestOf(w, r)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	// A load goes to its end although the caller may hang up: it asks again and
	// finds it done.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), loadTerm)
	defer cancel()
	status, err := s.host.Assign(ctx, digest)
	if err != nil {
		reply(w, statusOf(err), host.Status{Digest: digest, State: host.Failed, Reason: err.Error(), Serving: status.Serving})
		return
	}
	reply(w, http.StatusOK, status)
}

// statusOf tells a bundle that is refused from one that could not be fetched,
// of which nothing is known.
func statusOf(err error) int {
	if errors.Is(err, bundle.ErrUnavailable) {
		return http.StatusServiceUnavailable
	}
	return http.StatusUnprocessableEntity
}

func digestOf(w http.ResponseWriter, r *http.Request) (string, error) {
	// The other fields are what GET answers: who sends them back is understood.
	var wanted host.Status
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&wanted); err != nil {
		return "", fmt.Errorf(`the body must be {"digest": "..."}: %w`, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return "", errors.New(`the body goes on after {"digest": "..."}`)
	}
	if !bundle.ValidDigest(wanted.Digest) {
		return "", fmt.Errorf(`the body must be {"digest": "..."} with 64 lower-case hex digits, not %q`, wanted.Digest)
	}
	return wanted.Digest, nil
}

func fail(w http.ResponseWriter, status int, text string) {
	reply(w, status, oip.Error{Error: text})
}

func reply(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// An error here means that the client is gone: there is nobody to tell.
	_, _ = w.Write(append(data, '\n'))
}
