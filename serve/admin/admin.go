// Package admin owns the private side of the server: telling it which digests
// to serve, and its metrics. It never listens where the public side does.
//
//	GET            /admin/v1/models           {models: [{name, digest, state, …}]}
//	GET|PUT|DELETE /admin/v1/models/{name}    {digest, state, reason, serving, draining, progress, replay}
//	POST           /v2/repository/index       Triton's model repository extension
//	POST           /v2/repository/models/{name}/load, …/unload
//	GET            /metrics
//	GET            /health
//
// A PUT loads and answers when that is done, well or not; a DELETE unloads, and
// the model stays away over restarts. Of Triton's extension the index and
// unload do what they say; load is refused with the remedy, because a name alone
// says nothing of which bundle.
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

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/host"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 64 << 10

// Models is what is administered: names that the server was started for. A
// name that is not among them is host.ErrUnknown.
type Models interface {
	Names() []string
	Status(name string) (host.Status, error)
	Assign(ctx context.Context, name, digest string) (host.Status, error)
	Unload(ctx context.Context, name string) (host.Status, error)
}

// Access says who may.
type Access struct {
	Token    string // empty: everybody who reaches the listener
	Loopback bool   // the listener is on loopback
	Denied   func() // is told of everybody who is turned away for want of the token; may be nil
	Stranger func() // is told of everybody who is turned away as a page of another origin; may be nil
}

// Server answers on the admin listener.
type Server struct {
	models  Models
	access  Access
	metrics http.Handler
}

// New makes the private side.
func New(models Models, access Access, metrics http.Handler) *Server {
	for _, told := range []*func(){&access.Denied, &access.Stranger} {
		if *told == nil {
			*told = func() {}
		}
	}
	return &Server{models: models, access: access, metrics: metrics}
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

// Handler is the private side's routes. Without a token whoever reaches the
// listener may: the pages of strangers, which a browser on this host shows,
// reach it too, and are turned away.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range map[string]http.HandlerFunc{
		"GET /admin/v1/models":                     s.list,
		"GET /admin/v1/models/{name}":              s.status,
		"PUT /admin/v1/models/{name}":              s.assign,
		"DELETE /admin/v1/models/{name}":           s.unload,
		"POST /v2/repository/index":                s.index,
		"POST /v2/repository/models/{name}/load":   s.repositoryLoad,
		"POST /v2/repository/models/{name}/unload": s.repositoryUnload,
	} {
		mux.Handle(pattern, s.authorised(handle))
	}
	metrics := s.metrics
	if !s.access.Loopback {
		metrics = s.authorised(metrics)
	}
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, oip.Live{Live: true}) })
	strangers := http.NewCrossOriginProtection()
	strangers.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.access.Stranger()
		fail(w, http.StatusForbidden, "a page of another origin may not change what is served here")
	}))
	return strangers.Handler(mux)
}

// authorised compares digests of the tokens: equal lengths, constant time.
func (s *Server) authorised(next http.Handler) http.Handler {
	want := sha256.Sum256([]byte(s.access.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.access.Token != "" {
			scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			got := sha256.Sum256([]byte(token))
			if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				s.access.Denied()
				w.Header().Set("WWW-Authenticate", "Bearer")
				fail(w, http.StatusUnauthorized, "the admin token is missing or wrong: send Authorization: Bearer, as in PENSTOCK_ADMIN_TOKEN")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
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
