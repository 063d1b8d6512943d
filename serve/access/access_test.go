package access

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	oldToken = "0123456789abcdef-old"
	newToken = "0123456789abcdef-new"
)

func tokens(t *testing.T, text string) Tokens {
	t.Helper()
	parsed, err := ParseTokens(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestTokensThatCannotProtectAreRefusedAndNotRepeated(t *testing.T) {
	for _, text := range []string{"short", "0123456789abcdef,", ",0123456789abcdef", "0123456789abcdef,short", "0123456789 abcdef", "0123456789abcdef\u00e9"} {
		_, err := ParseTokens(text)
		if err == nil || strings.Contains(err.Error(), "short") || strings.Contains(err.Error(), "abcdef") || !strings.Contains(err.Error(), Variable) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if tokens(t, " ").Needed() || !tokens(t, oldToken).Needed() {
		t.Error("no token is needed, or one is not")
	}
}

func TestARequestNeedsOneOfTheTokensExceptForHealth(t *testing.T) {
	reached := 0
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ })
	h := tokens(t, oldToken+", "+newToken).Handler(next, "/")
	ask := func(path, authorization string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", path, nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		path, authorization string
		code                int
	}{
		{"/v2", "Bearer " + oldToken, 200},
		{"/v2", "bearer " + newToken, 200},
		{"/v2", "Bearer  " + newToken, 200},
		{"/", "", 200},
		{"/v2/health/live", "", 200},
		{"/v2/health/ready", "", 200},
		{"/v2", "", 401},
		{"/v2", "Bearer", 401},
		{"/v2", "Bearer " + oldToken + "x", 401},
		{"/v2", "Bearer " + oldToken + "," + newToken, 401},
		{"/v2", "Basic " + oldToken, 401},
		{"/v2", oldToken, 401},
		{"/v2?access_token=" + oldToken, "", 401},
		{"/v2/health/live/..", "", 401},
		{"/v2/health/", "", 401},
		{"/page", "", 401},
	} {
		before := reached
		w := ask(c.path, c.authorization)
		if w.Code != c.code || (reached > before) != (c.code == 200) {
			t.Errorf("%s with %q: %d", c.path, c.authorization, w.Code)
		}
		if c.code == 401 && (w.Header().Get("WWW-Authenticate") == "" || !strings.Contains(w.Body.String(), `{"error":"the token is missing`)) {
			t.Errorf("%v %s", w.Header(), w.Body)
		}
	}
	r := httptest.NewRequest("GET", "/v2", nil)
	r.Header["Authorization"] = []string{"Bearer " + oldToken, "Bearer of-somebody-else"}
	answer := httptest.NewRecorder()
	if h.ServeHTTP(answer, r); answer.Code != 401 {
		t.Errorf("two tokens: %d", answer.Code)
	}
	h = tokens(t, "").Handler(next)
	if w := ask("/v2", ""); w.Code != 200 {
		t.Errorf("no token is needed: %d", w.Code)
	}
}

func TestACallNeedsATokenExceptForHealth(t *testing.T) {
	valid := tokens(t, oldToken)
	const infer = "/inference.GRPCInferenceService/ModelInfer"
	for _, c := range []struct {
		method string
		sent   metadata.MD
		code   codes.Code
	}{
		{infer, metadata.Pairs("authorization", "Bearer "+oldToken), codes.OK},
		{infer, metadata.Pairs("authorization", "Bearer "+newToken), codes.Unauthenticated},
		{infer, metadata.Pairs("authorization", "Bearer "+newToken, "authorization", "Bearer "+oldToken), codes.Unauthenticated},
		{infer, nil, codes.Unauthenticated},
		{"/inference.GRPCInferenceService/ServerMetadata", nil, codes.Unauthenticated},
		{"/grpc.health.v1.Health/List", nil, codes.Unauthenticated},
		{"/grpc.health.v1.Health/Check", nil, codes.OK},
		{"/grpc.health.v1.Health/Watch", nil, codes.OK},
		{"/inference.GRPCInferenceService/ServerLive", nil, codes.OK},
	} {
		if err := valid.Call(c.method, c.sent); status.Code(err) != c.code {
			t.Errorf("%s with %v: %v, want %s", c.method, c.sent, err, c.code)
		}
	}
	if err := tokens(t, "").Call(infer, nil); err != nil {
		t.Errorf("no token is needed: %v", err)
	}
}

func TestWhoIsTurnedAwayIsCountedAndToldNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told bytes.Buffer
		denials, counted := NewDenials(slog.New(slog.NewTextHandler(&told, nil)), NoToken), 0
		valid := tokens(t, oldToken).Telling(func() {
			counted++
			denials.Add()
		})
		h := valid.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		ask := func(token string) {
			r := httptest.NewRequest("GET", "/v2", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			h.ServeHTTP(httptest.NewRecorder(), r)
			_ = valid.Call("/inference.GRPCInferenceService/ModelInfer", metadata.Pairs("authorization", "Bearer "+token)) // told by the code elsewhere
		}
		ask(oldToken)
		if counted != 0 || told.Len() != 0 {
			t.Errorf("a valid token: counted %d, told %s", counted, &told)
		}
		for range 1000 {
			ask(newToken)
		}
		time.Sleep(tellTerm)
		ask(newToken)
		if counted != 2002 {
			t.Errorf("counted %d", counted)
		}
		lines := strings.Split(strings.TrimSpace(told.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], "requests=1") || !strings.HasSuffix(lines[1], "requests=2000") || strings.Contains(told.String(), newToken) {
			t.Errorf("told %q", lines)
		}
	})
}

// write makes a self-signed certificate with a serial number of its own.
func write(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if name == "" {
			continue
		}
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		// the file's time is the disk's, whose clock is coarse
		if err := os.Chtimes(name, time.Time{}, time.Unix(serial, 0)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestANewCertificateIsUsedAndABrokenOneIsNot(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	synctest.Test(t, func(t *testing.T) {
		var told bytes.Buffer
		log := slog.New(slog.NewTextHandler(&told, nil))
		if _, err := LoadCertificate(cert, key, log); err == nil || !strings.Contains(err.Error(), "cert.pem") || !strings.Contains(err.Error(), "key.pem") {
			t.Errorf("no files: %v", err)
		}
		write(t, cert, key, 1)
		c, err := LoadCertificate(cert, key, log)
		if err != nil {
			t.Fatal(err)
		}
		want := func(serial int64, when string) {
			t.Helper()
			got, err := c.Config().GetCertificate(&tls.ClientHelloInfo{})
			if err != nil || got.Leaf.SerialNumber.Int64() != serial {
				t.Errorf("%s: number %v, %v, want %d", when, got.Leaf.SerialNumber, err, serial)
			}
		}
		want(1, "at the start")
		write(t, cert, key, 2)
		want(1, "before the next look")
		time.Sleep(checkTerm)
		want(2, "after the next look")
		write(t, cert, "", 3) // without its key
		for range 3 {
			time.Sleep(checkTerm)
			want(2, "with half a pair")
		}
		if n := strings.Count(told.String(), "not used"); n != 1 {
			t.Errorf("told %d times:\n%s", n, &told)
		}
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(checkTerm)
		want(2, "without a key")
		write(t, cert, key, 4)
		time.Sleep(checkTerm)
		want(4, "with the whole pair")
	})
	if _, err := LoadCertificate(cert, cert, slog.Default()); err == nil {
		t.Error("a certificate without a key is taken")
	}
}

func TestATokenIsFoundAtEveryPlace(t *testing.T) {
	three := tokens(t, strings.Join([]string{oldToken, newToken, "0123456789abcdef-third"}, ","))
	for _, token := range []string{oldToken, newToken, "0123456789abcdef-third"} {
		if !three.valid("Bearer " + token) {
			t.Errorf("%s is refused", token)
		}
	}
}
