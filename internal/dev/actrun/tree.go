package actrun

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// node is one job of the run, jobs of called workflows included.
type node struct {
	path    string // caller/job; the ID in Events and Results
	plan    JobPlan
	raw     map[string]any // the job as the file has it
	outputs []string       // names, sorted
	steps   []step         // none for a job that calls a workflow
	called  *flow          // the workflow it calls
	results map[string]string
	verdict refusal
}

// refusal says why a job must not run here; zero lets it run.
type refusal struct {
	conclusion string // Failure (the hook said no) or Queued (nobody offers its labels)
	reason     string
	log        string // file with what the hook printed
}

// step is what the plan knows of a step before it runs.
type step struct{ id, name string }

// flow is one workflow file, ready to be written for act.
type flow struct {
	file  string // path in the checkout
	raw   map[string]any
	calls map[string]string // output -> expression, of a called workflow
	jobs  []*node
}

// maxDepth is GitHub's limit on workflows that call workflows.
const maxDepth = 10

// load reads a workflow file and all that it calls.
func load(dir, file, prefix string, depth int) (*flow, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s: workflows call each other more than %d deep", file, maxDepth)
	}
	if !filepath.IsLocal(file) {
		return nil, fmt.Errorf("workflow %q is no path inside the checkout", file)
	}
	data, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("workflow %s is not in the checkout %s", file, dir)
	} else if err != nil {
		return nil, err
	}
	plans, err := Jobs(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	f := &flow{file: file, raw: map[string]any{}}
	if err := yaml.Unmarshal(data, &f.raw); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	jobs, _ := f.raw["jobs"].(map[string]any)
	for _, plan := range plans {
		raw, ok := jobs[plan.ID].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: job %s is no mapping", file, plan.ID)
		}
		n := &node{path: prefix + plan.ID, plan: plan, raw: raw, outputs: keys(raw["outputs"])}
		if err := n.read(dir, depth); err != nil {
			return nil, fmt.Errorf("%s: job %s: %w", file, plan.ID, err)
		}
		f.jobs = append(f.jobs, n)
	}
	f.calls = callOutputs(f.raw)
	return f, nil
}

// read follows the call, or lists the steps.
func (n *node) read(dir string, depth int) error {
	if n.plan.Uses != "" {
		local, ok := strings.CutPrefix(n.plan.Uses, "./")
		if !ok {
			return fmt.Errorf("it calls %s: only workflows of the same checkout (./…) can be called here", n.plan.Uses)
		}
		var err error
		n.called, err = load(dir, local, n.path+"/", depth+1)
		return err
	}
	list, _ := n.raw["steps"].([]any)
	if len(list) == 0 {
		return errors.New("it has no steps")
	}
	for i, item := range list {
		raw, ok := item.(map[string]any)
		if !ok {
			return fmt.Errorf("step %d is no mapping", i+1)
		}
		n.steps = append(n.steps, readStep(i, raw))
	}
	return nil
}

// readStep names a step as GitHub does where the file gives no name, and as
// act numbers it where the file gives no id.
func readStep(i int, raw map[string]any) step {
	s := step{id: fmt.Sprint(i)}
	if id, ok := raw["id"].(string); ok && id != "" {
		s.id = id
	}
	switch name, run, uses := raw["name"], raw["run"], raw["uses"]; {
	case name != nil:
		s.name = fmt.Sprint(name)
	case run != nil:
		line, _, _ := strings.Cut(strings.TrimSpace(fmt.Sprint(run)), "\n")
		s.name = "Run " + line
	default:
		s.name = "Run " + fmt.Sprint(uses)
	}
	return s
}

func callOutputs(raw map[string]any) map[string]string {
	on, _ := raw["on"].(map[string]any)
	call, _ := on["workflow_call"].(map[string]any)
	outputs, _ := call["outputs"].(map[string]any)
	found := map[string]string{}
	for name, value := range outputs {
		long, _ := value.(map[string]any)
		found[name] = fmt.Sprint(long["value"])
	}
	return found
}

func keys(value any) []string {
	m, _ := value.(map[string]any)
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// leaves are the jobs that have steps, in the order of the files.
func (f *flow) leaves() []*node {
	var all []*node
	for _, n := range f.jobs {
		if n.called == nil {
			all = append(all, n)
		} else {
			all = append(all, n.called.leaves()...)
		}
	}
	return all
}

// uses lists the remote actions that the steps name.
func (f *flow) uses() []string {
	var found []string
	for _, n := range f.leaves() {
		list, _ := n.raw["steps"].([]any)
		for _, item := range list {
			raw, _ := item.(map[string]any)
			if name, ok := raw["uses"].(string); ok && !strings.HasPrefix(name, "./") {
				found = append(found, name)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// writer writes the workflows as act gets them: JSON, which is YAML that no
// two readers take differently.
type writer struct {
	checkout string // calls are relative to it
	dir      string // where the files go
	outputs  string // folder that takes the jobs' outputs
	next     int
}

// write writes f and what it calls, and returns the file of f.
func (w *writer) write(f *flow) (string, error) {
	jobs := map[string]any{}
	for _, n := range f.jobs {
		job, err := w.job(n)
		if err != nil {
			return "", err
		}
		jobs[n.plan.ID] = job
	}
	raw := make(map[string]any, len(f.raw))
	for key, value := range f.raw {
		raw[key] = value
	}
	raw["jobs"] = jobs
	data, err := json.Marshal(raw)
	if err != nil {
		return "", fmt.Errorf("%s: %w", f.file, err)
	}
	w.next++
	path := filepath.Join(w.dir, fmt.Sprintf("%d-%s", w.next, filepath.Base(f.file)))
	return path, os.WriteFile(path, data, 0o600)
}

// job is a job as act gets it. Its name carries its path, because act's log
// tells jobs apart by name only.
func (w *writer) job(n *node) (map[string]any, error) {
	job := make(map[string]any, len(n.raw)+1)
	for key, value := range n.raw {
		job[key] = value
	}
	job["name"] = "⟦" + n.path + "⟧" + n.plan.Name
	if strategy, ok := job["strategy"].(map[string]any); ok {
		one := map[string]any{"max-parallel": 1}
		for key, value := range strategy {
			if key != "max-parallel" {
				one[key] = value
			}
		}
		job["strategy"] = one
	}
	if n.called != nil {
		file, err := w.write(n.called)
		if err != nil {
			return nil, err
		}
		relative, err := filepath.Rel(w.checkout, file)
		job["uses"] = "./" + relative
		return job, err
	}
	switch n.verdict.conclusion {
	case Queued:
		job["runs-on"] = nobody
	case Failure:
		job["steps"] = []any{map[string]any{"id": setUp, "name": "Set up runner", "shell": "bash", "working-directory": w.dir, "run": "cat " + quote(n.verdict.log) + "; exit 1"}}
	default:
		if len(n.outputs) > 0 {
			job["steps"] = append(slices.Clone(job["steps"].([]any)), w.collector(n))
		}
	}
	return job, nil
}

// Names that no workflow has.
const (
	nobody    = "penstock-nobody-offers-this"
	collector = "penstock-outputs"
	setUp     = "penstock-set-up-runner"
)

// collector is the step that tells a job's outputs, which act's log does not:
// it writes name, value, name, value, each ended by a zero byte.
func (w *writer) collector(n *node) map[string]any {
	outputs := n.raw["outputs"].(map[string]any)
	env := map[string]any{}
	script := "printf '%s\\0'"
	for i, name := range n.outputs {
		variable := fmt.Sprintf("PENSTOCK_OUTPUT_%d", i)
		env[variable] = outputs[name]
		script += " " + quote(name) + ` "$` + variable + `"`
	}
	script += " >" + quote(w.outputFile(n.path))
	return map[string]any{
		"id": collector, "name": collector, "if": "always()", "shell": "bash",
		"working-directory": w.dir, "env": env, "run": script,
	}
}

func (w *writer) outputFile(path string) string {
	return filepath.Join(w.outputs, strings.ReplaceAll(path, "/", "%"))
}

// readOutputs reads what the collector wrote. A job that never came so far has
// none.
func (w *writer) readOutputs(path string) (map[string]string, error) {
	data, err := os.ReadFile(w.outputFile(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	parts := strings.Split(string(data), "\x00")
	if len(parts)%2 == 0 {
		return nil, fmt.Errorf("outputs of job %s: the file is cut short", path)
	}
	found := map[string]string{}
	for i := 0; i+1 < len(parts); i += 2 {
		found[parts[i]] = parts[i+1]
	}
	return found, nil
}

// quote makes text one word of a shell.
func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
