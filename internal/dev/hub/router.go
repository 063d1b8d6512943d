package hub

import (
	"net/http"
	"net/url"
	"strings"
)

// router matches paths as net/http's ServeMux writes them. GitHub's own paths
// (issues/comments/{id} beside issues/{number}/comments) are ambiguous to
// ServeMux, which refuses them; here the leftmost literal wins.
type router struct {
	routes []route
}

type route struct {
	method   string
	segments []string
	handler  http.HandlerFunc
}

// HandleFunc adds "METHOD /path/{name}/{rest...}".
func (ro *router) HandleFunc(pattern string, f http.HandlerFunc) {
	method, path, _ := strings.Cut(pattern, " ")
	ro.routes = append(ro.routes, route{method: method, segments: strings.Split(strings.TrimPrefix(path, "/"), "/"), handler: f})
}

// ServeHTTP hands the request to the best route, or answers 404 as GitHub does.
func (ro *router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	given := strings.Split(strings.Trim(req.URL.EscapedPath(), "/"), "/")
	var best *route
	for i := range ro.routes {
		r := &ro.routes[i]
		if r.method == req.Method && r.matches(given) && (best == nil || r.before(best)) {
			best = r
		}
	}
	if best == nil {
		p := *errNotFound
		p.message = "Not Found: the stand-in does not serve " + req.Method + " " + req.URL.Path
		p.answer().write(w)
		return
	}
	for i, s := range best.segments {
		name, wild := strings.CutPrefix(s, "{")
		if !wild {
			continue
		}
		value := given[i]
		if rest, all := strings.CutSuffix(name, "...}"); all {
			name, value = rest+"}", strings.Join(given[i:], "/")
		}
		if plain, err := url.PathUnescape(value); err == nil {
			value = plain
		}
		req.SetPathValue(strings.TrimSuffix(name, "}"), value)
	}
	best.handler(w, req)
}

func (r *route) matches(given []string) bool {
	for i, s := range r.segments {
		if strings.HasSuffix(s, "...}") {
			return len(given) > i
		}
		if i >= len(given) || (given[i] == "" && s != "") || !strings.HasPrefix(s, "{") && s != given[i] {
			return false
		}
	}
	return len(given) == len(r.segments)
}

// before: of two routes that match, the one with a literal further left.
func (r *route) before(o *route) bool {
	for i := range min(len(r.segments), len(o.segments)) {
		a, b := strings.HasPrefix(r.segments[i], "{"), strings.HasPrefix(o.segments[i], "{")
		if a != b {
			return !a
		}
	}
	return len(r.segments) > len(o.segments)
}
