package rollout

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/line/deployment"
)

// addresses is all that another process needs to work on the world.
type addresses struct {
	Servers         []deployment.Server
	Router          string
	Store, Registry string
	Plan            Plan
}

func (w *world) addresses(p Plan) addresses {
	a := addresses{Router: w.router.URL, Store: w.store.URL, Registry: w.registry.URL, Plan: p}
	for _, name := range []string{deployment.Stable, deployment.Canary} {
		s := w.slots[name]
		a.Servers = append(a.Servers, deployment.Server{Slot: name, URL: s.public.URL, Admin: s.admin.URL})
	}
	return a
}

func (a addresses) line(owner string, say func(string, ...any)) Line {
	client := deployment.New(deployment.Tokens{Admin: "secret", Router: "secret"})
	servers := Servers{Client: client, Environment: deployment.Environment{Servers: a.Servers}, Model: "xray", SLO: 500 * time.Millisecond}
	return Line{
		Model: "xray", RunKey: "run", Plan: a.Plan,
		Router: Routers{Client: client, At: []deployment.Router{{URL: a.Router}}, Owner: owner, Lease: a.Plan.Lease},
		Fleet:  servers, Meter: servers, Registry: httpRegistry(a.Registry), Store: httpStore(a.Store),
		Now: time.Now, Say: say,
	}
}

func (w *world) line(p Plan) Line { return w.addresses(p).line("xray test", w.t.Logf) }

type httpRegistry string

func (r httpRegistry) ask(ctx context.Context, query string) (Champion, error) {
	var c Champion
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, string(r)+"/"+query, nil)
	if err != nil {
		return c, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return c, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c, fmt.Errorf("registry: %s", resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil {
		return c, err
	}
	if c.Digest == "" {
		return c, ErrNoChampion
	}
	return c, nil
}

func (r httpRegistry) Champion(ctx context.Context) (Champion, error) { return r.ask(ctx, "") }

func (r httpRegistry) Promote(ctx context.Context, digest string) (string, error) {
	_, err := r.ask(ctx, "?promote="+digest)
	return "7", err
}

type httpStore string

func (s httpStore) Get(ctx context.Context, key string) ([]byte, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, string(s)+"/"+key, nil)
	if err != nil {
		return nil, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, "", journal.ErrNotFound
	}
	data, err := io.ReadAll(resp.Body)
	return data, resp.Header.Get("ETag"), err
}

func (s httpStore) Put(ctx context.Context, key string, data []byte, when journal.Condition) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, string(s)+"/"+key, bytes.NewReader(data))
	if err != nil {
		return "", err
	}
	if when.ETag() != "" {
		req.Header.Set("If-Match", when.ETag())
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Header.Get("ETag"), nil
	case http.StatusPreconditionFailed:
		return "", journal.ErrConflict
	}
	return "", fmt.Errorf("store: %s", resp.Status)
}
