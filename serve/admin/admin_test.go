package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/serve/admin"
	"github.com/penstock-ml/penstock/serve/host"
)

// stub is the models test, which takes one digest, and other, which is never
// asked for anything.
type stub struct{ status host.Status }

func (s *stub) Names() []string { return []string{"test", "other"} }

func (s *stub) Status(name string) (host.Status, error) {
	switch name {
	case "test":
		return s.status, nil
	case "other":
		return host.Status{State: host.Empty}, nil
	}
	return host.Status{}, fmt.Errorf("%w %q", host.ErrUnknown, name)
}

func (s *stub) Assign(ctx context.Context, name, digest string) (host.Status, error) {
	if _, bound := ctx.Deadline(); !bound {
		return s.status, errors.New("a load without a deadline")
	}
	if digest == away {
		return s.status, fmt.Errorf("fetch model: %w: no answer", bundle.ErrUnavailable)
	}
	if digest == full {
		return s.status, fmt.Errorf("%w: no space left", host.ErrMemory)
	}
	if digest == slow {
		return s.status, fmt.Errorf("waiting for a free CPU: %w", context.DeadlineExceeded)
	}
	if name != "test" || digest != good {
		return s.status, errors.New("its goldens differ")
	}
	s.status = host.Status{Digest: digest, State: host.Ready, Serving: digest}
	return s.status, nil
}

func (s *stub) Unload(ctx context.Context, name string) (host.Status, error) {
	if _, err := s.Status(name); err != nil {
		return host.Status{}, err
	}
	if _, bound := ctx.Deadline(); !bound || name != "test" {
		return host.Status{State: host.Unloading}, errors.New("requests go on")
	}
	s.status = host.Status{State: host.Unloaded}
	return s.status, nil
}

var (
	good = strings.Repeat("a", 64)
	bad  = strings.Repeat("b", 64)
	away = strings.Repeat("c", 64)
	slow = strings.Repeat("d", 64)
	full = strings.Repeat("e", 64)
)

func serve(t *testing.T, access admin.Access) string {
	t.Helper()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metrics") })
	server := httptest.NewServer(admin.New(&stub{host.Status{State: host.Empty}}, access, metrics).Handler())
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
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 || !reflect.DeepEqual(got, host.Status{Digest: good, State: host.Ready, Serving: good}) {
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
	if want := (host.Status{Digest: bad, State: host.Failed, Reason: "its goldens differ", Serving: good}); code != 422 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d %+v", code, got)
	}
}

func TestABundleThatCannotBeFetchedOrLoadedInTimeOrRememberedIsNotRefused(t *testing.T) {
	url := serve(t, admin.Access{Loopback: true}) + "/admin/v1/models/test"
	for digest, reason := range map[string]string{away: "no answer", slow: "deadline exceeded", full: "no space left"} {
		code, body := do(t, "PUT", url, "", `{"digest":"`+digest+`"}`)
		if code != 503 || !strings.Contains(body, reason) || !strings.Contains(body, `"state":"failed"`) {
			t.Errorf("%d %s", code, body)
		}
	}
}

func TestEveryAnswerAboutAModelShowsWhatStillHoldsMemory(t *testing.T) {
	models := &stub{host.Status{Digest: good, State: host.Ready, Serving: good, Draining: []string{bad, slow}}}
	server := httptest.NewServer(admin.New(models, admin.Access{Loopback: true}, http.NotFoundHandler()).Handler())
	defer server.Close()
	want := `"draining":["` + bad + `","` + slow + `"]`
	for _, path := range []string{"GET /admin/v1/models", "GET /admin/v1/models/test", "PUT /admin/v1/models/test"} { // which fails
		method, path, _ := strings.Cut(path, " ")
		if _, body := do(t, method, server.URL+path, "", `{"digest":"`+bad+`"}`); !strings.Contains(body, want) {
			t.Errorf("%s %s: %s", method, path, body)
		}
	}
	if _, body := do(t, "GET", server.URL+"/admin/v1/models/other", "", ""); strings.Contains(body, "draining") {
		t.Errorf("where nothing does: %s", body)
	}
}

func TestBadBodiesAreRefused(t *testing.T) {
	base := serve(t, admin.Access{Loopback: true})
	for _, body := range []string{"", "{}", `{"digest":"latest"}`, `{"digset":"` + good + `"}`, `{"digest":"` + good + `"} x`, `[]`, strings.Repeat(" ", 1<<17) + "{}"} {
		if code, text := do(t, "PUT", base+"/admin/v1/models/test", "", body); code != 400 || !strings.Contains(text, `"error"`) {
			t.Errorf("%.40s: %d %s", body, code, text)
		}
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		if code, text := do(t, method, base+"/admin/v1/models/stranger", "", `{"digest":"`+good+`"}`); code != 404 || !strings.Contains(text, "stranger") {
			t.Errorf("%s of another model: %d %s", method, code, text)
		}
	}
}

func TestWithATokenOnlyItsBearerMay(t *testing.T) {
	base := serve(t, admin.Access{Token: "secret", Loopback: true})
	for authorization, want := range map[string]int{
		"": 401, "Bearer": 401, "Bearer wrong": 401, "Basic secret": 401, "secret": 401, "Bearer secret2": 401,
		"Bearer secret": 200, "bearer secret": 200,
	} {
		for _, route := range []string{
			"GET /admin/v1/models", "GET /admin/v1/models/test", "PUT /admin/v1/models/test", "DELETE /admin/v1/models/test", "POST /v2/repository/index",
			"POST /v2/repository/models/test/unload",
		} {
			method, path, _ := strings.Cut(route, " ")
			code, body := do(t, method, base+path, authorization, `{"digest":"`+good+`"}`)
			if code != want || strings.Contains(body, `"secret"`) {
				t.Errorf("%s with %q: %d %s", route, authorization, code, body)
			}
		}
	}
	for _, path := range []string{"/metrics", "/health"} {
		if code, _ := do(t, "GET", base+path, "", ""); code != 200 {
			t.Errorf("%s on loopback: %d", path, code)
		}
	}
}

func TestWhoIsTurnedAwayForWantOfTheTokenIsTold(t *testing.T) {
	denied := 0
	base := serve(t, admin.Access{Token: "secret", Denied: func() { denied++ }})
	want := 0
	for _, c := range []struct {
		path, authorization string
		denied              int
	}{
		{"/admin/v1/models", "", 1},
		{"/admin/v1/models/test", "Bearer wrong", 1},
		{"/metrics", "", 1},
		{"/admin/v1/models", "Bearer secret", 0},
		{"/metrics", "Bearer secret", 0},
		{"/admin/v1/models/stranger", "Bearer secret", 0},
		{"/health", "", 0},
		{"/nowhere", "", 0},
	} {
		do(t, "GET", base+c.path, c.authorization, "")
		if want += c.denied; denied != want {
			t.Errorf("%s with %q: told %d times, want %d", c.path, c.authorization, denied, want)
		}
	}
}

// A browser sends a POST without a body type of its own from any page, unasked.
func TestPagesOfStrangersChangeNothing(t *testing.T) {
	denied := 0
	url := serve(t, admin.Access{Loopback: true, Stranger: func() { denied++ }})
	for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"} {
		request, err := http.NewRequestWithContext(t.Context(), "POST", url+"/v2/repository/models/test/unload", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set(name, value)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", name, response.Status)
		}
	}
	if denied != 2 {
		t.Errorf("told of %d, want 2", denied)
	}
	if _, body := do(t, "GET", url+"/admin/v1/models/test", "", ""); !strings.Contains(body, `"state":"empty"`) {
		t.Errorf("unloaded: %s", body)
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

func TestAllModelsAreListed(t *testing.T) {
	base := serve(t, admin.Access{Loopback: true})
	do(t, "PUT", base+"/admin/v1/models/test", "", `{"digest":"`+good+`"}`)
	code, body := do(t, "GET", base+"/admin/v1/models", "", "")
	var got struct {
		Models []struct{ Name, Digest, State string }
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 || len(got.Models) != 2 {
		t.Fatalf("%d %s (%v)", code, body, err)
	}
	if m := got.Models[0]; m.Name != "test" || m.Digest != good || m.State != host.Ready {
		t.Errorf("%+v", m)
	}
	if m := got.Models[1]; m.Name != "other" || m.State != host.Empty {
		t.Errorf("%+v", m)
	}
}

func TestDeleteUnloadsOrSaysWhatGoesOn(t *testing.T) {
	base := serve(t, admin.Access{Loopback: true})
	if code, body := do(t, "DELETE", base+"/admin/v1/models/test", "", ""); code != 200 || !strings.Contains(body, `"state":"unloaded"`) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := do(t, "DELETE", base+"/admin/v1/models/other", "", ""); code != 503 || !strings.Contains(body, "requests go on") || !strings.Contains(body, `"state":"unloading"`) {
		t.Errorf("%d %s", code, body)
	}
}

func TestTritonsRepositoryIsAnswered(t *testing.T) {
	base := serve(t, admin.Access{Loopback: true})
	do(t, "PUT", base+"/admin/v1/models/test", "", `{"digest":"`+good+`"}`)
	ready := `{"name":"test","version":"` + good + `","state":"READY"}`
	away := `{"name":"other","state":"UNAVAILABLE","reason":"empty"}`
	for body, want := range map[string]string{"": "[" + ready + "," + away + "]", `{"ready":true}`: "[" + ready + "]"} {
		if code, got := do(t, "POST", base+"/v2/repository/index", "", body); code != 200 || strings.TrimSpace(got) != want {
			t.Errorf("%s: %d %s", body, code, got)
		}
	}
	if code, body := do(t, "POST", base+"/v2/repository/index", "", "x"); code != 400 {
		t.Errorf("%d %s", code, body)
	}
	if code, body := do(t, "POST", base+"/v2/repository/models/test/load", "", ""); code != 400 || !strings.Contains(body, "PUT /admin/v1/models/test") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := do(t, "POST", base+"/v2/repository/models/test/unload", "", ""); code != 200 || !strings.Contains(body, "unloaded") {
		t.Errorf("%d %s", code, body)
	}
}
