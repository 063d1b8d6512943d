package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/serve/admin"
	"github.com/penstock-ml/penstock/serve/host"
)

// stub is a host that takes one digest.
type stub struct {
	good   string
	status host.Status
}

func (s *stub) Name() string        { return "test" }
func (s *stub) Status() host.Status { return s.status }

func (s *stub) Assign(ctx context.Context, digest string) (host.Status, error) {
	if _, bound := ctx.Deadline(); !bound {
		return s.status, errors.New("a load without a deadline")
	}
	if digest == away {
		return s.status, fmt.Errorf("fetch model: %w: no answer", bundle.ErrUnavailable)
	}
	if digest != s.good {
		return s.status, errors.New("its goldens differ")
	}
	s.status = host.Status{Digest: digest, State: host.Ready, Serving: digest}
	return s.status, nil
}

var (
	good = strings.Repeat("a", 64)
	bad  = strings.Repeat("b", 64)
	away = strings.Repeat("c", 64)
)

func serve(t *testing.T, access admin.Access) string {
	t.Helper()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metrics") })
	server := httptest.NewServer(admin.New(&stub{good: good, status: host.Status{State: host.Empty}}, access, metrics).Handler())
	t.Cleanup(server.Close)
	return server.URL
}

func do(t *testing.T, method, url, authorization, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

func TestPutLoadsAndGetSaysSo(t *testing.T) {
	url := serve(t, admin.Access{Loopback: true}) + "/admin/v1/models/test"
	for range 2 {
		if code, body := do(t, "PUT", url, "", `{"digest":"`+good+`"}`); code != 200 || !strings.Contains(body, `"state":"ready"`) {
			t.Errorf("PUT: %d %s", code, body)
		}
	}
	code, body := do(t, "GET", url, "", "")
	var got host.Status
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 || got != (host.Status{Digest: good, State: host.Ready, Serving: good}) {
		t.Errorf("GET: %d %s (%v)", code, body, err)
	}
}

func TestAFailedLoadSaysWhyAndWhatIsServed(t *testing.T) {
	url := serve(t, admin.Access{Loopback: true}) + "/admin/v1/models/test"
	do(t, "PUT", url, "", `{"digest":"`+good+`"}`)
	code, body := do(t, "PUT", url, "", `{"digest":"`+bad+`"}`)
	var got host.Status
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if want := (host.Status{Digest: bad, State: host.Failed, Reason: "its goldens differ", Serving: good}); code != 422 || got != want {
		t.Errorf("%d %+v", code, got)
	}
}

func TestABundleThatCannotBeFetchedIsNotRefused(t *testing.T) {
	url := serve(t, admin.Access{Loopback: true}) + "/admin/v1/models/test"
	code, body := do(t, "PUT", url, "", `{"digest":"`+away+`"}`)
	if code != 503 || !strings.Contains(body, "no answer") || !strings.Contains(body, `"state":"failed"`) {
		t.Errorf("%d %s", code, body)
	}
}

func TestBadBodiesAreRefused(t *testing.T) {
	base := serve(t, admin.Access{Loopback: true})
	for _, body := range []string{"", "{}", `{"digest":"latest"}`, `{"digset":"` + good + `"}`, `{"digest":"` + good + `"} x`, `[]`, strings.Repeat(" ", 1<<17) + "{}"} {
		if code, text := do(t, "PUT", base+"/admin/v1/models/test", "", body); code != 400 || !strings.Contains(text, `"error"`) {
			t.Errorf("%.40s: %d %s", body, code, text)
		}
	}
	if code, _ := do(t, "PUT", base+"/admin/v1/models/other", "", `{"digest":"`+good+`"}`); code != 404 {
		t.Errorf("another model: %d", code)
	}
	if code, _ := do(t, "DELETE", base+"/admin/v1/models/test", "", ""); code != 405 {
		t.Errorf("DELETE: %d", code)
	}
}

func TestWithATokenOnlyItsBearerMay(t *testing.T) {
	base := serve(t, admin.Access{Token: "secret", Loopback: true})
	for authorization, want := range map[string]int{
		"": 401, "Bearer": 401, "Bearer wrong": 401, "Basic secret": 401, "secret": 401, "Bearer secret2": 401,
		"Bearer secret": 200, "bearer secret": 200,
	} {
		for _, method := range []string{"GET", "PUT"} {
			code, body := do(t, method, base+"/admin/v1/models/test", authorization, `{"digest":"`+good+`"}`)
			if code != want || strings.Contains(body, `"secret"`) {
				t.Errorf("%s with %q: %d %s", method, authorization, code, body)
			}
		}
	}
	for _, path := range []string{"/metrics", "/health"} {
		if code, _ := do(t, "GET", base+path, "", ""); code != 200 {
			t.Errorf("%s on loopback: %d", path, code)
		}
	}
}

func TestOffLoopbackMetricsNeedTheToken(t *testing.T) {
	base := serve(t, admin.Access{Token: "secret"})
	if code, _ := do(t, "GET", base+"/metrics", "", ""); code != 401 {
		t.Errorf("without: %d", code)
	}
	if code, _ := do(t, "GET", base+"/metrics", "Bearer secret", ""); code != 200 {
		t.Errorf("with: %d", code)
	}
}

func TestCheckListenerRefusesWhatTheWorldCouldReach(t *testing.T) {
	cases := []struct {
		address, token string
		tls, ok        bool
	}{
		{"127.0.0.1:9000", "", false, true},
		{"[::1]:9000", "", false, true},
		{"localhost:9000", "secret", false, true},
		{":9000", "secret", false, false},
		{"0.0.0.0:9000", "secret", false, false},
		{"10.0.0.5:9000", "", true, false},
		{"10.0.0.5:9000", "secret", false, false},
		{"10.0.0.5:9000", "secret", true, true},
		{"serving.example:9000", "", false, false},
		{"9000", "secret", true, false},
	}
	for _, c := range cases {
		access, err := admin.CheckListener(c.address, c.token, c.tls)
		if (err == nil) != c.ok {
			t.Errorf("%s, token %q, TLS %t: %v", c.address, c.token, c.tls, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the token is told: %v", err)
		}
		if err == nil && access.Token != c.token {
			t.Errorf("%s: access %+v", c.address, access)
		}
	}
}
