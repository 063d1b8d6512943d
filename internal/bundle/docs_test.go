package bundle_test

import (
	"os"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle"
)

func TestTheExamplesOfTheManualAreRead(t *testing.T) {
	text, err := os.ReadFile("../../docs/bundle.md")
	if err != nil {
		t.Fatal(err)
	}
	tasks := map[string]bool{}
	for i, part := range strings.Split(string(text), "```") {
		if example, ok := strings.CutPrefix(part, "yaml\n"); ok && i%2 == 1 {
			m, err := bundle.ParseManifest([]byte(example))
			if err != nil {
				t.Error(err)
			}
			tasks[m.Task] = true
		}
	}
	for _, task := range []string{bundle.TaskMultilabel, bundle.TaskSuperResolution, bundle.TaskTensor} {
		if !tasks[task] {
			t.Errorf("no example of the task %s", task)
		}
	}
}
