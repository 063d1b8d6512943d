// Package action turns one definition of a command into its three faces: the
// command line, the composite GitHub Action and the page of its docs. It also
// owns what every command does alike around its work: reading inputs, writing
// the result file, speaking to GitHub Actions, and the exit code.
//
// A command never calls os.Exit, reads a global stream or knows where it runs.
package action

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// Command is the one definition of a command.
type Command struct {
	Name        string // the subcommand, the folder below actions/, the page below docs/commands/
	Program     string // penstock or penstock-serve
	Summary     string // one line
	Description string // what it does and what its verdicts mean
	Example     string // shell lines that teach
	Flags       []cli.Flag
	Outputs     []Output
	Environment []Variable
	Local       bool                        // no composite action is generated
	StepName    func() string               // the step's default name, where it is not the command's
	Turn        Turn                        // whether runs of one project wait for each other here
	Ends        func(r verdict.Result) bool // whether a pass ends the run, for KeepsTurn; nil: never
	Run         func(ctx context.Context, env *Env) (verdict.Result, error)
}

// Turn says what a command has to do with the order of a project's runs.
type Turn int

const (
	NoTurn    Turn = iota // it may run beside any other
	KeepsTurn             // it waits for its run's turn; after a pass the run goes on
	EndsTurn              // it waits for its run's turn and is the run's last
)

// Output is something a command hands to the jobs after it, by the name that
// stands in Result.Subjects or Result.Outputs.
type Output struct {
	Name        string
	Description string
}

// Variable is an environment variable that a command reads. Credentials come
// this way only.
type Variable struct {
	Name        string
	Description string
	Secret      bool
}

// Common holds the flags that every command has.
type Common struct {
	Config  string
	JSON    bool
	Result  string
	RunKey  string
	Attempt int
	Step    string
	Scope   string
}

// Env is the world as a command sees it: streams, environment and clock.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Environ        []string // all of it, NAME=value, for what hands a part of it on
	Now            func() time.Time
	Terminal       bool // Stderr is a terminal that can redraw a line
	Common         Common
}

// System is the Env of the running process.
func System() *Env {
	info, err := os.Stderr.Stat()
	return &Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, Environ: os.Environ(), Now: time.Now,
		Terminal: err == nil && info.Mode()&os.ModeCharDevice != 0,
	}
}

// InActions tells whether GitHub Actions runs the command. It is asked before
// Terminal, because runners give steps a pseudo-terminal.
func (e *Env) InActions() bool { return e.Getenv("GITHUB_ACTIONS") == "true" }

// Logf writes a line of prose for people to stderr.
func (e *Env) Logf(format string, args ...any) {
	fmt.Fprintf(e.Stderr, format+"\n", args...)
}

// From is the flag that takes the results of earlier steps: paths or s3:// URIs.
func From(values *cli.StringSlice) cli.Flag {
	return &cli.StringSliceFlag{
		Name:        "from",
		Usage:       "result of an earlier step: a `PATH`, an s3:// URI, or step:NAME of this run; may be given several times",
		Destination: values,
	}
}

// commonFlags are added to every command, bound to where.
func commonFlags(where *Common) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "the project's `FILE`", Value: "penstock.yaml", Destination: &where.Config},
		&cli.BoolFlag{Name: "json", Usage: "print the result as JSON on stdout", Destination: &where.JSON},
		&cli.StringFlag{Name: "result", Usage: "write the result `FILE` here", Destination: &where.Result},
		&cli.StringFlag{Name: "run-key", Usage: "`KEY` of the run; puts the result to the bucket below runs/", Destination: &where.RunKey},
		&cli.IntFlag{Name: "attempt", Usage: "`NUMBER` of the attempt at this run", Value: 1, Destination: &where.Attempt},
		&cli.StringFlag{Name: "scope", Usage: "write to the bucket below this `PREFIX` only, such as pr/12/, and read there first", Destination: &where.Scope},
		&cli.StringFlag{Name: "step", Usage: "`NAME` of the step in the run (default: the command's name)", Destination: &where.Step},
	}
}

// step is the name under which the result is kept.
func (c Command) step(common Common) string {
	switch {
	case common.Step != "":
		return common.Step
	case c.StepName != nil:
		return c.StepName()
	}
	return c.Name
}

// Key is the place of a step's result in the bucket.
func (c Common) Key(step string) string {
	return "runs/" + c.RunKey + "/" + strconv.Itoa(c.Attempt) + "/" + step + ".json"
}
