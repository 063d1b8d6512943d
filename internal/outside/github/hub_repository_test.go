package github_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/dev/hub"
	"github.com/penstock-ml/penstock/internal/outside/github"
)

func TestTheStandInAnswersAboutTheRepository(t *testing.T) {
	s := newSite(t)
	c, ctx := s.client(t), t.Context()
	s.git(t, s.clone, "tag", "-a", "-m", "v1", "deploy/xray/v1")
	s.commit(t, "train.py", "rate = 1\n")
	s.git(t, s.clone, "push", "-q", "origin", "main", "deploy/xray/v1")
	compared, err := c.Compare(ctx, "deploy/xray/v1", "main")
	same(t, "comparison", compared, err, github.Comparison{Status: "ahead", Ahead: 1})
	for pair, want := range map[[2]string]bool{
		{"deploy/xray/v1", "main"}: true, {"main", "main"}: true, {"main", "deploy/xray/v1"}: false,
	} {
		is, err := c.IsAncestor(ctx, pair[0], pair[1])
		same(t, fmt.Sprint(pair), is, err, want)
	}
	if _, err := c.IsAncestor(ctx, "main", "none"); github.Status(err) != 404 {
		t.Errorf("an unknown head: %v", err)
	}
	w, err := c.ReadWorkflow(ctx, "train.yml")
	same(t, "workflow", w, err, github.Workflow{File: "train.yml", State: "active", Text: trainFile})
	if _, err := c.ReadWorkflow(ctx, "none.yml"); github.Status(err) != 404 {
		t.Errorf("an unknown workflow: %v", err)
	}
	permissions, err := c.ReadPermissions(ctx)
	if err != nil || !permissions.Enabled || permissions.Token == "" {
		t.Errorf("permissions %+v, %v", permissions, err)
	}
	if _, err := c.Runners(ctx); err != nil {
		t.Error(err)
	}
	if _, err := c.RunnerGroups(ctx, "acme"); err != nil {
		t.Error(err)
	}
	id, err := c.CreateDeployment(ctx, github.Deployment{Ref: "main", Environment: "staging", Payload: map[string]string{"run_key": "k"}})
	if err != nil || id == 0 {
		t.Fatalf("deployment %d, %v", id, err)
	}
	if err := c.SetDeploymentStatus(ctx, id, "success", "serves v1", s.URL); err != nil {
		t.Error(err)
	}
	if _, err := c.CreateDeployment(ctx, github.Deployment{Ref: "none", Environment: "staging"}); github.Status(err)/100 != 4 {
		t.Errorf("deployment of an unknown ref: %v", err)
	}
}

func TestTheStandInKnowsAnApp(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(o *hub.Options) { o.Apps = map[int64]string{4711: pemOf("PUBLIC KEY", public)} })
	c, err := github.New(github.Settings{API: s.API(), Repository: "acme/xray", App: "4711", Key: pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))})
	if err != nil {
		t.Fatal(err)
	}
	login, err := c.Viewer(t.Context())
	if err != nil || !strings.HasSuffix(login, "[bot]") {
		t.Errorf("login %q, %v", login, err)
	}
	if id, err := c.Dispatch(t.Context(), "train.yml", "main", "train k", inputs("k")); err != nil || id == 0 {
		t.Errorf("run %d, %v", id, err)
	}
}
