// Package openapi holds answers against GitHub's own description of its REST
// API (npm package @octokit/openapi, put into the cache by `make setup`). It is
// for tests: of the stand-in, and of anything else that plays GitHub.
//
// The description is large (13 MB), so only the operations and schemas that are
// asked about are handed to the validator.
//
// Refused: answers with a path, method or status that the description does not
// know.
package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
)

// Description is GitHub's, read once.
type Description struct {
	paths      map[string]map[string]json.RawMessage // path, method: operation
	components map[string]map[string]json.RawMessage // kind, name
	segments   map[string][]string                   // of each path

	mu       sync.Mutex
	compiled map[string]*openapi3.Schema // by operation and status; nil is no content
}

// Load reads the description from its file.
func Load(path string) (*Description, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("GitHub's API description: %w: run `make setup`", err)
	}
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("GitHub's API description %s: %w", path, err)
	}
	d := &Description{paths: doc.Paths, components: doc.Components, segments: map[string][]string{}, compiled: map[string]*openapi3.Schema{}}
	for p := range d.paths {
		d.segments[p] = strings.Split(strings.Trim(p, "/"), "/")
	}
	return d, nil
}

// Check holds one answer against the description. path is GitHub's, without the
// prefix /api/v3.
func (d *Description) Check(method, path string, status int, body []byte) error {
	template := d.find(method, path)
	if template == "" {
		return fmt.Errorf("%s %s is no path of GitHub's API", method, path)
	}
	schema, err := d.schema(template, strings.ToLower(method), status)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, template, err)
	}
	if schema == nil {
		if len(bytes.TrimSpace(body)) > 0 {
			return fmt.Errorf("%s %s: %d has no content at GitHub, but %d bytes came", method, template, status, len(body))
		}
		return nil
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return fmt.Errorf("%s %s: %d: %w", method, template, status, err)
	}
	if err := schema.VisitJSON(value, openapi3.MultiErrors()); err != nil {
		return fmt.Errorf("%s %s: %d: %w", method, template, status, short(err))
	}
	return nil
}

// short keeps the reasons of an error and leaves the schemas out.
func short(err error) error {
	var many openapi3.MultiError
	if !errors.As(err, &many) {
		return reason(err)
	}
	var all []error
	for _, e := range many {
		all = append(all, reason(e))
	}
	return errors.Join(all...)
}

func reason(err error) error {
	var one *openapi3.SchemaError
	if errors.As(err, &one) {
		return fmt.Errorf("at /%s: %s", strings.Join(one.JSONPointer(), "/"), one.Reason)
	}
	return err
}

// find is the template of a path with the most literal segments.
func (d *Description) find(method, path string) string {
	given := strings.Split(strings.Trim(path, "/"), "/")
	best, literals := "", -1
	for template, segments := range d.segments {
		if _, has := d.paths[template][strings.ToLower(method)]; !has {
			continue
		}
		if n := matches(segments, given); n > literals {
			best, literals = template, n
		}
	}
	return best
}

// withSlashes are last parameters that take all that is left of a path.
var withSlashes = []string{"{ref}", "{path}", "{basehead}", "{branch}", "{tag}"}

// matches counts the literal segments; -1 is no match.
func matches(template, given []string) int {
	n := 0
	for i, s := range template {
		wild := strings.HasPrefix(s, "{")
		if i >= len(given) || !wild && s != given[i] {
			return -1
		}
		if !wild {
			n++
		}
	}
	if len(given) > len(template) {
		if !slices.Contains(withSlashes, template[len(template)-1]) {
			return -1
		}
		return 0 // only where no template fits whole
	}
	return n
}

// schema is that of an answer; nil where the answer has no content.
func (d *Description) schema(template, method string, status int) (*openapi3.Schema, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := method + " " + template + " " + strconv.Itoa(status)
	if s, known := d.compiled[key]; known {
		return s, nil
	}
	var operation struct {
		Responses map[string]json.RawMessage
	}
	if err := json.Unmarshal(d.paths[template][method], &operation); err != nil {
		return nil, err
	}
	raw, known := operation.Responses[strconv.Itoa(status)]
	if !known {
		return nil, fmt.Errorf("status %d is none of this operation", status)
	}
	doc, err := d.reduced(raw)
	if err != nil {
		return nil, err
	}
	loaded, err := openapi3.NewLoader().LoadFromData(doc)
	if err != nil {
		return nil, err
	}
	response := loaded.Paths.Value("/x").Get.Responses.Value("200").Value
	var schema *openapi3.Schema
	for kind, media := range response.Content {
		if strings.Contains(kind, "json") {
			schema = media.Schema.Value
			break
		}
	}
	d.compiled[key] = schema
	return schema, nil
}

// reduced is a description of one answer with all that it refers to.
func (d *Description) reduced(response json.RawMessage) ([]byte, error) {
	components := map[string]map[string]json.RawMessage{}
	queue := references(response)
	for len(queue) > 0 {
		kind, name := queue[0][0], queue[0][1]
		queue = queue[1:]
		if _, done := components[kind][name]; done {
			continue
		}
		raw, there := d.components[kind][name]
		if !there {
			return nil, fmt.Errorf("the description lacks %s %s", kind, name)
		}
		if components[kind] == nil {
			components[kind] = map[string]json.RawMessage{}
		}
		if kind == "examples" {
			raw = json.RawMessage(`{"value":null}`)
		}
		components[kind][name] = raw
		queue = append(queue, references(raw)...)
	}
	return json.Marshal(map[string]any{
		"openapi": "3.0.3", "info": map[string]string{"title": "one answer", "version": "1"},
		"paths":      map[string]any{"/x": map[string]any{"get": map[string]any{"responses": map[string]any{"200": response}}}},
		"components": components,
	})
}

// references are the components that a piece of the description names.
func references(raw json.RawMessage) [][2]string {
	const mark = `"#/components/`
	var found [][2]string
	for rest := string(raw); ; {
		_, after, more := strings.Cut(rest, mark)
		if !more {
			return found
		}
		name, behind, _ := strings.Cut(after, `"`)
		kind, id, _ := strings.Cut(name, "/")
		found, rest = append(found, [2]string{kind, id}), behind
	}
}
