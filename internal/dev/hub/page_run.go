package hub

import (
	"fmt"
	"html/template"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// escapes are terminal colours and the like.
var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]")

type stepView struct {
	ID, Name, State, Took string
	Open                  bool
	Lines                 []string
}

type outputView struct{ Name, Value string }

type jobView struct {
	ID                                int64
	Name, State, Took, Labels, Reason string
	Environment                       string
	Steps                             []stepView
	Outputs                           []outputView
}

type summaryView struct {
	Name string
	HTML template.HTML
}

type runView struct {
	frame
	Run       runRow
	SHA       string
	Jobs      []jobView
	Summaries []summaryView
	Artifacts []artifact
}

func (h *Hub) runPageHTML(w http.ResponseWriter, req *http.Request) {
	id, err := strconv.ParseInt(req.PathValue("run"), 10, 64)
	h.mu.Lock()
	r := h.state.repository(req.PathValue("owner"), req.PathValue("repo"))
	var view runView
	known := err == nil && r != nil && r.run(id) != nil
	if known {
		view, err = h.runView(r, r.run(id))
	}
	h.mu.Unlock()
	switch {
	case !known:
		http.Error(w, "no such run", http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		h.display(w, "run", view)
	}
}

func (h *Hub) runView(r *repository, run *run) (runView, error) {
	v := runView{frame: h.frame(run.Title, crumb{r.full(), "/" + r.full()}, crumb{run.Title, ""}), Run: h.runRow(r, run), SHA: run.HeadSHA[:min(12, len(run.HeadSHA))]}
	v.Trail[1].Href = v.Run.Href
	v.Live = run.Status != statusCompleted
	lines := map[string][]logLine{}
	for _, l := range h.logOf(run.ID).lines {
		if l.Attempt == run.Attempt {
			lines[l.Job] = append(lines[l.Job], l)
		}
	}
	for _, j := range run.Jobs {
		v.Jobs = append(v.Jobs, jobViewOf(r, j, lines[j.Name]))
		if len(j.Summaries) == 0 {
			continue
		}
		html, err := h.pages.markdown.render(strings.Join(j.Summaries, "\n\n"))
		if err != nil {
			return v, err
		}
		v.Summaries = append(v.Summaries, summaryView{Name: j.Name, HTML: html})
	}
	for _, a := range r.Artifacts {
		if a.Run == run.ID {
			v.Artifacts = append(v.Artifacts, *a)
		}
	}
	return v, nil
}

func jobViewOf(r *repository, j *job, lines []logLine) jobView {
	v := jobView{ID: j.ID, Name: j.Name, State: j.Status, Labels: strings.Join(j.Labels, ", "), Reason: j.Reason, Took: took(j.Started, j.Completed)}
	if j.Status == statusCompleted {
		v.State = j.Conclusion
	}
	if d := find(r.Deployments, func(d *deployment) bool { return j.Deployment != 0 && d.ID == j.Deployment }); d != nil {
		v.Environment = d.Environment
	}
	// Number 0 is what was said outside any step: by the hook, for one.
	byStep := map[int][]string{}
	for _, l := range lines {
		byStep[l.Number] = append(byStep[l.Number], escapes.ReplaceAllString(l.Text, ""))
	}
	if len(byStep[0]) > 0 {
		v.Steps = append(v.Steps, stepView{ID: fmt.Sprintf("step-%d", j.ID), Name: "Set up job", State: v.State, Open: v.State == "failure", Lines: tail(byStep[0])})
	}
	for i, s := range j.Steps {
		state := s.Status
		if s.Status == statusCompleted {
			state = s.Conclusion
		}
		v.Steps = append(v.Steps, stepView{
			ID: fmt.Sprintf("step-%d-%d", j.ID, i), Name: s.Name, State: state, Took: took(s.Started, s.Completed),
			Open: state == "failure" || state == statusInProgress, Lines: tail(byStep[i+1]),
		})
	}
	names := make([]string, 0, len(j.Outputs))
	for name := range j.Outputs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		v.Outputs = append(v.Outputs, outputView{name, j.Outputs[name]})
	}
	return v
}

// tail keeps the end of a long log.
func tail(lines []string) []string {
	if cut := len(lines) - shownLines; cut > 0 {
		return append([]string{fmt.Sprintf("… %d earlier lines: the API gives the whole log", cut)}, lines[cut:]...)
	}
	return lines
}
