package hub

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// actionsBot is who a run's token is.
const actionsBot = "github-actions[bot]"

// identity is who asks.
type identity struct {
	Login string
	Admin bool
	// A run's or an installation's token: what it may do, in which repository.
	// Scopes is nil for people.
	Scopes     map[string]string
	Repository string // full name; "" is all
	Run        int64  // the run whose GITHUB_TOKEN this is
	App        int64  // a GitHub App that speaks for itself
}

// grantedToken is a token of an App's installation.
type grantedToken struct {
	token   string
	who     identity
	expires time.Time
}

// administrator is the administrator's token: given, or made once and kept.
func (h *Hub) administrator() (string, error) {
	if h.opt.Token != "" {
		return h.opt.Token, nil
	}
	path := filepath.Join(h.opt.Dir, "token")
	data, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(data))) > 0 {
		return strings.TrimSpace(string(data)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("hub: token: %w", err)
	}
	token := newToken("ghp_")
	if err := verdict.WriteFile(path, []byte(token+"\n")); err != nil {
		return "", fmt.Errorf("hub: token: %w", err)
	}
	return token, os.Chmod(path, 0o600)
}

func newToken(prefix string) string {
	return prefix + rand.Text() + rand.Text()[:10]
}

// whoIs finds the identity behind a request's Authorization, in time that does
// not tell how much of a token was right.
func (h *Hub) whoIs(req *http.Request) (identity, bool) {
	given := bearer(req)
	if given == "" {
		return identity{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var who identity
	found := false
	try := func(token string, is identity) {
		if same(token, given) {
			who, found = is, true
		}
	}
	try(h.Token, identity{Login: h.opt.Login, Admin: true})
	for token, login := range h.opt.Users {
		try(token, identity{Login: login})
	}
	for id, l := range h.live {
		if r, run := h.findRun(id); run != nil {
			try(l.token, identity{Login: actionsBot, Scopes: run.Permissions, Repository: r.full(), Run: id})
		}
	}
	for _, g := range h.grants {
		if g.expires.After(h.opt.Now()) {
			try(g.token, g.who)
		}
	}
	if !found && strings.Count(given, ".") == 2 {
		return h.app(given)
	}
	return who, found
}

// bearer is the token of a request: Bearer, token, or the password of Basic.
func bearer(req *http.Request) string {
	if _, password, ok := req.BasicAuth(); ok {
		return password
	}
	kind, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if strings.EqualFold(kind, "bearer") || strings.EqualFold(kind, "token") {
		return strings.TrimSpace(token)
	}
	return ""
}

func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// may says whether somebody has a permission in a repository. The caller holds
// the lock.
func (h *Hub) may(who identity, r *repository, scope, level string) bool {
	if who.App != 0 {
		return false
	}
	if who.Scopes == nil {
		return who.Admin || strings.EqualFold(who.Login, r.Owner) || !r.Private && level == "read"
	}
	if !strings.EqualFold(who.Repository, r.full()) {
		return !r.Private && level == "read"
	}
	has := who.Scopes[scope]
	return has == "write" || has == level
}

// findRun looks for a run in all repositories.
func (h *Hub) findRun(id int64) (*repository, *run) {
	for _, r := range h.state.Repositories {
		if run := r.run(id); run != nil {
			return r, run
		}
	}
	return nil, nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
