package hub

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Kinds of fault that can be asked for.
const (
	faultTooMany       = "too-many-requests" // 429 with Retry-After
	faultSecondary     = "secondary-limit"   // 403 as GitHub's secondary rate limit
	faultPrimary       = "primary-limit"     // 403 with X-RateLimit-Remaining: 0
	faultServer        = "server-error"      // 500, not processed
	faultLost          = "lost-answer"       // processed, then the connection is cut
	faultNoContent     = "no-content"        // processed, 204 instead of the answer
	faultOldServer     = "old-server"        // 422 for return_run_details, as older GitHub Enterprise
	faultRunnerOffline = "runner-offline"    // the self-hosted runner takes nothing
)

var faultKinds = []string{
	faultTooMany, faultSecondary, faultPrimary, faultServer, faultLost, faultNoContent, faultOldServer, faultRunnerOffline,
}

// fault is a misbehaviour that somebody asked for.
type fault struct {
	Kind       string `json:"kind"`
	Match      string `json:"match,omitempty"`       // regular expression on "METHOD /path"; "" is every request
	Times      int    `json:"times,omitempty"`       // how often; 0 is until it is taken back
	RetryAfter int    `json:"retry_after,omitempty"` // seconds; 0 is 1
	match      *regexp.Regexp
}

// Fault makes the hub misbehave: see the kinds. match is a regular expression on
// "METHOD /path" ("" is all), times how often (0 is until ClearFaults).
func (h *Hub) Fault(kind, match string, times int) error {
	return h.addFault(&fault{Kind: kind, Match: match, Times: times})
}

func (h *Hub) addFault(f *fault) error {
	if !slices.Contains(faultKinds, f.Kind) {
		return fmt.Errorf("hub: fault %q is unknown: use one of %s", f.Kind, strings.Join(faultKinds, ", "))
	}
	var err error
	if f.match, err = regexp.Compile(f.Match); err != nil {
		return fmt.Errorf("hub: fault: match: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, f)
	h.changed()
	return nil
}

// ClearFaults takes all faults back.
func (h *Hub) ClearFaults() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = nil
	h.changed()
	h.advance()
}

// due takes the first fault that the request meets.
func (h *Hub) due(req *http.Request) *fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	what := req.Method + " " + req.URL.Path
	for i, f := range h.faults {
		if f.Kind == faultRunnerOffline || !f.match.MatchString(what) {
			continue
		}
		found := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				h.faults = slices.Delete(h.faults, i, i+1)
			}
		}
		return &found
	}
	return nil
}

// misbehave stands before the API.
func (h *Hub) misbehave(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !isAPI(req.URL.Path) {
			next.ServeHTTP(w, req)
			return
		}
		f := h.due(req)
		if f == nil {
			next.ServeHTTP(w, req)
			return
		}
		h.opt.Logf("hub: fault %s for %s %s", f.Kind, req.Method, req.URL.Path)
		switch f.Kind {
		case faultLost:
			next.ServeHTTP(&nowhere{}, req)
			panic(http.ErrAbortHandler) // net/http's way to cut the connection
		case faultNoContent:
			next.ServeHTTP(&nowhere{}, req)
			w.WriteHeader(http.StatusNoContent)
		case faultOldServer:
			h.oldServer(w, req, next)
		default:
			limited(w, f, h.now().Unix()).write(w)
		}
	})
}

// limited is the refusal that a fault asks for.
func limited(w http.ResponseWriter, f *fault, now int64) answer {
	retry := max(f.RetryAfter, 1)
	p := &problem{status: http.StatusForbidden}
	switch f.Kind {
	case faultTooMany:
		p.status, p.message = http.StatusTooManyRequests, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
		p.docs = docs + "/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits"
		w.Header().Set("Retry-After", strconv.Itoa(retry))
	case faultSecondary:
		p.message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
		p.docs = docs + "/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"
		w.Header().Set("Retry-After", strconv.Itoa(retry))
	case faultPrimary:
		p.message = "API rate limit exceeded for installation."
		w.Header().Set("X-RateLimit-Limit", "1000")
		w.Header().Set("X-RateLimit-Remaining", "0")
		w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(now+int64(retry), 10))
	default:
		p.status, p.message = http.StatusInternalServerError, "Server Error"
	}
	return p.answer()
}

// oldServer knows no return_run_details.
func (h *Hub) oldServer(w http.ResponseWriter, req *http.Request, next http.Handler) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if strings.Contains(string(body), "return_run_details") {
		invalidText(`Invalid request. "return_run_details" is not a permitted key.`).answer().write(w)
		return
	}
	req.Body = io.NopCloser(strings.NewReader(string(body)))
	next.ServeHTTP(w, req)
}

// faultsPath is PUT, GET and DELETE /_hub/faults, for the administrator.
func (h *Hub) faultsPath(w http.ResponseWriter, req *http.Request) {
	if who, known := h.whoIs(req); !known || !who.Admin {
		http.Error(w, "the administrator's token is required", http.StatusUnauthorized)
		return
	}
	switch req.Method {
	case http.MethodPut:
		f := &fault{}
		dec := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxBody))
		dec.DisallowUnknownFields()
		err := dec.Decode(f)
		if err == nil {
			err = h.addFault(f)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
	case http.MethodDelete:
		h.ClearFaults()
	case http.MethodGet:
		h.mu.Lock()
		data, err := json.Marshal(append([]*fault{}, h.faults...))
		h.mu.Unlock()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data) // the client went away
		return
	default:
		http.Error(w, "PUT, GET or DELETE", http.StatusMethodNotAllowed)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// nowhere is where an answer goes that nobody gets.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header {
	if n.header == nil {
		n.header = http.Header{}
	}
	return n.header
}
func (n *nowhere) Write(data []byte) (int, error) { return len(data), nil }
func (n *nowhere) WriteHeader(int)                {}
