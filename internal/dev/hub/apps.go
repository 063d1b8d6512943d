package hub

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	installationLife = time.Hour
	maxAppToken      = 10 * time.Minute // GitHub refuses longer ones
)

// app is the App behind a JSON web token, signed with its private key.
func (h *Hub) app(token string) (identity, bool) {
	parts := strings.Split(token, ".")
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return identity{}, false
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return identity{}, false
	}
	var c struct {
		Issuer  any   `json:"iss"`
		Issued  int64 `json:"iat"`
		Expires int64 `json:"exp"`
	}
	if err := json.Unmarshal(claims, &c); err != nil {
		return identity{}, false
	}
	issuer := fmt.Sprint(c.Issuer)
	if n, isNumber := c.Issuer.(float64); isNumber {
		issuer = strconv.FormatInt(int64(n), 10)
	}
	id, err := strconv.ParseInt(issuer, 10, 64)
	if err != nil {
		return identity{}, false
	}
	key, err := publicKey(h.opt.Apps[id])
	if err != nil {
		return identity{}, false
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) != nil {
		return identity{}, false
	}
	now := h.opt.Now()
	expires := time.Unix(c.Expires, 0)
	if !expires.After(now) || expires.Sub(now) > maxAppToken+time.Second || time.Unix(c.Issued, 0).After(now.Add(time.Minute)) {
		return identity{}, false
	}
	return identity{Login: appLogin(id), App: id, Scopes: map[string]string{}}, true
}

func publicKey(text string) (*rsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, fmt.Errorf("hub: no public key in PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("hub: the App's key is no RSA key")
	}
	return public, nil
}

func appLogin(id int64) string { return fmt.Sprintf("app-%d[bot]", id) }

// appPermissions are what every installation has.
var appPermissions = map[string]string{
	"actions": "write", "contents": "write", "deployments": "write", "issues": "write", "pull-requests": "write",
	"statuses": "write", "checks": "write", "administration": "read", "metadata": "read",
}

func (h *Hub) appRoutes(mux *router) {
	h.api(mux, "GET /app", "", h.getApp)
	mux.HandleFunc("GET /api/v3/repos/{owner}/{repo}/installation", func(w http.ResponseWriter, req *http.Request) {
		// An App has no permissions of its own: the repository is looked up here.
		h.serveAPI(w, withoutRepository(req), "", h.getInstallation)
	})
	h.api(mux, "POST /app/installations/{installation}/access_tokens", "", h.postInstallationToken)
}

// withoutRepository hides the repository of the path from the permission check.
func withoutRepository(req *http.Request) *http.Request {
	out := req.Clone(req.Context())
	out.SetPathValue("of", req.PathValue("owner")+"/"+req.PathValue("repo"))
	out.SetPathValue("owner", "")
	return out
}

var errNoApp = &problem{status: http.StatusUnauthorized, message: "A JSON web token could not be decoded"}

func (h *Hub) appShape(id int64) m {
	return m{
		"id": id, "slug": strings.TrimSuffix(appLogin(id), "[bot]"), "node_id": nodeID("App", id), "owner": h.user(h.opt.Login),
		"name": strings.TrimSuffix(appLogin(id), "[bot]"), "description": nil, "external_url": h.URL, "html_url": h.URL + "/apps/" + appLogin(id),
		"created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z", "permissions": underscored(appPermissions), "events": []string{},
	}
}

// underscored spells permissions as the API does, not as workflows do.
func underscored(scopes map[string]string) m {
	out := m{}
	for k, v := range scopes {
		out[strings.ReplaceAll(k, "-", "_")] = v
	}
	return out
}

func (h *Hub) getApp(c *call) (answer, error) {
	if c.who.App == 0 {
		return answer{}, errNoApp
	}
	return ok(h.appShape(c.who.App))
}

func (h *Hub) getInstallation(c *call) (answer, error) {
	if c.who.App == 0 {
		return answer{}, errNoApp
	}
	r := h.state.byFull(c.PathValue("of"))
	if r == nil {
		return answer{}, errNotFound
	}
	id := r.ID
	return ok(m{
		"id": id, "account": h.user(r.Owner), "repository_selection": "selected", "app_id": c.who.App,
		"access_tokens_url": fmt.Sprintf("%s/app/installations/%d/access_tokens", h.API(), id), "repositories_url": h.API() + "/installation/repositories",
		"html_url": fmt.Sprintf("%s/settings/installations/%d", h.URL, id), "target_id": userID(r.Owner), "target_type": "User",
		"permissions": underscored(appPermissions), "events": []string{}, "created_at": when(r.Created), "updated_at": when(r.Created),
		"single_file_name": nil, "app_slug": strings.TrimSuffix(appLogin(c.who.App), "[bot]"), "suspended_by": nil, "suspended_at": nil,
	})
}

func (h *Hub) postInstallationToken(c *call) (answer, error) {
	if c.who.App == 0 {
		return answer{}, errNoApp
	}
	id, err := c.number("installation")
	if err != nil {
		return answer{}, err
	}
	r := find(h.state.Repositories, func(r *repository) bool { return r.ID == id })
	if r == nil {
		return answer{}, errNotFound
	}
	g := grantedToken{
		token: newToken("ghs_"), expires: h.opt.Now().Add(installationLife),
		who: identity{Login: c.who.Login, Scopes: appPermissions, Repository: r.full()},
	}
	h.grants = append(h.grants, g)
	return created(m{
		"token": g.token, "expires_at": when(g.expires.Truncate(time.Second)), "permissions": underscored(appPermissions),
		"repository_selection": "selected",
	})
}
