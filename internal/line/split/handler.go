package split

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Refusal is the body of an answer that is not 200. Code is stale, held,
// invalid, canary-down, unauthorised or proxy.
type Refusal struct {
	Error string `json:"error"`
	Code  string `json:"code"`
}

// maxBody bounds the body of a PUT, in bytes.
const maxBody = 4096

// Handler serves GET and PUT /v1/split for those who send the bearer token,
// and GET /healthz for everybody.
func Handler(k *Keeper, token string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, "ok\n")
	})
	mux.Handle("GET /v1/split", bearer(token, func(w http.ResponseWriter, r *http.Request) {
		now, err := k.Read(r.Context())
		answer(w, now, err)
	}))
	mux.Handle("PUT /v1/split", bearer(token, func(w http.ResponseWriter, r *http.Request) {
		want, err := decode(w, r)
		if err != nil {
			answer(w, Split{}, err)
			return
		}
		now, err := k.Change(r.Context(), want)
		answer(w, now, err)
	}))
	return mux
}

// bearer lets only requests with the token through. Hashes are compared, so
// that neither the length nor the first wrong byte shows in the time.
func bearer(token string, next http.HandlerFunc) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(given))
		if !found || token == "" || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "unauthorised", "wrong or missing bearer token: set PENSTOCK_ROUTER_TOKEN to the router's")
			return
		}
		next(w, r)
	})
}

func decode(w http.ResponseWriter, r *http.Request) (Split, error) {
	var want Split
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&want); err != nil {
		return want, fmt.Errorf("%w: %s", ErrInvalid, err.Error())
	}
	return want, nil
}

func answer(w http.ResponseWriter, s Split, err error) {
	switch {
	case err == nil:
		respond(w, http.StatusOK, s)
	case errors.Is(err, ErrStale):
		refuse(w, http.StatusConflict, "stale", err.Error())
	case errors.Is(err, ErrHeld):
		refuse(w, http.StatusConflict, "held", err.Error())
	case errors.Is(err, ErrCanaryDown):
		refuse(w, http.StatusConflict, "canary-down", err.Error())
	case errors.Is(err, ErrInvalid):
		refuse(w, http.StatusBadRequest, "invalid", err.Error())
	default:
		refuse(w, http.StatusServiceUnavailable, "proxy", err.Error())
	}
}

func refuse(w http.ResponseWriter, status int, code, text string) {
	respond(w, status, Refusal{Error: text, Code: code})
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// The status line is out; a caller that went away cannot be told more.
	_ = json.NewEncoder(w).Encode(body)
}
