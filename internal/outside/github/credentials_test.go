package github_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-ml/penstock/internal/outside/github"
)

// appServer knows one App, which is installed on acme/xray, and checks every
// signature.
type appServer struct {
	t       *testing.T
	public  *rsa.PublicKey
	issued  int
	revoked bool
	calls   []string
	want    map[string]any // of the last request for a token
}

func (s *appServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.calls = append(s.calls, strings.TrimPrefix(r.URL.Path, "/api/v3"))
	switch r.URL.Path {
	case "/api/v3/repos/acme/xray/installation":
		s.verify(bearer)
		reply(w, http.StatusOK, map[string]any{"id": 77})
	case "/api/v3/app/installations/77/access_tokens":
		s.verify(bearer)
		if err := json.NewDecoder(r.Body).Decode(&s.want); err != nil {
			s.t.Error(err)
		}
		s.issued++
		s.revoked = false
		reply(w, http.StatusCreated, map[string]any{"token": s.token(), "expires_at": time.Now().Add(time.Hour)})
	case "/api/v3/app":
		s.verify(bearer)
		reply(w, http.StatusOK, map[string]any{"slug": "penstock-bot"})
	case "/api/v3/repos/acme/xray":
		if s.revoked || bearer != s.token() {
			refuse(w, http.StatusUnauthorized, "Bad credentials")
			return
		}
		reply(w, http.StatusOK, map[string]any{"default_branch": "main"})
	default:
		refuse(w, http.StatusNotFound, "Not Found")
	}
}

func (s *appServer) token() string { return fmt.Sprint("ghs_", s.issued) }

func (s *appServer) verify(jwt string) {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		s.t.Errorf("JWT %q", jwt)
		return
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || rsa.VerifyPKCS1v15(s.public, crypto.SHA256, sum[:], signature) != nil {
		s.t.Errorf("the signature is not the App's: %v", err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Iss      string
		Iat, Exp int64
	}
	now := time.Now().Unix()
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Iss != "4711" || claims.Iat > now || claims.Exp <= now || claims.Exp-claims.Iat > 600 {
		s.t.Errorf("claims %s", payload)
	}
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestAnAppAsksWithTokensThatAreRenewed(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	for name, text := range map[string]string{
		"PKCS #1": pkcs1, "PKCS #8": pemOf("PRIVATE KEY", pkcs8), "on one line": strings.ReplaceAll(pkcs1, "\n", `\n`),
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &appServer{t: t, public: &key.PublicKey}
			c, err := github.New(github.Settings{
				API: "http://127.0.0.1/api/v3", Repository: "acme/xray", App: "4711", Key: text, Token: "ignored", Transport: inProcess{s},
			})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			ask := func(issued int) {
				t.Helper()
				if _, err := c.DefaultBranch(t.Context()); err != nil || s.issued != issued {
					t.Errorf("%s: %d tokens, want %d: %v", name, s.issued, issued, err)
				}
			}
			ask(1)
			time.Sleep(50 * time.Minute)
			ask(1)
			time.Sleep(6 * time.Minute) // 4 before its end
			ask(2)
			s.revoked = true
			ask(3)
			if repositories := fmt.Sprint(s.want["repositories"]); repositories != "[xray]" {
				t.Errorf("the token is for %s", repositories)
			}
			if login, err := c.Viewer(t.Context()); err != nil || login != "penstock-bot[bot]" {
				t.Errorf("login %q, %v", login, err)
			}
		})
	}
	for _, bad := range []string{"no pem", pemOf("PRIVATE KEY", []byte("x"))} {
		_, err := github.New(github.Settings{Repository: "acme/xray", App: "1", Key: bad})
		if err == nil || !strings.Contains(err.Error(), "PENSTOCK_APP_PRIVATE_KEY") || strings.Contains(err.Error(), bad) {
			t.Errorf("error %v", err)
		}
	}
}

func TestAnAppThatIsNotInstalledIsToldSo(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c, err := github.New(github.Settings{
		API: "http://127.0.0.1/api/v3", Repository: "acme/other", App: "4711",
		Key:       pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)),
		Transport: inProcess{&appServer{t: t, public: &key.PublicKey}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.DefaultBranch(t.Context()); github.Status(err) != 404 || !strings.Contains(err.Error(), "install the App") {
		t.Errorf("error %v", err)
	}
}

func TestTheViewerOfAWorkflowsTokenIsTheBot(t *testing.T) {
	const forbidden = "Resource not accessible by integration"
	for name, c := range map[string]struct {
		user, graph int // statuses
		login       string
		actions     bool
		want        string
	}{
		"a person":                      {user: 200, want: "mona"},
		"GITHUB_TOKEN":                  {user: 403, graph: 200, login: "github-actions[bot]", actions: true, want: "github-actions[bot]"},
		"another App's token":           {user: 403, graph: 200, login: "acme-bot[bot]", actions: true, want: "acme-bot[bot]"},
		"GITHUB_TOKEN, without GraphQL": {user: 403, graph: 404, actions: true, want: "github-actions[bot]"},
		"a strange token on a terminal": {user: 403, graph: 404},
		"a bad token":                   {user: 401, actions: true},
		"GraphQL without an answer":     {user: 403, graph: 200, actions: true},
	} {
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/api/v3/user" && c.user == 200:
				reply(w, 200, map[string]string{"login": "mona"})
			case r.URL.Path == "/api/v3/user":
				refuse(w, c.user, forbidden)
			case r.URL.Path == "/api/graphql" && c.graph == 200:
				reply(w, 200, map[string]any{"data": map[string]any{"viewer": map[string]string{"login": c.login}}})
			default:
				refuse(w, http.StatusNotFound, "Not Found")
			}
		})
		client, err := github.New(github.Settings{
			API: "http://127.0.0.1/api/v3", Repository: "acme/xray", Token: secret, Actions: c.actions, Transport: inProcess{handler},
		})
		if err != nil {
			t.Fatal(err)
		}
		login, err := client.Viewer(t.Context())
		if login != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", name, login, err)
		}
	}
}
