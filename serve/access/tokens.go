// Package access owns who may reach the public listeners, REST and gRPC alike:
// bearer tokens (RFC 6750), and the certificate by which clients know the
// server.
//
// Tokens come from the environment, never from a flag. Several may be valid at
// a time, so that they can be changed without a gap: add the new one, move the
// clients, take the old one away. Health is open: a balancer knows no token,
// and it learns nothing.
//
// Refused: tokens that can be guessed for their length, tokens in URLs.
package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/penstock-ml/penstock/internal/oip"
)

// Variable holds the tokens of the public listeners, separated by commas.
const Variable = "PENSTOCK_API_TOKEN"

// shortest is the least length of a token, in bytes.
const shortest = 16

// missing is what a client without a token is told.
const missing = "the token is missing or wrong: send Authorization: Bearer, with a token of this server's operator"

// Open are the HTTP paths that need no token.
var Open = []string{"/v2/health/live", "/v2/health/ready"}

// openMethods are the gRPC methods that need no token.
var openMethods = []string{
	"/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady",
	"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
}

// Tokens are those that are valid; none at all: everybody may.
type Tokens struct {
	sums   [][sha256.Size]byte // digests are compared: equal lengths, constant time
	denied func()              // is told of everybody who is turned away
}

// Telling are the tokens that tell denied of everybody who is turned away.
func (t Tokens) Telling(denied func()) Tokens {
	t.denied = denied
	return t
}

// ParseTokens reads the value of Variable.
func ParseTokens(text string) (Tokens, error) {
	t := Tokens{denied: func() {}}
	if strings.TrimSpace(text) == "" {
		return t, nil
	}
	for i, token := range strings.Split(text, ",") {
		token = strings.TrimSpace(token)
		if len(token) < shortest {
			return Tokens{}, fmt.Errorf("%s: token %d has fewer than %d characters: make one by openssl rand -hex 32", Variable, i+1, shortest)
		}
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return Tokens{}, fmt.Errorf("%s: token %d has a character that no header carries: make one by openssl rand -hex 32", Variable, i+1)
		}
		t.sums = append(t.sums, sha256.Sum256([]byte(token)))
	}
	return t, nil
}

// Needed tells whether there are tokens.
func (t Tokens) Needed() bool { return len(t.sums) > 0 }

// valid takes the same time whichever token it is, and whether it is one.
func (t Tokens) valid(authorization string) bool {
	scheme, token, _ := strings.Cut(authorization, " ")
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	found := 0
	for _, want := range t.sums {
		found |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	return strings.EqualFold(scheme, "Bearer") && found == 1
}

// among wants one Authorization: of two, others may go by the other one.
func (t Tokens) among(given []string) bool { return len(given) == 1 && t.valid(given[0]) }

// Handler asks for a token before next is reached, except at the paths in Open
// and in open.
func (t Tokens) Handler(next http.Handler, open ...string) http.Handler {
	if !t.Needed() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(Open, r.URL.Path) || slices.Contains(open, r.URL.Path) || t.among(r.Header.Values("Authorization")) {
			next.ServeHTTP(w, r)
			return
		}
		t.denied()
		w.Header().Set("WWW-Authenticate", `Bearer realm="penstock-serve"`)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(http.StatusUnauthorized)
		// An error here means that the client is gone: there is nobody to tell.
		_ = json.NewEncoder(w).Encode(oip.Error{Error: missing})
	})
}

// Call asks for a token before a gRPC method is called, by the metadata of the
// call. Its error is a gRPC status.
func (t Tokens) Call(method string, sent metadata.MD) error {
	if !t.Needed() || slices.Contains(openMethods, method) {
		return nil
	}
	if t.among(sent.Get("authorization")) {
		return nil
	}
	t.denied()
	return status.Error(codes.Unauthenticated, missing)
}
