package service

import (
	"fmt"
	"strings"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/model"
)

// platform is the protocol's name of what runs the models.
const platform = "onnx_onnxruntime"

// names are those of the models, for people.
func (s *Service) names() string {
	all := make([]string, len(s.o.Models))
	for i, m := range s.o.Models {
		all[i] = fmt.Sprintf("%q", m.Host.Name())
	}
	return strings.Join(all, ", ")
}

// Has is nil where there is a model of the name, loaded or not, else a
// *Problem.
func (s *Service) Has(name string) error {
	if s.served(name) == nil {
		return s.unknown(name)
	}
	return nil
}

// unknown repeats what was asked for, as far as a name may go.
func (s *Service) unknown(name string) error {
	return Bad(NotFound, "no model %.64q here: this server serves %s", name, s.names())
}

// Metadata describes a model; version may be empty. Errors are *Problem.
func (s *Service) Metadata(name, version string) (oip.Model, error) {
	m, release, err := s.use(name, version)
	if err != nil {
		return oip.Model{}, ProblemOf(err)
	}
	defer release()
	return oip.Model{
		Name: name, Versions: []string{m.Digest()}, Platform: platform,
		Inputs: describe(m.Inputs()), Outputs: describe(m.Outputs()),
	}, nil
}

func describe(tensors []model.Declared) []oip.Metadata {
	all := make([]oip.Metadata, len(tensors))
	for i, t := range tensors {
		all[i] = oip.Metadata{Name: t.Name, Datatype: t.Datatype, Shape: t.Shape}
	}
	return all
}

// ModelReady gives the digest of the model that answers, or a *Problem.
func (s *Service) ModelReady(name, version string) (digest string, err error) {
	m, release, err := s.use(name, version)
	if err != nil {
		return "", ProblemOf(err)
	}
	defer release()
	return m.Digest(), nil
}

// Ready tells whether every model answers and the server is not going away.
func (s *Service) Ready() bool {
	for _, m := range s.o.Models {
		if _, err := s.ModelReady(m.Host.Name(), ""); err != nil {
			return false
		}
	}
	return !s.draining.Load()
}

// Offer is a model as people are shown it.
type Offer struct {
	Name   string
	Ready  bool
	Digest string // and what follows: empty until it is ready
	Task   string
	Labels []bundle.Label
	Scale  int // of super-resolution
}

// Offers are all models, in their order.
func (s *Service) Offers() []Offer {
	all := make([]Offer, len(s.o.Models))
	for i, served := range s.o.Models {
		all[i].Name = served.Host.Name()
		m, release, err := served.Host.Use()
		if err != nil {
			continue // it is shown as not ready
		}
		all[i] = Offer{
			Name: all[i].Name, Ready: true, Digest: m.Digest(), Task: m.Task(),
			Labels: m.Bundle().Manifest.Labels, Scale: scaleOf(m),
		}
		release()
	}
	return all
}
