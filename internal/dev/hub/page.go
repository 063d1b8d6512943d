package hub

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
)

//go:embed web
var webFiles embed.FS

const (
	// contentPolicy: Mermaid puts a style element into each diagram.
	contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	homeRuns   = 30   // runs of each repository on the first page
	shownLines = 2000 // of each step's log
)

// pages are what people look at.
type pages struct {
	templates *template.Template
	markdown  markdown
}

func newPages() (*pages, error) {
	t, err := template.New("").Funcs(template.FuncMap{"mark": mark}).ParseFS(webFiles, "web/page.html")
	if err != nil {
		return nil, fmt.Errorf("hub: pages: %w", err)
	}
	return &pages{templates: t, markdown: newMarkdown()}, nil
}

// mark is a state in one character.
func mark(state string) string {
	switch state {
	case actrun.Success:
		return "✓"
	case actrun.Failure, startupFailure:
		return "✗"
	case statusInProgress:
		return "●"
	case statusQueued, statusPending:
		return "○"
	case actrun.Skipped:
		return "⊘"
	}
	return "◌"
}

func (h *Hub) pageRoutes(all *router) {
	all.HandleFunc("GET /", h.homePage)
	all.HandleFunc("GET /{owner}/{repo}", h.repositoryPage)
	all.HandleFunc("GET /{owner}/{repo}/actions", h.repositoryPage)
	all.HandleFunc("GET /{owner}/{repo}/actions/runs/{run}", h.runPageHTML)
	all.HandleFunc("GET /{owner}/{repo}/actions/runs/{run}/job/{job}", h.runPageHTML)
	all.HandleFunc("GET /{owner}/{repo}/pull/{number}", h.issuePage)
	all.HandleFunc("GET /{owner}/{repo}/issues/{number}", h.issuePage)
	for name, kind := range map[string]string{"style.css": "text/css", "hub.js": "text/javascript", "avatar.svg": "image/svg+xml"} {
		all.HandleFunc("GET /_hub/"+name, func(w http.ResponseWriter, _ *http.Request) {
			data, err := webFiles.ReadFile("web/" + name)
			sendFile(w, kind, data, err)
		})
	}
	all.HandleFunc("GET /_hub/mermaid.min.js", func(w http.ResponseWriter, _ *http.Request) {
		data, err := os.ReadFile(h.opt.Mermaid)
		sendFile(w, "text/javascript", data, err)
	})
}

func sendFile(w http.ResponseWriter, kind string, data []byte, err error) {
	if err != nil {
		http.Error(w, "not there", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", kind+"; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(data) // the client may have gone away
}

// crumb is a link on the way to a page.
type crumb struct{ Text, Href string }

// frame is what every page has.
type frame struct {
	Title   string
	Trail   []crumb
	Live    bool // something on the page still changes
	Mermaid bool
}

func (h *Hub) frame(title string, trail ...crumb) frame {
	_, err := os.Stat(h.opt.Mermaid)
	return frame{Title: title, Trail: trail, Mermaid: h.opt.Mermaid != "" && err == nil}
}

// display renders a page. The caller holds no lock.
func (h *Hub) display(w http.ResponseWriter, name string, data any) {
	var out bytes.Buffer
	if err := h.pages.templates.ExecuteTemplate(&out, name, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", contentPolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	_, _ = w.Write(out.Bytes()) // the client may have gone away
}

// runRow is a run in a table.
type runRow struct {
	Title, Href, Workflow, Event, Ref, Actor string
	State, Started, Took, Why                string
	Number, Attempt                          int
}

func (h *Hub) runRow(r *repository, run *run) runRow {
	ref, _ := refParts(run.Ref)
	row := runRow{
		Title: run.Title, Href: strings.TrimPrefix(h.runPage(r, run), h.URL), Workflow: run.Name, Event: run.Event, Ref: ref,
		Actor: run.Triggering, State: run.Status, Started: clock(run.Started), Why: orElse(run.Problem, run.Waiting),
		Number: run.Number, Attempt: run.Attempt,
	}
	if run.Status == statusCompleted {
		row.State = run.Conclusion
		row.Took = took(run.Started, run.Updated)
	}
	return row
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05") + " UTC"
}

func took(from, to time.Time) string {
	if from.IsZero() || to.IsZero() || to.Before(from) {
		return ""
	}
	return to.Sub(from).Round(100 * time.Millisecond).String()
}

type pullRow struct {
	Number, Comments         int
	Title, Href, State, User string
}

type repositoryView struct {
	Full, Parent, Clone string
	Private             bool
	Runs                []runRow
	Pulls               []pullRow
}

func (h *Hub) repositoryView(r *repository, limit int) repositoryView {
	v := repositoryView{Full: r.full(), Parent: r.Parent, Clone: h.GitURL(r.Owner, r.Name), Private: r.Private}
	for i, run := range newest(r.Runs) {
		if limit > 0 && i == limit {
			break
		}
		v.Runs = append(v.Runs, h.runRow(r, run))
	}
	for _, i := range newest(r.Issues) {
		kind := "issues"
		if i.Pull != nil {
			kind = "pull"
		}
		v.Pulls = append(v.Pulls, pullRow{
			Number: i.Number, Comments: len(commentsOf(r, i.Number)), Title: i.Title, State: shownState(i), User: i.User,
			Href: fmt.Sprintf("/%s/%s/%d", r.full(), kind, i.Number),
		})
	}
	return v
}

func shownState(i *issue) string {
	if i.Pull != nil && i.Pull.Merged {
		return "merged"
	}
	return i.State
}

type homeView struct {
	frame
	Repositories []repositoryView
}

func (h *Hub) homePage(w http.ResponseWriter, _ *http.Request) {
	view := homeView{frame: h.frame("Penstock hub")}
	view.Live = true
	h.mu.Lock()
	for _, r := range h.state.Repositories {
		view.Repositories = append(view.Repositories, h.repositoryView(r, homeRuns))
	}
	h.mu.Unlock()
	h.display(w, "home", view)
}

func (h *Hub) repositoryPage(w http.ResponseWriter, req *http.Request) {
	h.mu.Lock()
	r := h.state.repository(req.PathValue("owner"), req.PathValue("repo"))
	view := homeView{}
	if r != nil {
		view = homeView{frame: h.frame(r.full(), crumb{r.full(), "/" + r.full()}), Repositories: []repositoryView{h.repositoryView(r, 0)}}
		view.Live = true
	}
	h.mu.Unlock()
	if r == nil {
		http.Error(w, "no such repository", http.StatusNotFound)
		return
	}
	h.display(w, "home", view)
}

// post is a comment, or the text that a pull request opens with.
type post struct {
	ID         int64
	User, When string
	Edited     bool
	HTML       template.HTML
}

type issueView struct {
	frame
	Number                               int
	Title, State, User, Head, Base       string
	Mergeable                            bool
	Commits, Files, Additions, Deletions int
	Posts                                []post
	Runs                                 []runRow
}

func (h *Hub) issuePage(w http.ResponseWriter, req *http.Request) {
	number, err := strconv.Atoi(req.PathValue("number"))
	h.mu.Lock()
	r := h.state.repository(req.PathValue("owner"), req.PathValue("repo"))
	var view issueView
	known := err == nil && r != nil && r.issue(number) != nil
	if known {
		view, err = h.issueView(r, r.issue(number))
	}
	h.mu.Unlock()
	switch {
	case !known:
		http.Error(w, "no such issue or pull request", http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		h.display(w, "issue", view)
	}
}

func (h *Hub) issueView(r *repository, i *issue) (issueView, error) {
	v := issueView{
		frame: h.frame(i.Title, crumb{r.full(), "/" + r.full()}), Number: i.Number, State: shownState(i), User: i.User, Mergeable: true,
	}
	v.Title, v.Live = i.Title, true
	if p := i.Pull; p != nil {
		v.Head, v.Base, v.Mergeable = p.Head, p.Base, p.Mergeable || p.Merged
		if p.HeadRepository != r.full() {
			v.Head = p.HeadRepository + ":" + p.Head
		}
		v.Commits, v.Files, v.Additions, v.Deletions = p.Commits, p.Files, p.Additions, p.Deleted
		for _, run := range newest(r.Runs) {
			if run.Pull == i.Number {
				v.Runs = append(v.Runs, h.runRow(r, run))
			}
		}
	}
	body, err := h.pages.markdown.render(orElse(i.Body, "*No description provided.*"))
	if err != nil {
		return v, err
	}
	v.Posts = []post{{ID: i.ID, User: i.User, When: clock(i.Created), HTML: body}}
	for _, c := range commentsOf(r, i.Number) {
		html, err := h.pages.markdown.render(c.Body)
		if err != nil {
			return v, err
		}
		v.Posts = append(v.Posts, post{ID: c.ID, User: c.User, When: clock(c.Created), Edited: c.Updated.After(c.Created), HTML: html})
	}
	return v, nil
}
