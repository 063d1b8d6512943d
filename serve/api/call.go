package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/serve/service"
)

// TimeoutHeader is the sender's own deadline: milliseconds from the request's
// headers to the answer.
const TimeoutHeader = "Penstock-Timeout-Ms"

// MaxTimeout is the longest deadline in milliseconds.
const MaxTimeout = 600_000

// AnswerTerm is how long an answer may take to be made and taken: from the
// request's headers on, or from the sender's own deadline.
const AnswerTerm = 3 * time.Minute

// callOf is what a request says of itself. It is of use with an error too: to
// count it.
func callOf(r *http.Request) (service.Call, error) {
	x := exchangeOf(r)
	c := service.Call{Model: r.PathValue("name"), Version: r.PathValue("version"), ID: x.id, Trace: x.trace.ID}
	n, told := numberIn(r.Header, TimeoutHeader)
	if !told {
		return c, nil
	}
	if n < 1 || n > MaxTimeout {
		return c, service.Bad(service.BadInput, "%s: want one whole number of milliseconds, from 1 to %d", TimeoutHeader, MaxTimeout)
	}
	c.Deadline = x.came.Add(time.Duration(n) * time.Millisecond)
	return c, nil
}

// numberIn reads a header that is one whole number in digits; -1 stands for
// anything else. A header that comes twice is none: a proxy before this server
// may go by the other one.
func numberIn(h http.Header, name string) (n int, told bool) {
	values := h.Values(name)
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return 0, false
	}
	number, err := strconv.ParseUint(values[0], 10, 31) // which takes no sign
	if err != nil || len(values) > 1 {
		return -1, true
	}
	return int(number), true
}

// compressed tells whether the body is coded in any way.
func compressed(h http.Header) bool {
	for _, coding := range h.Values("Content-Encoding") {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			return true
		}
	}
	return false
}

// admit looks at all that can be said before the body is read, and reserves
// room for it.
func (s *Server) admit(r *http.Request, limit int64) (c service.Call, p *place, err error) {
	c, err = callOf(r)
	x := exchangeOf(r)
	x.call, x.open = c, true
	if err == nil {
		err = s.service.Has(c.Model)
	}
	if err == nil {
		err = x.stayOpen(c.Deadline)
	}
	if err == nil && compressed(r.Header) {
		err = service.Bad(service.Unsupported, "the body is compressed: send it as it is")
	}
	if err == nil && r.ContentLength > limit {
		err = service.Bad(service.TooLarge, "the body has more than %d bytes", limit)
	}
	if err != nil {
		return c, nil, err
	}
	p, err = s.gate.enter(r.ContentLength, limit)
	return c, p, err
}

// reject counts and answers a request that did not come as far as the
// service.
func (s *Server) reject(w http.ResponseWriter, r *http.Request, c service.Call, err error) {
	exchangeOf(r).open = false
	fail(w, s.service.Reject(c, readProblem(err)))
}
