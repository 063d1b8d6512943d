package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/serve/host"
)

// term bounds a load (download, goldens, warm-up, replay), and an unload.
const term = 2 * time.Minute

// named is a model in the list of all.
type named struct {
	Name string `json:"name"`
	host.Status
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request) {
	all := []named{}
	for _, name := range s.models.Names() {
		status, err := s.models.Status(name)
		if err != nil {
			fail(w, statusOf(err), err.Error())
			return
		}
		all = append(all, named{name, status})
	}
	reply(w, http.StatusOK, map[string][]named{"models": all})
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	status, err := s.models.Status(r.PathValue("name"))
	if err != nil {
		fail(w, statusOf(err), err.Error())
		return
	}
	reply(w, http.StatusOK, status)
}

// assign loads and answers when that is done, well or not. It is idempotent: a
// digest that answers already is left alone.
func (s *Server) assign(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if _, err := s.models.Status(name); err != nil {
		fail(w, statusOf(err), err.Error())
		return
	}
	digest, err := digestOf(w, r)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx, cancel := untilDone(r)
	defer cancel()
	status, err := s.models.Assign(ctx, name, digest)
	if err != nil {
		reply(w, statusOf(err), host.Status{
			Digest: digest, State: host.Failed, Reason: err.Error(), Serving: status.Serving, Draining: status.Draining, Replay: status.Replay,
		})
		return
	}
	reply(w, http.StatusOK, status)
}

// unload answers when the last request has ended and the memory is given back,
// or, where requests go on for too long, that they do.
func (s *Server) unload(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := untilDone(r)
	defer cancel()
	status, err := s.models.Unload(ctx, r.PathValue("name"))
	switch {
	case errors.Is(err, host.ErrUnknown):
		fail(w, statusOf(err), err.Error())
	case err != nil:
		status.Reason = err.Error()
		reply(w, http.StatusServiceUnavailable, status)
	default:
		reply(w, http.StatusOK, status)
	}
}

// untilDone bounds a change, which goes to its end although the caller may hang
// up: it asks again and finds it done.
func untilDone(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), term)
}

// statusOf tells a bundle that is refused from one that could not be fetched,
// not be loaded in time, or not be kept in mind by this server: of which nothing
// is known.
func statusOf(err error) int {
	switch {
	case errors.Is(err, host.ErrUnknown):
		return http.StatusNotFound
	case errors.Is(err, bundle.ErrUnavailable), errors.Is(err, host.ErrMemory), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	return http.StatusUnprocessableEntity
}
