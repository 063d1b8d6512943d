package api

import (
	"net/http"

	"github.com/penstock-ml/penstock/internal/oip"
)

// Models is the answer of GET /v1/models.
type Models struct {
	Models []Offer `json:"models"`
}

// Offer is a model; Digest and what follows are there once it is ready.
type Offer struct {
	Name   string  `json:"name"`
	Ready  bool    `json:"ready"`
	Digest string  `json:"digest,omitempty"`
	Task   string  `json:"task,omitempty"`
	Labels []Label `json:"labels,omitempty"`
	Scale  int     `json:"scale,omitempty"` // of super-resolution
}

// Label is a finding that a model scores.
type Label struct {
	Name      string  `json:"name"`
	Threshold float64 `json:"threshold"`
	Urgency   string  `json:"urgency"`
}

func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	all := Models{Models: []Offer{}}
	for _, o := range s.service.Offers() {
		shown := Offer{Name: o.Name, Ready: o.Ready, Digest: o.Digest, Task: o.Task, Scale: o.Scale}
		for _, l := range o.Labels {
			shown.Labels = append(shown.Labels, Label{l.Name, l.Threshold, l.Urgency})
		}
		all.Models = append(all.Models, shown)
	}
	reply(w, http.StatusOK, all)
}

func (s *Server) server(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, oip.Server{Name: "penstock-serve", Version: s.service.Version(), Extensions: []string{"binary_tensor_data"}})
}

func (s *Server) live(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, oip.Live{Live: true})
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if !s.service.Ready() {
		reply(w, http.StatusServiceUnavailable, oip.Ready{})
		return
	}
	reply(w, http.StatusOK, oip.Ready{Ready: true})
}

func (s *Server) modelReady(w http.ResponseWriter, r *http.Request) {
	digest, err := s.service.ModelReady(r.PathValue("name"), r.PathValue("version"))
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set(DigestHeader, digest)
	reply(w, http.StatusOK, oip.Ready{Name: r.PathValue("name"), Ready: true})
}

func (s *Server) metadata(w http.ResponseWriter, r *http.Request) {
	m, err := s.service.Metadata(r.PathValue("name"), r.PathValue("version"))
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set(DigestHeader, m.Versions[0])
	reply(w, http.StatusOK, m)
}
