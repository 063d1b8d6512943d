package action

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// leave writes the result where readers look for it, in the order of the
// contract: result file, GITHUB_OUTPUT, step summary, ::error::, exit code. A
// place that cannot be written turns the verdict into an error, because the
// next job would read nothing as something.
func leave(c Command, env *Env, step string, r verdict.Result) int {
	path := resultPath(env, step)
	broken := func(err error) {
		if err != nil && r.Verdict != verdict.Error {
			r = merge(r, verdict.FromError(fmt.Errorf("the verdict was %s, but: %w", r.Verdict, err)))
		}
	}
	if path != "" {
		err := r.Save(path)
		broken(err)
	}
	if env.InActions() {
		broken(appendTo(env.Getenv("GITHUB_OUTPUT"), c.githubOutput(r, path)))
		broken(appendTo(env.Getenv("GITHUB_STEP_SUMMARY"), Markdown(r)))
		if r.Verdict != verdict.Pass {
			fmt.Fprintf(env.Stdout, "::error title=%s::%s\n", escapeProperty(c.Name+": "+string(r.Verdict)), escape(r.Reason.Text))
		}
	}
	if env.Common.JSON {
		data, err := r.Encode()
		broken(err)
		_, err = env.Stdout.Write(data)
		broken(err)
	} else {
		fmt.Fprint(env.Stdout, Text(r))
	}
	return r.ExitCode()
}

// resultPath is where the result file goes: the flag, else a folder of the
// runner, else nowhere.
func resultPath(env *Env, step string) string {
	if env.Common.Result != "" {
		return env.Common.Result
	}
	if temp := env.Getenv("RUNNER_TEMP"); env.InActions() && temp != "" {
		return filepath.Join(temp, "penstock", step+".json")
	}
	return ""
}

// githubOutput renders the outputs in GITHUB_OUTPUT's form, each with a random
// delimiter: a constant one would let a value inject outputs of its own.
func (c Command) githubOutput(r verdict.Result, path string) string {
	var b strings.Builder
	put := func(name, value string) {
		mark := "end_" + rand.Text()
		fmt.Fprintf(&b, "%s<<%s\n%s\n%s\n", name, mark, value, mark)
	}
	put("verdict", string(r.Verdict))
	put("reason", r.Reason.Code)
	put("result", path)
	for _, o := range c.Outputs {
		value, ok := r.Outputs[o.Name]
		if !ok {
			value = r.Subjects[o.Name]
		}
		put(o.Name, value)
	}
	return b.String()
}

func appendTo(path, text string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// escape makes text safe as the message of a workflow command.
func escape(text string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(text)
}

func escapeProperty(text string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(text)
}
