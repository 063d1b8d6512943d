package github

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"time"

	gh "github.com/google/go-github/v60/github"
)

// credentials give the bearer token of a call. refused tells that GitHub did
// not take it; it answers whether another one is worth a try.
type credentials interface {
	bearer(ctx context.Context) (string, error)
	refused(token string) bool
}

// token is a token that stays as it is.
type token string

func (t token) bearer(context.Context) (string, error) { return string(t), nil }
func (token) refused(string) bool                      { return false }

// appKey signs as the App itself: a JSON Web Token (RFC 7519, RS256), valid
// for at most ten minutes by GitHub's rule, issued a minute ago for clocks that
// differ.
type appKey struct {
	id  string
	key *rsa.PrivateKey
	now func() time.Time
}

func (a *appKey) bearer(context.Context) (string, error) {
	claims, err := json.Marshal(map[string]any{
		"iss": a.id, "iat": a.now().Add(-time.Minute).Unix(), "exp": a.now().Add(8 * time.Minute).Unix(),
	})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + encode(claims)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, a.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign as the App %s with %s: %w", a.id, KeyVariable, err)
	}
	return signed + "." + encode(signature), nil
}

func (*appKey) refused(string) bool { return false }

// parseKey reads the App's key: PEM, PKCS #1 as GitHub hands it out, or PKCS #8.
// Line ends may be written as \n, since many secret stores hold one line only.
func parseKey(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(strings.ReplaceAll(text, `\n`, "\n")))
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block: put the whole file there that GitHub gave for the App", KeyVariable)
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if key, is := parsed.(*rsa.PrivateKey); err == nil && is {
		return key, nil
	}
	return nil, fmt.Errorf("%s holds no RSA private key: generate one in the App's settings", KeyVariable)
}

// early is how long before its end an installation token is replaced.
const early = 5 * time.Minute

// installation asks as the App's installation on the repository. Its token
// lives an hour and can do no more than this repository.
type installation struct {
	client *Client
	now    func() time.Time

	mu    sync.Mutex
	token string
	until time.Time
}

func (i *installation) bearer(ctx context.Context) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.token != "" && i.now().Add(early).Before(i.until) {
		return i.token, nil
	}
	c := i.client
	what := "installation of the App on " + c.Repository()
	found, _, err := c.app.Apps.FindRepositoryInstallation(ctx, c.owner, c.name)
	if err != nil {
		return "", explain(what, "install the App on the repository, and see that "+AppVariable+" and "+KeyVariable+" are of the same App", err)
	}
	made, _, err := c.app.Apps.CreateInstallationToken(repeat(ctx), found.GetID(), &gh.InstallationTokenOptions{Repositories: []string{c.name}})
	if err != nil {
		return "", explain("token of the "+what, "see that the App is not suspended", err)
	}
	i.token, i.until = made.GetToken(), made.GetExpiresAt().Time
	return i.token, nil
}

// refused forgets the token, unless it was replaced meanwhile.
func (i *installation) refused(token string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.token == token {
		i.token = ""
	}
	return true
}
