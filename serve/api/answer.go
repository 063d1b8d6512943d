package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/service"
)

// Headers of answers, beside those of the Open Inference Protocol.
const (
	DigestHeader    = "Penstock-Model-Digest"
	RequestIDHeader = "Penstock-Request-Id"
	ScaleHeader     = "Penstock-Scale"      // of an enlarged image
	SizeHeader      = "Penstock-Image-Size" // WIDTHxHEIGHT of an enlarged image
)

// traceHeader is in the form that net/http need not bring it into.
var traceHeader = http.CanonicalHeaderKey(service.TraceHeader)

// statusGone is what proxies write for a client that went away; nobody gets it.
const statusGone = 499

// statuses says how a problem is told over HTTP.
var statuses = map[service.Kind]int{
	service.BadInput:    http.StatusBadRequest,
	service.TooLarge:    http.StatusRequestEntityTooLarge,
	service.Unsupported: http.StatusUnsupportedMediaType,
	service.NotFound:    http.StatusNotFound,
	service.Denied:      http.StatusForbidden,
	service.Refused:     http.StatusTooManyRequests,
	service.Late:        http.StatusGatewayTimeout,
	service.Gone:        statusGone,
	service.Unavailable: http.StatusServiceUnavailable,
	service.Model:       http.StatusInternalServerError,
	service.Internal:    http.StatusInternalServerError,
}

// exchange is one HTTP request under way, and the writer of its answer: it sees
// to it that every answer has Server-Timing.
type exchange struct {
	http.ResponseWriter
	came  time.Time // when its headers had come
	id    string
	trace service.Trace
	call  service.Call
	open  bool // nobody has counted the call yet
	wrote bool
}

type exchangeKey struct{}

func exchangeOf(r *http.Request) *exchange { return r.Context().Value(exchangeKey{}).(*exchange) }

func (x *exchange) WriteHeader(status int) {
	if h := x.Header(); !x.wrote && h.Get(timingHeader) == "" {
		timed(h, nil, time.Since(x.came))
	}
	x.wrote = true
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(data []byte) (int, error) {
	if !x.wrote {
		x.WriteHeader(http.StatusOK)
	}
	return x.ResponseWriter.Write(data)
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// stayOpen keeps the connection for an answer at the sender's own deadline. The
// server's bound counts from the request's headers, and is shorter than such a
// deadline may be.
func (x *exchange) stayOpen(deadline time.Time) error {
	if deadline.IsZero() {
		return nil
	}
	if err := http.NewResponseController(x).SetWriteDeadline(deadline.Add(AnswerTerm)); err != nil {
		return fmt.Errorf("keep the connection open until the request's deadline: %w", err)
	}
	return nil
}

var noSniff = []string{"nosniff"} // every answer's; nobody changes it

// guarded gives every request its id and its span, and keeps a panic in the
// request that caused it.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{ResponseWriter: w, came: time.Now(), id: service.NewID(), trace: service.TraceOf(r.Header.Values(traceHeader))}
		x.Header().Set(RequestIDHeader, x.id)
		x.Header().Set(traceHeader, x.trace.String())
		x.Header()["X-Content-Type-Options"] = noSniff
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			s.o.Log.Error("an answer broke", "request", x.id, "trace", x.trace.ID, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err := service.Bad(service.Internal, "the server broke on this request")
			if x.open {
				err = s.service.Reject(x.call, err)
			}
			if x.wrote {
				panic(http.ErrAbortHandler) // half an answer must not look like a whole one
			}
			fail(x, err)
		}()
		next.ServeHTTP(x, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
	})
}

// reply writes a JSON answer.
func reply(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil { // NaN cannot come this far
		status, data = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be encoded"}`)
	}
	send(w, status, "application/json", append(data, '\n'))
}

func send(w http.ResponseWriter, status int, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	// An error here means that the client is gone: there is nobody to tell.
	_, _ = w.Write(body)
}

// fail writes why there is no success.
func fail(w http.ResponseWriter, err error) {
	p := service.ProblemOf(err)
	if p.RetryAfter > 0 { // whole seconds, as the header wants them
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(p.RetryAfter.Seconds()))))
	}
	if p.Digest != "" {
		w.Header().Set(DigestHeader, p.Digest)
	}
	reply(w, statuses[p.Kind], oip.Error{Error: p.Text})
}

// readProblem blames the sender for a body that cannot be read to its end.
func readProblem(err error) error {
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return service.Bad(service.TooLarge, "the body has more than %d bytes", tooLong.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) { // the connection's, not the request's
		return &service.Problem{Kind: service.BadInput, Text: "the body did not come to its end in the time that the server gives a request", Err: err}
	}
	p := service.ProblemOf(err)
	if p.Kind == service.Internal { // the connection's error
		p = &service.Problem{Kind: service.BadInput, Text: "the body could not be read to its end", Err: err}
	}
	return p
}
