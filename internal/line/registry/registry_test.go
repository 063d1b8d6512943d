package registry_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/line/registry"
)

// server stands for the tracking server's registry; the adapter to the real
// one has contract tests of its own. failSet makes the next alias move fail.
type server struct {
	versions []registry.Version
	aliases  map[string]int
	failSet  error
}

func (s *server) List(context.Context, string) ([]registry.Version, error) { return s.versions, nil }

func (s *server) Create(_ context.Context, _ string, v registry.Version) (registry.Version, error) {
	v.Number = len(s.versions) + 1
	s.versions = append(s.versions, v)
	return v, nil
}

func (s *server) Alias(_ context.Context, _, alias string) (int, error) {
	if n, ok := s.aliases[alias]; ok {
		return n, nil
	}
	return 0, registry.ErrNotFound
}

func (s *server) SetAlias(_ context.Context, _, alias string, number int) error {
	if err := s.failSet; err != nil {
		s.failSet = nil
		return err
	}
	s.aliases[alias] = number
	return nil
}

type store struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (s *store) Get(_ context.Context, key string) ([]byte, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.data[key]
	if !ok {
		return nil, "", journal.ErrNotFound
	}
	return data, string(data), nil
}

func (s *store) Put(_ context.Context, key string, data []byte, when journal.Condition) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, exists := s.data[key]
	if (when.Absent() && exists) || (when.ETag() != "" && when.ETag() != string(old)) {
		return "", journal.ErrConflict
	}
	s.data[key] = data
	return string(data), nil
}

func fresh() (*registry.Registry, *server) {
	s := &server{aliases: map[string]int{}}
	return &registry.Registry{
		Model: "xray", Versions: s, Aliases: s, Store: &store{data: map[string][]byte{}},
		Now: func() time.Time { return time.Unix(0, 0) },
	}, s
}

func model(digest string) *bundle.Bundle {
	return &bundle.Bundle{Digest: digest, Manifest: bundle.Manifest{Provenance: bundle.Provenance{Dataset: "data-" + digest}}}
}

func register(t *testing.T, r *registry.Registry, digests ...string) {
	t.Helper()
	for _, d := range digests {
		if _, err := r.Register(context.Background(), model(d), "s3://b/models/"+d, "run-"+d); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRegisterAgainKeepsTheVersionAndMovesCandidate(t *testing.T) {
	r, s := fresh()
	register(t, r, "a", "b", "a")
	if len(s.versions) != 2 || s.aliases[registry.Candidate] != 1 {
		t.Errorf("%d versions, candidate is %d", len(s.versions), s.aliases[registry.Candidate])
	}
	if got := s.versions[0].Tags[registry.TagDataset]; got != "data-a" {
		t.Errorf("the data set's digest is tagged %q", got)
	}
}

func TestNoChampionBeforeTheFirstPromotion(t *testing.T) {
	r, _ := fresh()
	register(t, r, "a")
	if _, err := r.Champion(context.Background()); !errors.Is(err, registry.ErrNoChampion) {
		t.Errorf("got %v", err)
	}
}

func TestPromoteBackAndForthKeepsPrevious(t *testing.T) {
	r, _ := fresh()
	register(t, r, "a", "b")
	for _, step := range []struct{ promote, previous string }{{"a", ""}, {"a", ""}, {"b", "a"}, {"b", "a"}, {"a", "b"}, {"b", "a"}} {
		if _, err := r.Promote(context.Background(), step.promote); err != nil {
			t.Fatal(err)
		}
		c, err := r.Champion(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		previous := ""
		if c.Previous != nil {
			previous = c.Previous.Digest
		}
		if c.Digest != step.promote || c.Dataset != "data-"+step.promote || previous != step.previous {
			t.Errorf("after promoting %s: champion %s on %s, previous %q", step.promote, c.Digest, c.Dataset, previous)
		}
	}
}

func TestAnUnregisteredDigestIsNotPromoted(t *testing.T) {
	r, _ := fresh()
	if _, err := r.Promote(context.Background(), "x"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestAPromotionCutOffIsToldAndCompletedByRepeating(t *testing.T) {
	r, s := fresh()
	register(t, r, "a", "b")
	if _, err := r.Promote(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	s.failSet = errors.New("connection reset")
	if _, err := r.Promote(context.Background(), "b"); err == nil {
		t.Fatal("the alias did not move, yet the promotion succeeded")
	}
	if _, err := r.Champion(context.Background()); !errors.Is(err, registry.ErrUnsettled) {
		t.Errorf("champion while record and alias differ: %v", err)
	}
	if _, err := r.Promote(context.Background(), "b"); err != nil {
		t.Fatal(err)
	}
	c, err := r.Champion(context.Background())
	if err != nil || c.Digest != "b" || c.Previous == nil || c.Previous.Digest != "a" {
		t.Errorf("%+v %v", c, err)
	}
}

func TestAMissingAliasWhereOneWasPromotedIsAnError(t *testing.T) {
	r, s := fresh()
	register(t, r, "a")
	if _, err := r.Promote(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	delete(s.aliases, registry.Production)
	if _, err := r.Champion(context.Background()); !errors.Is(err, registry.ErrUnsettled) || !strings.Contains(err.Error(), "set the alias to 1") {
		t.Errorf("got %v", err)
	}
}
