package action

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// inputName derives the environment name that carries an action's input.
// Underscores, because a shell cannot export a name with a dash.
func inputName(flag string) string {
	return "INPUT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// inputArgs turns the inputs of a composite action into arguments. An input
// that the caller left out arrives as an empty string and is dropped, so that
// the flag keeps its default and a required one is still missed. A list has
// one value a line.
func inputArgs(flags []cli.Flag, getenv func(string) string) []string {
	var args []string
	for _, f := range flags {
		name := f.Names()[0]
		value := strings.TrimSpace(getenv(inputName(name)))
		if value == "" {
			continue
		}
		if _, list := f.(*cli.StringSliceFlag); !list {
			args = append(args, "--"+name+"="+value)
			continue
		}
		for line := range strings.Lines(value) {
			if line = strings.TrimSpace(line); line != "" {
				args = append(args, "--"+name+"="+line)
			}
		}
	}
	return args
}
