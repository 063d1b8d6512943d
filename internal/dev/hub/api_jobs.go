package hub

import (
	"archive/zip"
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// jobByID is a job of any run and attempt.
func (h *Hub) jobByID(c *call) (*run, *job, error) {
	id, err := c.number("job")
	if err != nil {
		return nil, nil, err
	}
	for _, r := range c.repo.Runs {
		all := slices.Clone(r.Jobs)
		for _, e := range r.Earlier {
			all = append(all, e.Jobs...)
		}
		if j := find(all, func(j *job) bool { return j.ID == id }); j != nil {
			return r, j, nil
		}
	}
	return nil, nil, errNotFound
}

func (h *Hub) getJob(c *call) (answer, error) {
	r, j, err := h.jobByID(c)
	if err != nil {
		return answer{}, err
	}
	return ok(h.jobShape(c.repo, r, j))
}

// jobText is a job's log as GitHub gives it: a time before every line.
func (h *Hub) jobText(r *run, j *job) []byte {
	var b bytes.Buffer
	for _, l := range h.logOf(r.ID).lines {
		if l.Job == j.Name && l.Attempt == j.Attempt {
			fmt.Fprintf(&b, "%s %s\n", l.Time.Format("2006-01-02T15:04:05.0000000Z"), l.Text)
		}
	}
	return b.Bytes()
}

func (h *Hub) jobLogs(c *call) (answer, error) {
	r, j, err := h.jobByID(c)
	if err != nil {
		return answer{}, err
	}
	return h.redirect("text/plain; charset=utf-8", h.jobText(r, j)), nil
}

func (h *Hub) runLogs(c *call) (answer, error) {
	r, err := h.runOf(c)
	if err != nil {
		return answer{}, err
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i, j := range r.Jobs {
		w, err := z.Create(fmt.Sprintf("%d_%s.txt", i, strings.ReplaceAll(j.Name, "/", "_")))
		if err == nil {
			_, err = w.Write(h.jobText(r, j))
		}
		if err != nil {
			return answer{}, err
		}
	}
	if err := z.Close(); err != nil {
		return answer{}, err
	}
	return h.redirect("application/zip", b.Bytes()), nil
}

func (h *Hub) listJobs(c *call) (answer, error) {
	r, err := h.runOf(c)
	if err != nil {
		return answer{}, err
	}
	jobs := r.Jobs
	if c.URL.Query().Get("filter") == "all" {
		for _, e := range newest(r.Earlier) {
			jobs = append(slices.Clone(jobs), e.Jobs...)
		}
	}
	return h.jobList(c, r, jobs)
}

func (h *Hub) jobList(c *call, r *run, jobs []*job) (answer, error) {
	some, header := page(h, c, jobs)
	list := shapes(some, func(j *job) m { return h.jobShape(c.repo, r, j) })
	return answer{status: http.StatusOK, header: header, body: m{"total_count": len(jobs), "jobs": list}}, nil
}
