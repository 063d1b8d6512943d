// Package api owns the public side of the server over HTTP: images in, scores,
// heat maps and enlarged images out, the Open Inference Protocol over REST with
// its binary tensor extension, health, the page, and the OpenAPI document that
// says all this to programs. It never changes which model answers and shows no
// metrics. What a request is, it leaves to serve/service: this package reads,
// calls, and writes.
//
// Every answer that is no success has the body {"error": "..."}; 4xx is the
// sender's fault, 5xx the model's or the server's, 429 the server's refusal to
// be late. Every answer carries its request id, a traceparent (W3C Trace
// Context) and Server-Timing.
//
// Refused: bodies above the limits, more requests or bytes at a time than there
// is room for, compressed bodies, more than one file in a form, query
// parameters and JSON fields that are not known.
package api

import (
	"log/slog"
	"net/http"
	"path"
	"strings"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/page"
	"github.com/penstock-ml/penstock/serve/service"
)

// Options are a server's.
type Options struct {
	Service *service.Service
	Log     *slog.Logger
	Buffers *buffers.Pool // bodies and tensors are read into
	Fetcher Fetcher       // of pictures by URL; nil: they are not taken
	Page    bool          // the page at /
	Limits  Limits        // zero: DefaultLimits
	// Enter stands before every address, and turns away who may not. What it
	// answers has the headers of every answer. nil: everybody may.
	Enter func(http.Handler) http.Handler
}

// Server answers on the public listener.
type Server struct {
	o       Options
	service *service.Service
	gate    *gate
	picture imaging.Limits
	tensors oip.Limits
	frames  frames
}

// New makes the public side.
func New(o Options) *Server {
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits
	}
	return &Server{
		o: o, service: o.Service, gate: newGate(o.Limits),
		picture: imaging.DefaultLimits, tensors: oip.DefaultLimits, frames: frames{byName: map[string]*frame{}},
	}
}

// route is an address and what answers there.
type route struct {
	method, path string
	answer       http.HandlerFunc
}

func (s *Server) routes() []route {
	all := []route{
		{"GET", "/openapi.json", s.openAPI},
		{"GET", "/v1/models", s.models},
		{"POST", "/v1/models/{name}/predict", s.predict},
		{"GET", "/v2", s.server},
		{"GET", "/v2/health/live", s.live},
		{"GET", "/v2/health/ready", s.ready},
		{"GET", "/v2/models/{name}", s.metadata},
		{"GET", "/v2/models/{name}/ready", s.modelReady},
		{"POST", "/v2/models/{name}/infer", s.infer},
		{"GET", "/v2/models/{name}/versions/{version}", s.metadata},
		{"GET", "/v2/models/{name}/versions/{version}/ready", s.modelReady},
		{"POST", "/v2/models/{name}/versions/{version}/infer", s.infer},
	}
	if s.o.Page {
		for _, f := range page.Files {
			all = append(all, route{"GET", f.Path, f.ServeHTTP})
		}
	}
	return all
}

// Handler is the public side's routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		mux.HandleFunc(r.method+" "+r.path, r.answer)
		mux.HandleFunc(r.path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", r.method)
			reply(w, http.StatusMethodNotAllowed, oip.Error{Error: "this address takes " + r.method + " only"})
		})
	}
	mux.HandleFunc("/", nowhere)
	entered := http.Handler(straight(mux))
	if s.o.Enter != nil {
		entered = s.o.Enter(entered)
	}
	return s.guarded(entered)
}

func nowhere(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusNotFound, oip.Error{Error: "no such address: GET /openapi.json lists them"})
}

// straight keeps paths with // or .. from the mux, which would send their
// senders on to another address, without a word and with their pictures.
func straight(mux http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.EscapedPath(); !strings.HasPrefix(p, "/") || path.Clean(p) != p {
			nowhere(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}
}

// OpenPaths are the addresses that show nothing of models or data: they may be
// given without a token.
func OpenPaths() []string {
	paths := []string{"/", "/openapi.json"}
	for _, f := range page.Files {
		paths = append(paths, f.Path)
	}
	return paths
}
