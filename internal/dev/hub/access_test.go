package hub

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestEveryRequestNeedsATokenThatIsKnown(t *testing.T) {
	w := newWorld(t, nil, func(o *Options) { o.Users = map[string]string{forker: "stranger"} })
	w.want(200, "PATCH", "", `{"private":true}`, nil)
	for _, c := range []struct {
		token, path string
		want        int
	}{
		{"", "/user", 401},
		{"ghp_wrong", "/user", 401},
		{testToken, "/user", 200},
		{forker, "/user", 200},
		{forker, "/repos/acme/line", 404}, // private: it is not there for strangers
		{testToken, "/repos/acme/line", 200},
		{testToken, "/repos/acme/none", 404},
		{testToken, "/repos/acme/line/penstock", 404},
		{forker, "/orgs/acme/actions/runner-groups", 404},
	} {
		if got := w.ask(c.token, "GET", c.path, "", nil); got != c.want {
			t.Errorf("%s by %q: %d, want %d", c.path, c.token, got, c.want)
		}
	}
}

func TestStrangersReadAndCommentButDoNotDispatch(t *testing.T) {
	w := newWorld(t, workflow("a", "on: workflow_dispatch"), func(o *Options) { o.Users = map[string]string{forker: "stranger"} })
	w.want(201, "POST", "/issues", `{"title":"x"}`, nil)
	for path, want := range map[string]int{
		"/repos/acme/line/issues/1/comments":                  201,
		"/repos/acme/line/actions/workflows/a.yml/dispatches": 403,
		"/repos/acme/line/git/refs":                           403,
		"/repos/acme/line/deployments":                        403,
	} {
		if got := w.ask(forker, "POST", path, `{"ref":"main","body":"x"}`, nil); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
}

func TestPushNeedsATokenWithWriteAccess(t *testing.T) {
	w := newWorld(t, workflow("a", "on: push"))
	for _, url := range []string{w.GitURL(testOwner, testRepo), "http://x:wrong@" + w.URL[len("http://"):] + "/acme/line.git"} {
		if out, err := gitCommand(w.clone, "-c", "credential.helper=", "push", url, "main:other").CombinedOutput(); err == nil {
			t.Errorf("pushed to %s: %s", url, out)
		}
	}
}

// A page in a browser cannot reach the hub under a name of its own.
func TestForeignHostNamesAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	for host, want := range map[string]int{"evil.example": 403, "localhost": 200, "127.0.0.1:1": 200, "[::1]": 200} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", w.URL+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("host %s: %d, want %d", host, res.StatusCode, want)
		}
	}
}

func TestAddressesBeyondLoopbackAreRefused(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "nonsense"} {
		h, err := Start(t.Context(), Options{Dir: t.TempDir(), Address: address, Execute: (&executor{}).run})
		if err == nil {
			h.Close()
			t.Errorf("%s is listened on", address)
		}
	}
}

func TestAppGetsATokenOfItsInstallation(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	w := newWorld(t, workflow("a", "on: workflow_dispatch"), func(o *Options) { o.Apps = map[int64]string{7: public} })
	sign := func(claims string) string {
		text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		sum := sha256.Sum256([]byte(text))
		signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + base64.RawURLEncoding.EncodeToString(signature)
	}
	now := time.Now().Unix()
	good := sign(fmt.Sprintf(`{"iss":"7","iat":%d,"exp":%d}`, now-60, now+500))
	for name, token := range map[string]string{
		"expired":      sign(fmt.Sprintf(`{"iss":"7","iat":%d,"exp":%d}`, now-600, now-1)),
		"too long":     sign(fmt.Sprintf(`{"iss":"7","iat":%d,"exp":%d}`, now, now+3600)),
		"another App":  sign(fmt.Sprintf(`{"iss":8,"iat":%d,"exp":%d}`, now, now+60)),
		"forged":       good[:len(good)-8] + "AAAAAAAA",
		"no signature": "a.b.c",
	} {
		if got := w.ask(token, "GET", "/app", "", nil); got != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, got)
		}
	}
	var app struct{ Slug string }
	if got := w.ask(good, "GET", "/app", "", &app); got != 200 || app.Slug != "app-7" {
		t.Errorf("app: %d %+v", got, app)
	}
	var installation struct{ ID int64 }
	if got := w.ask(good, "GET", "/repos/acme/line/installation", "", &installation); got != 200 {
		t.Fatalf("installation: %d", got)
	}
	var grant struct{ Token string }
	if got := w.ask(good, "POST", fmt.Sprintf("/app/installations/%d/access_tokens", installation.ID), "", &grant); got != 201 {
		t.Fatalf("token: %d", got)
	}
	if got := w.ask(grant.Token, "POST", "/repos/acme/line/actions/workflows/a.yml/dispatches", `{"ref":"main"}`, nil); got != 204 {
		t.Errorf("dispatch: %d", got)
	}
	if got := w.ask(grant.Token, "GET", "/user", "", nil); got != 403 {
		t.Errorf("GET /user: %d", got)
	}
}
