package mlflow

import (
	"context"
	"fmt"
	"strconv"

	"github.com/penstock-ml/penstock/internal/line/registry"
)

// Registry is the model registry of a server, in the roles that the registry
// stage asks for.
type Registry struct{ client *Client }

var (
	_ registry.Versions = (*Registry)(nil)
	_ registry.Aliases  = (*Registry)(nil)
)

// Registry gives the server's model registry.
func (c *Client) Registry() *Registry { return &Registry{c} }

type wireVersion struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Source  string `json:"source"`
	Run     string `json:"run_id"`
	Status  string `json:"status"`
	Tags    []pair `json:"tags"`
}

func (w wireVersion) version() (registry.Version, error) {
	number, err := strconv.Atoi(w.Version)
	if err != nil || number < 1 {
		return registry.Version{}, fmt.Errorf("MLflow names a version %q of model %s: want a number", w.Version, w.Name)
	}
	return registry.Version{Number: number, Source: w.Source, RunID: w.Run, Tags: unpair(w.Tags)}, nil
}

// List gives all versions of a model, none where there is no such model.
func (r *Registry) List(ctx context.Context, model string) ([]registry.Version, error) {
	if err := nameable(model); err != nil {
		return nil, err
	}
	var versions []registry.Version
	for token := ""; ; {
		var a struct {
			Versions []wireVersion `json:"model_versions"`
			Next     string        `json:"next_page_token"`
		}
		q := query{"filter": "name = '" + model + "'", "max_results": "200"}
		if token != "" {
			q["page_token"] = token
		}
		if err := r.client.get(ctx, "model-versions/search", q, &a); err != nil {
			return nil, err
		}
		for _, w := range a.Versions {
			v, err := w.version()
			if err != nil {
				return nil, err
			}
			versions = append(versions, v)
		}
		if token = a.Next; token == "" {
			return versions, nil
		}
	}
}

func nameable(model string) error {
	_, err := equals(map[string]string{"model": model}, []string{"model"})
	if err != nil {
		return fmt.Errorf("model name %q: it is empty or has a quote, a backslash or a line break", model)
	}
	return nil
}

// Create makes a version, and the registered model where it is missing. The
// tag registry.TagDigest names it: where an answer was lost, the version that
// has the same digest is the one that was made.
func (r *Registry) Create(ctx context.Context, model string, v registry.Version) (registry.Version, error) {
	if v.Digest() == "" {
		return registry.Version{}, fmt.Errorf("a version of model %s without the tag %s could be created twice", model, registry.TagDigest)
	}
	if err := r.ensureModel(ctx, model); err != nil {
		return registry.Version{}, err
	}
	made := v
	look := func() (bool, error) {
		all, err := r.List(ctx, model)
		for _, have := range all {
			if have.Digest() == v.Digest() {
				made = have
				return true, nil
			}
		}
		return false, err
	}
	err := r.client.create(ctx, look, func() error {
		var a struct {
			Version wireVersion `json:"model_version"`
		}
		body := map[string]any{"name": model, "source": v.Source, "tags": pairs(v.Tags)}
		if v.RunID != "" {
			body["run_id"] = v.RunID
		}
		err := r.client.createCall(ctx, "model-versions/create", body, &a)
		if err != nil {
			return err
		}
		made, err = a.Version.version()
		return err
	})
	return made, err
}

func (r *Registry) ensureModel(ctx context.Context, model string) error {
	err := r.client.get(ctx, "registered-models/get", query{"name": model}, nil)
	if !isMissing(err) {
		return err
	}
	err = r.client.post(ctx, "registered-models/create", map[string]any{"name": model}, nil)
	if isThere(err) {
		return nil
	}
	return err
}

// Alias answers the number of the version under an alias, and
// registry.ErrNotFound where no version or no such model has it.
func (r *Registry) Alias(ctx context.Context, model, alias string) (number int, err error) {
	var a struct {
		Version wireVersion `json:"model_version"`
	}
	err = r.client.get(ctx, "registered-models/alias", query{"name": model, "alias": alias}, &a)
	if isMissing(err) || noSuchAlias(err) {
		return 0, fmt.Errorf("alias %s of model %s: %w", alias, model, registry.ErrNotFound)
	}
	if err != nil {
		return 0, err
	}
	v, err := a.Version.version()
	return v.Number, err
}

// SetAlias moves an alias; it overwrites without asking.
func (r *Registry) SetAlias(ctx context.Context, model, alias string, number int) error {
	return r.client.post(ctx, "registered-models/alias", map[string]any{
		"name": model, "alias": alias, "version": strconv.Itoa(number),
	}, nil)
}
