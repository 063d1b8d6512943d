// Package api owns the public side of the server: images in, scores out, the
// Open Inference Protocol over REST, health. It never changes which model
// answers and shows no metrics.
//
// Whose fault an answer is, is kept apart strictly: 4xx for the sender's, 5xx
// for the model's or the server's; a model's fault never looks like a bad
// picture, as the canary is judged by it. Every answer that is no success has
// the body {"error": "..."}.
//
// Refused: bodies and pictures above the limits, everything that is not a PNG
// or a JPEG, more than one file in a form.
package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/host"
	"github.com/penstock-ml/penstock/serve/metrics"
	"github.com/penstock-ml/penstock/serve/model"
)

// Response headers.
const (
	DigestHeader    = "Penstock-Model-Digest"
	RequestIDHeader = "Penstock-Request-Id"
)

// Host is the model that answers.
type Host interface {
	Name() string
	Use() (m *model.Model, release func(), err error)
}

// Counter is told what became of every request for a prediction.
type Counter interface {
	Count(metrics.Request)
}

// Server answers on the public listener.
type Server struct {
	host     Host
	counter  Counter
	log      *slog.Logger
	version  string
	slo      time.Duration
	limits   imaging.Limits
	draining atomic.Bool
}

// New makes the public side. slo is the time after which a client that gives
// up is not to blame.
func New(h Host, c Counter, log *slog.Logger, version string, slo time.Duration) *Server {
	return &Server{host: h, counter: c, log: log, version: version, slo: slo, limits: imaging.DefaultLimits}
}

// Drain makes the server say that it is not ready, so that balancers turn away.
func (s *Server) Drain() { s.draining.Store(true) }

// Handler is the public side's routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	routes := []struct {
		method, path string
		answer       http.HandlerFunc
	}{
		{"POST", "/v1/models/{name}/predict", s.counted(s.predict)},
		{"GET", "/v2", s.server},
		{"GET", "/v2/health/live", s.live},
		{"GET", "/v2/health/ready", s.ready},
		{"GET", "/v2/models/{name}", s.metadata},
		{"GET", "/v2/models/{name}/ready", s.modelReady},
		{"POST", "/v2/models/{name}/infer", s.counted(s.infer)},
		{"GET", "/v2/models/{name}/versions/{version}", s.metadata},
		{"GET", "/v2/models/{name}/versions/{version}/ready", s.modelReady},
		{"POST", "/v2/models/{name}/versions/{version}/infer", s.counted(s.infer)},
	}
	for _, r := range routes {
		mux.HandleFunc(r.method+" "+r.path, r.answer)
		mux.HandleFunc(r.path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", r.method)
			s.fail(w, &problem{http.StatusMethodNotAllowed, "this address takes " + r.method + " only"})
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		s.fail(w, &problem{http.StatusNotFound, "no such address"})
	})
	return s.guarded(mux)
}

// problem is an answer that is no success.
type problem struct {
	status int
	text   string
}

func (p *problem) Error() string { return p.text }

// statusGone is what proxies write for a client that went away; nobody gets it.
const statusGone = 499

// classify finds the status of an error: whose fault it was.
func classify(err error) *problem {
	var known *problem
	var picture *imaging.Error
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &tooLong):
		return &problem{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", tooLong.Limit)}
	case errors.As(err, &picture):
		return &problem{statusOf(picture.Code), picture.Error()}
	case errors.Is(err, host.ErrNoModel), errors.Is(err, model.ErrClosed):
		return &problem{http.StatusServiceUnavailable, "no model is loaded yet"}
	case errors.Is(err, context.Canceled):
		return &problem{statusGone, "the client went away"}
	}
	return &problem{http.StatusInternalServerError, err.Error()}
}

func statusOf(code imaging.Code) int {
	switch code {
	case imaging.TooLarge:
		return http.StatusRequestEntityTooLarge
	case imaging.Unsupported:
		return http.StatusUnsupportedMediaType
	}
	return http.StatusBadRequest
}

func (s *Server) fail(w http.ResponseWriter, p *problem) {
	s.reply(w, p.status, oip.Error{Error: p.text})
}

func (s *Server) reply(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil { // NaN cannot come this far
		status, data = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", fmt.Sprint(len(data)+1))
	w.WriteHeader(status)
	// An error here means that the client is gone: there is nobody to tell.
	_, _ = w.Write(append(data, '\n'))
}

// guarded gives every request its id, and keeps a panic in the request that
// caused it.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := strings.ToLower(rand.Text())
		w.Header().Set(RequestIDHeader, id)
		defer func() {
			if v := recover(); v != nil {
				s.log.Error("a request broke", "request", id, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				s.fail(w, &problem{http.StatusInternalServerError, "the server broke on this request"})
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// exchange is one request for a prediction under way.
type exchange struct {
	id     string
	digest string    // of the model that answers, once it is known
	began  time.Time // when the request's last byte had come
}

// counted runs answer, writes what it gives or why not, and counts it once,
// panics included.
func (s *Server) counted(answer func(e *exchange, w http.ResponseWriter, r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		e := &exchange{id: w.Header().Get(RequestIDHeader), digest: metrics.NoDigest, began: time.Now()}
		status := http.StatusInternalServerError
		defer func() {
			s.counter.Count(metrics.Request{Digest: e.digest, Outcome: s.outcome(status, e), Took: time.Since(e.began)})
		}()
		var body any
		err := s.unknownModel(r)
		if err == nil {
			body, err = answer(e, w, r)
		}
		if e.digest != metrics.NoDigest {
			w.Header().Set(DigestHeader, e.digest)
		}
		if err == nil {
			status = http.StatusOK
			s.reply(w, status, body)
			return
		}
		p := classify(err)
		status = p.status
		if status >= http.StatusInternalServerError {
			s.log.Error("a request failed", "request", e.id, "digest", e.digest, "status", status, "reason", err)
		}
		s.fail(w, p)
	}
}

// unknownModel refuses a path that names another model.
func (s *Server) unknownModel(r *http.Request) error {
	if name := r.PathValue("name"); name != s.host.Name() {
		return &problem{http.StatusNotFound, fmt.Sprintf("no model %q here: this server serves %q", name, s.host.Name())}
	}
	return nil
}

// outcome blames the sender for a 4xx, except where it gave up after waiting
// longer than the slo.
func (s *Server) outcome(status int, e *exchange) metrics.Outcome {
	switch {
	case status < http.StatusBadRequest:
		return metrics.OK
	case status == statusGone && time.Since(e.began) >= s.slo:
		return metrics.ServerError
	case status < http.StatusInternalServerError:
		return metrics.ClientError
	}
	return metrics.ServerError
}
