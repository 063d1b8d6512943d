package workflows

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// TestMain is two programs: the tests, and, under other names, the stand-ins
// that the workflows find on their PATH.
func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); {
	case name == "penstock", name == "penstock-serve":
		os.Exit(standIn(name))
	case slices.Contains(others, name):
		os.Exit(other(name))
	}
	code := m.Run()
	if builtIn != "" {
		os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

// others are programs that are only recorded: make, and what the stand-ins of
// third-party actions call.
var others = []string{"make", "gh", "setup-go", "attest-build-provenance"}

// call is one start of a stand-in, a line of the record.
type call struct {
	Program string
	Job     string
	Args    []string
	Inputs  map[string]string // INPUT_*, lower case with dashes, empty ones left out
	Env     map[string]string // of the names below
	Files   []string          // of dist/, for what makes and publishes releases
}

// told are the variables that the tests look at, credentials among them.
var told = []string{
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN",
	"PENSTOCK_ADMIN_TOKEN", "PENSTOCK_ROUTER_TOKEN", "PENSTOCK_SCOPE", "PENSTOCK_CONFIG", "GITHUB_TOKEN", "GH_TOKEN", "VERSION",
}

// answer is what a stand-in does; the zero answer passes.
type answer struct {
	Verdict verdict.Verdict   // "" is pass
	Code    string            // of the reason
	Text    string            // of the reason
	Outputs map[string]string // beside those that every output has by itself
	Crash   bool              // it ends with 1 and leaves nothing
	Script  string            // shell, run before the verdict
	Real    bool              // the real penstock takes over
}

// scenario says how the stand-ins of a run answer: by "command", or by
// "job:command" where a command is called more than once.
type scenario map[string]answer

func (s scenario) of(job, command string) answer {
	if a, ok := s[job+":"+command]; ok {
		return a
	}
	return s[command]
}

// standIn is penstock: the real action layer around answers of the scenario,
// with the inputs and outputs that the checkout's action.yml states.
func standIn(name string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := action.Program{Name: name, Summary: "a stand-in", Version: "devel"}
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		c, a, err := standInCommand(name, os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, "stand-in:", err)
			return 99
		}
		switch {
		case a.Crash:
			fmt.Println("panic: everything is broken")
			return 1
		case a.Real:
			real := filepath.Join(os.Getenv("PENSTOCK_TEST_DIR"), "real", name)
			fmt.Fprintln(os.Stderr, syscall.Exec(real, append([]string{real}, os.Args[1:]...), os.Environ()))
			return 99
		}
		p.Commands = []action.Command{c}
	}
	return p.Main(ctx, os.Args[1:], action.System())
}

func standInCommand(program, name string) (action.Command, answer, error) {
	var stated struct {
		Inputs  map[string]any `yaml:"inputs"`
		Outputs map[string]any `yaml:"outputs"`
	}
	data, err := os.ReadFile(filepath.Join(os.Getenv("GITHUB_WORKSPACE"), "actions", name, "action.yml"))
	if err == nil {
		err = yaml.Unmarshal(data, &stated)
	}
	if err != nil {
		return action.Command{}, answer{}, err
	}
	inputs, err := record(program)
	if err != nil {
		return action.Command{}, answer{}, err
	}
	var all scenario
	if err := readJSON("scenario.json", &all); err != nil {
		return action.Command{}, answer{}, err
	}
	a := all.of(os.Getenv("GITHUB_JOB"), name)
	c := action.Command{Name: name, Program: program, Summary: "a stand-in"}
	for input := range stated.Inputs {
		if !slices.Contains([]string{"config", "json", "result", "run-key", "attempt", "step", "scope"}, input) {
			c.Flags = append(c.Flags, &cli.StringFlag{Name: input})
		}
	}
	outputs := map[string]string{}
	for output := range stated.Outputs {
		if !slices.Contains([]string{"verdict", "reason", "result"}, output) {
			c.Outputs = append(c.Outputs, action.Output{Name: output})
			outputs[output] = value(name, output, inputs)
		}
	}
	for output, text := range a.Outputs {
		outputs[output] = text
	}
	c.Run = func(ctx context.Context, _ *action.Env) (verdict.Result, error) {
		r := verdict.Passed("the stand-in of %s", name)
		if a.Verdict != "" {
			r = verdict.Result{Verdict: a.Verdict, Reason: verdict.Reason{Code: a.Code, Text: a.Text}, Subjects: map[string]string{}}
		}
		r.Outputs = outputs
		if a.Script != "" {
			cmd := exec.CommandContext(ctx, "bash", "-ec", a.Script)
			cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
			return r, cmd.Run()
		}
		return r, nil
	}
	return c, a, nil
}

// value is what a stand-in gives for an output: what it was asked for where
// there is such an input, else the names of command and output.
func value(command, output string, inputs map[string]string) string {
	switch command + "." + output {
	case "resolve.serving":
		return "false"
	case "dataset.batch":
		return inputs["batch"]
	case "dataset.run_key", "resolve.run_key", "resolve.attempt", "resolve.model":
		if given := inputs[strings.ReplaceAll(output, "_", "-")]; given != "" {
			return given
		}
	}
	if output == "attempt" {
		return "3"
	}
	return command + "-" + output
}

// record writes the call down and answers its inputs.
func record(program string) (map[string]string, error) {
	c := call{Program: program, Job: os.Getenv("GITHUB_JOB"), Args: os.Args[1:], Inputs: map[string]string{}, Env: map[string]string{}}
	for _, pair := range os.Environ() {
		name, text, _ := strings.Cut(pair, "=")
		if input, ok := strings.CutPrefix(name, "INPUT_"); ok && text != "" {
			c.Inputs[strings.ReplaceAll(strings.ToLower(input), "_", "-")] = text
		}
		if slices.Contains(told, name) && text != "" {
			c.Env[name] = text
		}
	}
	dist, err := filepath.Glob("dist/*")
	if err != nil {
		return nil, err
	}
	c.Files = dist
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(os.Getenv("PENSTOCK_TEST_DIR"), "record"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(append(data, '\n')); err != nil {
		f.Close()
		return nil, err
	}
	return c.Inputs, f.Close()
}

func readJSON(name string, into any) error {
	data, err := os.ReadFile(filepath.Join(os.Getenv("PENSTOCK_TEST_DIR"), name))
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// other is a program that is only recorded. Under "program" the scenario may
// give it a script.
func other(name string) int {
	var all scenario
	_, err := record(name)
	if err == nil {
		err = readJSON("scenario.json", &all)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stand-in:", err)
		return 99
	}
	cmd := exec.Command("bash", append([]string{"-ec", all.of(os.Getenv("GITHUB_JOB"), name).Script, name}, os.Args[1:]...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return max(cmd.ProcessState.ExitCode(), 1)
	}
	return 0
}
