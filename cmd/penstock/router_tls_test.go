package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/outside/haproxy/haproxytest"
)

// TestRouterOffLoopbackSpeaksOnlyTLS binds every interface, which is allowed
// with a certificate only, and wants plain HTTP to get no answer.
func TestRouterOffLoopbackSpeaksOnlyTLS(t *testing.T) {
	proxy := haproxytest.New(t)
	_, port, err := net.SplitHostPort(closedPort(t))
	if err != nil {
		t.Fatal(err)
	}
	cert, key, pool := certificate(t)
	cmd := exec.Command("penstock", "router", "--listen", "0.0.0.0:"+port, "--map", proxy.MapFile(),
		"--socket", filepath.Join(proxy.Dir, "s"), "--tls-cert", cert, "--tls-key", key)
	cmd.Env = append(os.Environ(), "PENSTOCK_ROUTER_TOKEN=secret")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // the test is over, whatever it did
		_ = cmd.Wait()
	})
	secure := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	proxy.Await("the router to answer over TLS", func() bool {
		return status(t, secure, "https://127.0.0.1:"+port+"/healthz") == http.StatusOK
	})
	if got := status(t, secure, "https://127.0.0.1:"+port+"/v1/split"); got != http.StatusUnauthorized {
		t.Errorf("without a token: status %d", got)
	}
	if got := status(t, http.DefaultClient, "http://127.0.0.1:"+port+"/healthz"); got == http.StatusOK {
		t.Error("plain HTTP was answered")
	}
}

// status is that of a GET, 0 where there is no answer.
func status(t *testing.T, c *http.Client, url string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// certificate makes one for 127.0.0.1, signed by itself, in two PEM files.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "router"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool = x509.NewCertPool()
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	return cert, key, pool
}
