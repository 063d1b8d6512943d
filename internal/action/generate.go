package action

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagDoc is a flag as its readers see it.
type flagDoc struct {
	name, value, usage, fallback string
	required, list               bool
}

// describe reads a flag's documentation. GetValue is "" for an unset bool, so
// the default comes from the typed flag.
func describe(f cli.Flag) flagDoc {
	d := flagDoc{name: f.Names()[0]}
	if r, ok := f.(cli.RequiredFlag); ok {
		d.required = r.IsRequired()
	}
	if doc, ok := f.(cli.DocGenerationFlag); ok {
		d.value, d.usage = placeholder(doc.GetUsage())
		if doc.TakesValue() && d.value == "" {
			d.value = "VALUE"
		}
		d.fallback = strings.Trim(doc.GetDefaultText(), `"`)
	}
	switch typed := f.(type) {
	case *cli.BoolFlag:
		d.fallback = fmt.Sprint(typed.Value)
	case *cli.StringSliceFlag:
		d.list = true
	}
	return d
}

// placeholder takes the `NAME` of a usage text out, as urfave/cli does.
func placeholder(usage string) (name, text string) {
	before, rest, found := strings.Cut(usage, "`")
	if !found {
		return "", usage
	}
	name, after, found := strings.Cut(rest, "`")
	if !found {
		return "", usage
	}
	return name, before + name + after
}

func (d flagDoc) sentence() string {
	text := d.usage
	if d.list {
		text += " (one a line)"
	}
	if d.fallback != "" && d.fallback != "false" {
		text += " (default: " + d.fallback + ")"
	}
	return text
}

// allFlags are the command's own flags and the common ones.
func (c Command) allFlags() []flagDoc {
	var common Common
	var docs []flagDoc
	for _, f := range append(append([]cli.Flag{}, c.Flags...), commonFlags(&common)...) {
		docs = append(docs, describe(f))
	}
	return docs
}

// allOutputs are the outputs that every command has and its own.
func (c Command) allOutputs() []Output {
	return append([]Output{
		{"verdict", "pass, reject, inconclusive or error; empty means broken"},
		{"reason", "code of the reason behind the verdict"},
		{"result", "path of the result file on the runner"},
	}, c.Outputs...)
}

// help is the long text of --help.
func (c Command) help() string {
	var b strings.Builder
	b.WriteString(c.Description)
	if c.Example != "" {
		b.WriteString("\n\nExample:\n  " + strings.ReplaceAll(c.Example, "\n", "\n  "))
	}
	if len(c.Environment) > 0 {
		b.WriteString("\n\nEnvironment:")
		for _, v := range c.Environment {
			fmt.Fprintf(&b, "\n  %s  %s", v.Name, v.Description)
		}
	}
	b.WriteString("\n\nExit codes: 0 pass, 1 error, 2 usage, 3 reject, 4 inconclusive.")
	return b.String()
}

// ActionYAML renders the composite action. It emits no defaults and requires
// only what has none: a default beside `required` makes linters accept a
// missing input, so defaults are told in the description. Inputs reach the
// program through env alone; `${{ inputs.x }}` inside run would be a script
// injection.
func (c Command) ActionYAML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Generated from the command's definition by `make generate`; do not edit.\nname: %s %s\ndescription: %s\ninputs:\n", c.Program, c.Name, quote(c.Summary))
	for _, f := range c.allFlags() {
		fmt.Fprintf(&b, "  %s:\n    description: %s\n    required: %t\n", f.name, quote(f.sentence()), f.required)
	}
	b.WriteString("outputs:\n")
	for _, o := range c.allOutputs() {
		fmt.Fprintf(&b, "  %s:\n    description: %s\n    value: ${{ steps.run.outputs.%s }}\n", o.Name, quote(o.Description), o.Name)
	}
	b.WriteString("runs:\n  using: composite\n  steps:\n    - id: run\n      shell: bash\n      env:\n")
	for _, f := range c.allFlags() {
		fmt.Fprintf(&b, "        %s: ${{ inputs.%s }}\n", inputName(f.name), f.name)
	}
	fmt.Fprintf(&b, "      run: exec %s %s\n", c.Program, c.Name)
	return b.String()
}

// quote makes a YAML scalar that no character can end early.
func quote(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, "\n", " "), "'", "''") + "'"
}

// Page renders the command's page of the docs.
func (c Command) Page() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- Generated from the command's definition by `make generate`; do not edit. -->\n\n# %s %s\n\n%s\n\n%s\n", c.Program, c.Name, c.Summary, c.Description)
	if c.Example != "" {
		fmt.Fprintf(&b, "\n```sh\n%s\n```\n", c.Example)
	}
	b.WriteString("\n## Flags\n\n| flag | meaning | default |\n|---|---|---|\n")
	for _, f := range c.allFlags() {
		name := "--" + f.name
		if f.value != "" {
			name += " " + f.value
		}
		fallback := dash(f.fallback)
		if f.required {
			fallback = "required"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, cell(f.usage), cell(fallback))
	}
	b.WriteString("\n## Outputs\n\n| output | meaning |\n|---|---|\n")
	for _, o := range c.allOutputs() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", o.Name, cell(o.Description))
	}
	if len(c.Environment) > 0 {
		b.WriteString("\n## Environment\n\n| variable | meaning |\n|---|---|\n")
		for _, v := range c.Environment {
			text := v.Description
			if v.Secret {
				text += " (secret)"
			}
			fmt.Fprintf(&b, "| `%s` | %s |\n", v.Name, cell(text))
		}
	}
	b.WriteString("\n## Verdicts\n\n0 pass, 1 error, 2 usage, 3 reject, 4 inconclusive.\n")
	if !c.Local {
		fmt.Fprintf(&b, "\nAs a step of a workflow: `uses: penstock-ml/penstock/actions/%s@<version>`; inputs have the flags' names.\n", c.Name)
	}
	return b.String()
}

// Table renders the README's table of commands.
func Table(commands []Command) string {
	var b strings.Builder
	b.WriteString("| command | what it does |\n|---|---|\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "| [`%s %s`](docs/commands/%s.md) | %s |\n", c.Program, c.Name, c.Name, cell(c.Summary))
	}
	return b.String()
}

// Files are all generated files of a set of commands, by their path in the
// repository.
func Files(commands []Command) map[string]string {
	files := map[string]string{}
	for _, c := range commands {
		files["docs/commands/"+c.Name+".md"] = c.Page()
		if !c.Local {
			files["actions/"+c.Name+"/action.yml"] = c.ActionYAML()
		}
	}
	return files
}

// Names lists the commands' names in order.
func Names(commands []Command) []string {
	names := make([]string, 0, len(commands))
	for _, c := range commands {
		names = append(names, c.Name)
	}
	slices.Sort(names)
	return names
}
