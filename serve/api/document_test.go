package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/oip"
	"github.com/penstock-ml/penstock/serve/explain"
	"github.com/penstock-ml/penstock/serve/service"
)

func TestTheDocumentIsOpenAPI31(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatal(err)
	}
	if !doc.IsOpenAPI31OrLater() {
		t.Errorf("version %s", doc.OpenAPI)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheDocumentHasExactlyTheRoutesOfTheServer(t *testing.T) {
	var served, told []string
	for _, r := range New(Options{Page: true}).routes() {
		served = append(served, strings.ToLower(r.method)+" "+strings.TrimSuffix(r.path, "{$}"))
	}
	for path, operations := range at(t, "/paths").(map[string]any) {
		for method := range operations.(map[string]any) {
			told = append(told, method+" "+path)
		}
	}
	sort.Strings(served)
	sort.Strings(told)
	if !slices.Equal(served, told) {
		t.Errorf("served %q\ntold   %q", served, told)
	}
}

func TestTheDocumentsWordsAndLimitsAreTheCodes(t *testing.T) {
	infer, predict := "/paths/~1v2~1models~1{name}~1infer/post", "/paths/~1v1~1models~1{name}~1predict/post"
	datatypes := []oip.Datatype{}
	for _, d := range at(t, "/components/schemas/Datatype/enum").([]any) {
		datatypes = append(datatypes, oip.Datatype(d.(string)))
		if !datatypes[len(datatypes)-1].Known() {
			t.Errorf("datatype %s is not known", d)
		}
	}
	if len(datatypes) != 14 {
		t.Errorf("%d datatypes", len(datatypes))
	}
	for pointer, want := range map[string]any{
		"/components/schemas/Score/properties/urgency/enum":            bundle.Urgencies,
		"/components/schemas/Label/properties/urgency/enum":            bundle.Urgencies,
		"/components/schemas/Score/properties/decision/enum":           []string{Positive, Negative},
		"/components/schemas/Explanation/properties/method/enum":       service.Methods,
		"/components/schemas/Explanation/properties/width/maximum":     explain.MaxSide,
		"/components/schemas/Explanation/properties/height/maximum":    explain.MaxSide,
		"/components/schemas/Offer/properties/task/enum":               []string{bundle.TaskMultilabel, bundle.TaskSuperResolution, bundle.TaskTensor},
		"/components/schemas/InferRequest/properties/inputs/maxItems":  oip.DefaultLimits.Tensors,
		"/components/schemas/InferRequest/properties/outputs/maxItems": oip.DefaultLimits.Tensors,
		"/components/parameters/timeout/schema/maximum":                MaxTimeout,
		"/components/parameters/timeout/name":                          TimeoutHeader,
		"/components/parameters/headerLength/name":                     headerLengthHeader,
		infer + "/requestBody/x-max-bytes":                             oip.DefaultLimits.Bytes,
		predict + "/requestBody/x-max-bytes":                           imaging.DefaultLimits.Bytes,
	} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(at(t, pointer))
		if err != nil || string(got) != string(text) {
			t.Errorf("%s: %s, the code has %s", pointer, got, text)
		}
	}
}

// Every kind of problem has its status, and every status is told where a
// picture or tensors are sent, but the one that nobody gets.
func TestEveryKindOfProblemHasAStatusInTheDocument(t *testing.T) {
	for _, kind := range service.Kinds {
		status, ok := statuses[kind]
		if !ok {
			t.Errorf("%s has no status", kind)
		}
		if status == statusGone {
			continue
		}
		at(t, fmt.Sprintf("/paths/~1v1~1models~1{name}~1predict/post/responses/%d", status))
	}
}

// at follows a JSON pointer into the document.
func at(t *testing.T, pointer string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(document, &v); err != nil {
		t.Fatal(err)
	}
	for _, key := range strings.Split(pointer, "/")[1:] {
		key = strings.NewReplacer("~1", "/", "~0", "~").Replace(key)
		object, _ := v.(map[string]any)
		if v = object[key]; v == nil {
			t.Fatalf("the document has no %s", pointer)
		}
	}
	return v
}
