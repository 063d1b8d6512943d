package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// contract holds answers to openapi.json.
type contract struct {
	doc      map[string]any
	mu       sync.Mutex
	compiler *jsonschema.Compiler
}

var readContract = sync.OnceValues(func() (*contract, error) {
	data, err := os.ReadFile("openapi.json")
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	return &contract{doc: doc.(map[string]any), compiler: c}, c.AddResource("openapi.json", doc)
})

// conform compares an answer with what the document says of its address and
// status.
func conform(t *testing.T, method, path string, a answer) {
	t.Helper()
	c, err := readContract()
	if err != nil {
		t.Fatal(err)
	}
	where := method + " " + path + ": " + strconv.Itoa(a.status)
	pointer := c.operation(t, method, path)
	if pointer == "" { // no such address or method
		if a.status != http.StatusNotFound && a.status != http.StatusMethodNotAllowed {
			t.Errorf("%s, and the document has no such operation", where)
		}
		c.check(t, where, "/components/schemas/Error", a.body)
		return
	}
	if a.status == http.StatusNotFound && strings.Contains(string(a.body), "no such address") {
		return // the page, switched off
	}
	pointer, response := c.follow(fmt.Sprintf("%s/responses/%d", pointer, a.status))
	if response == nil {
		t.Errorf("%s is not in the document: %s", where, a.body)
		return
	}
	c.headers(t, where, pointer, response, a.header)
	media, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	content, _ := response["content"].(map[string]any)
	if _, known := content[media]; err != nil || !known {
		t.Errorf("%s: Content-Type %q is not in the document", where, a.header.Get("Content-Type"))
		return
	}
	if media == "application/json" {
		c.check(t, where, pointer+"/content/application~1json/schema", a.body)
	}
}

// operation finds the operation of an address; empty: there is none.
func (c *contract) operation(t *testing.T, method, path string) string {
	t.Helper()
	u, err := url.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	given := strings.Split(u.Path, "/")
	for template, operations := range c.doc["paths"].(map[string]any) {
		want := strings.Split(template, "/")
		fits := len(want) == len(given)
		for i := 0; fits && i < len(want); i++ {
			fits = want[i] == given[i] || strings.HasPrefix(want[i], "{") && given[i] != ""
		}
		if _, known := operations.(map[string]any)[strings.ToLower(method)]; fits && known {
			return "/paths/" + strings.ReplaceAll(template, "/", "~1") + "/" + strings.ToLower(method)
		}
	}
	return ""
}

// follow reads an object of the document, through a reference.
func (c *contract) follow(pointer string) (string, map[string]any) {
	var v any = c.doc
	for _, key := range strings.Split(pointer, "/")[1:] {
		object, _ := v.(map[string]any)
		v = object[strings.ReplaceAll(key, "~1", "/")]
	}
	object, _ := v.(map[string]any)
	if to, ok := object["$ref"].(string); ok {
		return c.follow(strings.TrimPrefix(to, "#"))
	}
	return pointer, object
}

func (c *contract) headers(t *testing.T, where, pointer string, response map[string]any, got http.Header) {
	t.Helper()
	told, _ := response["headers"].(map[string]any)
	for name := range told {
		at, header := c.follow(pointer + "/headers/" + name)
		value := got.Get(name)
		if value == "" {
			if header["required"] == true {
				t.Errorf("%s: no header %s", where, name)
			}
			continue
		}
		text := strconv.Quote(value)
		if _, schema := c.follow(at + "/schema"); schema["type"] == "integer" {
			text = value
		}
		c.check(t, where+", "+name, at+"/schema", []byte(text))
	}
}

func (c *contract) check(t *testing.T, where, pointer string, body []byte) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	schema, err := c.compiler.Compile("openapi.json#" + strings.NewReplacer("{", "%7B", "}", "%7D").Replace(pointer))
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("%s does not fit the document: %v\n%s", where, err, excerpt(body))
	}
}

func excerpt(body []byte) string {
	if len(body) > 500 {
		return string(body[:500]) + " ..."
	}
	return string(body)
}

func TestTheValidatorSeesWhatDoesNotFit(t *testing.T) {
	c, err := readContract()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := c.compiler.Compile("openapi.json#/components/schemas/Error")
	if err != nil {
		t.Fatal(err)
	}
	for body, fits := range map[string]bool{`{"error":"no"}`: true, `{"error":""}`: false, `{}`: false, `{"error":"no","more":1}`: false} {
		var value any
		if err := json.Unmarshal([]byte(body), &value); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); (err == nil) != fits {
			t.Errorf("%s: %v", body, err)
		}
	}
}
