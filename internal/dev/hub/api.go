package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// maxBody bounds the JSON that a client sends.
const maxBody = 8 << 20

const docs = "https://docs.github.com/rest"

// call is a request on its way through a handler, which holds the hub's lock.
type call struct {
	*http.Request
	who  identity
	repo *repository // where the path names one
	body []byte
}

// answer is what a handler gives: JSON, or bytes of another type.
type answer struct {
	status int
	body   any
	header http.Header
	raw    []byte
}

// problem is an answer that is an error, in GitHub's shape.
type problem struct {
	status  int
	message string
	errors  []m
	docs    string
}

func (p *problem) Error() string { return p.message }

func (p *problem) answer() answer {
	body := m{"message": p.message, "documentation_url": docs, "status": strconv.Itoa(p.status)}
	if p.docs != "" {
		body["documentation_url"] = p.docs
	}
	if p.errors != nil {
		body["errors"] = p.errors
	}
	return answer{status: p.status, body: body}
}

var errNotFound = &problem{status: http.StatusNotFound, message: "Not Found"}

// invalid is GitHub's 422 about one field.
func invalid(resource, field, code string) *problem {
	return &problem{
		status: http.StatusUnprocessableEntity, message: "Validation Failed",
		errors: []m{{"resource": resource, "field": field, "code": code}},
	}
}

// invalidText is a 422 with words.
func invalidText(text string) *problem {
	return &problem{status: http.StatusUnprocessableEntity, message: text}
}

type handler func(*call) (answer, error)

func ok(body any) (answer, error)      { return answer{status: http.StatusOK, body: body}, nil }
func created(body any) (answer, error) { return answer{status: http.StatusCreated, body: body}, nil }
func noContent() (answer, error)       { return answer{status: http.StatusNoContent}, nil }

// api serves one path of GitHub's API. need is "scope:level" of the permission
// in the path's repository; "" asks for none but a token.
func (h *Hub) api(mux *router, pattern, need string, f handler) {
	method, path, _ := strings.Cut(pattern, " ")
	mux.HandleFunc(method+" /api/v3"+path, func(w http.ResponseWriter, req *http.Request) {
		h.serveAPI(w, req, need, f)
	})
}

// serveAPI does one request and tells Options.Answered of its answer.
func (h *Hub) serveAPI(w http.ResponseWriter, req *http.Request, need string, f handler) {
	a := h.handle(w, req, need, f)
	if err := a.encode(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if h.opt.Answered != nil {
		path := strings.TrimPrefix(strings.TrimPrefix(req.URL.Path, "/api/v3"), "/api/uploads")
		h.opt.Answered(req.Method, path, a.status, a.raw)
	}
	a.write(w)
}

// handle does one request under the lock.
func (h *Hub) handle(w http.ResponseWriter, req *http.Request, need string, f handler) answer {
	c := &call{Request: req}
	var known bool
	if c.who, known = h.whoIs(req); !known {
		p := &problem{status: http.StatusUnauthorized, message: "Requires authentication"}
		if req.Header.Get("Authorization") != "" {
			p.message = "Bad credentials"
		}
		return p.answer()
	}
	var err error
	if c.body, err = io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody)); err != nil {
		return (&problem{status: http.StatusBadRequest, message: "Problems reading the body"}).answer()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.enter(c, need); err != nil {
		return err.answer()
	}
	a, err := f(c)
	var p *problem
	switch {
	case err == nil:
		return a
	case errors.As(err, &p):
		return p.answer()
	case errors.Is(err, errNoObject):
		return errNotFound.answer()
	}
	h.opt.Logf("hub: %s %s: %v", req.Method, req.URL.Path, err)
	return (&problem{status: http.StatusInternalServerError, message: "Server Error: " + err.Error()}).answer()
}

// enter finds the repository of the path and asks for the permission.
func (h *Hub) enter(c *call, need string) *problem {
	if c.PathValue("owner") == "" || c.PathValue("repo") == "" {
		return nil
	}
	scope, level, _ := strings.Cut(need, ":")
	if scope == "" {
		scope, level = "metadata", "read"
	}
	c.repo = h.state.repository(c.PathValue("owner"), c.PathValue("repo"))
	if c.repo == nil || !h.may(c.who, c.repo, "metadata", "read") {
		return errNotFound
	}
	// A pull request is an issue too: either permission lets one comment on it.
	ask := strings.Split(scope, "|")
	for _, s := range ask {
		if h.may(c.who, c.repo, s, level) {
			return nil
		}
	}
	if c.who.Scopes != nil {
		return &problem{status: http.StatusForbidden, message: "Resource not accessible by integration"}
	}
	return &problem{status: http.StatusForbidden, message: "Must have admin rights to Repository."}
}

// encode makes the bytes of a JSON answer.
func (a *answer) encode() error {
	if a.raw != nil || a.body == nil {
		return nil
	}
	data, err := json.Marshal(a.body)
	if err != nil {
		return err
	}
	if a.header == nil {
		a.header = http.Header{}
	}
	a.raw = data
	a.header.Set("Content-Type", "application/json; charset=utf-8")
	return nil
}

// write sends an answer.
func (a answer) write(w http.ResponseWriter) {
	if err := a.encode(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.Header().Set("X-GitHub-Media-Type", "github.v3; format=json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(a.status)
	_, _ = w.Write(a.raw) // the client may have gone away
}

// read decodes the body.
func (c *call) read(into any) error {
	if len(c.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.body, into); err != nil {
		return &problem{status: http.StatusBadRequest, message: "Problems parsing JSON"}
	}
	return nil
}

// number is a number of the path.
func (c *call) number(name string) (int64, error) {
	n, err := strconv.ParseInt(c.PathValue(name), 10, 64)
	if err != nil {
		return 0, errNotFound
	}
	return n, nil
}

// page cuts the caller's page out of a list and makes the Link header.
func page[T any](h *Hub, c *call, all []T) ([]T, http.Header) {
	size := clamp(c.URL.Query().Get("per_page"), 30, 100)
	at := clamp(c.URL.Query().Get("page"), 1, 1<<30)
	last := max(1, (len(all)+size-1)/size)
	header := http.Header{}
	var links []string
	link := func(to int, rel string) {
		u := url.URL{Path: c.URL.Path}
		q := c.URL.Query()
		q.Set("page", strconv.Itoa(to))
		u.RawQuery = q.Encode()
		links = append(links, fmt.Sprintf(`<%s%s>; rel="%s"`, h.URL, u.String(), rel))
	}
	if at > 1 {
		link(at-1, "prev")
	}
	if at < last {
		link(at+1, "next")
		link(last, "last")
	}
	if at > 1 {
		link(1, "first")
	}
	if links != nil {
		header.Set("Link", strings.Join(links, ", "))
	}
	from := min((at-1)*size, len(all))
	return all[from:min(from+size, len(all))], header
}

func clamp(text string, preset, most int) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return preset
	}
	return min(n, most)
}

// shapes applies a shape to each of a list, never nil.
func shapes[T any](all []T, shape func(T) m) []m {
	out := make([]m, 0, len(all))
	for _, x := range all {
		out = append(out, shape(x))
	}
	return out
}

// guard lets only requests through that name this server as their host: a page
// in a browser that resolves its own name to loopback is refused.
func (h *Hub) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		host, _, err := net.SplitHostPort(req.Host)
		if err != nil {
			host = strings.Trim(req.Host, "[]")
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "this server answers under its loopback address only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, req)
	})
}
