package action

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// Ledger keeps the results of a run's steps where the next job finds them, and
// orders the runs of a project. Lookup answers nil where the step has no verdict
// yet. Record creates once. Take waits until it is this run's turn; the context
// it gives ends when the turn is lost, and done ends the step's part of the
// turn: keep says that the run goes on.
type Ledger interface {
	Lookup(ctx context.Context, env *Env, step string) (*verdict.Result, error)
	Record(ctx context.Context, env *Env, step string, r verdict.Result) error
	Take(ctx context.Context, env *Env) (turn context.Context, done func(keep bool) error, err error)
}

// Program is a set of commands under one name.
type Program struct {
	Name     string
	Summary  string
	Version  string
	Commands []Command
	Ledger   Ledger // nil: --run-key is only noted in the result
}

// recordTerm bounds how long a cancelled command may take to leave its result.
const recordTerm = 5 * time.Second

// Main parses args (without the program's name), runs the command and returns
// the exit code of contract: 0 pass, 1 error, 2 usage, 3 reject, 4
// inconclusive.
func (p Program) Main(ctx context.Context, args []string, env *Env) int {
	code := verdict.ExitPass
	app := &cli.App{
		Name: p.Name, Usage: p.Summary, Version: p.Version,
		Reader: env.Stdin, Writer: env.Stdout, ErrWriter: env.Stderr,
		// urfave's own handler would call os.Exit inside Run.
		ExitErrHandler:  func(*cli.Context, error) {},
		Action:          p.noCommand,
		HideHelpCommand: true,
		OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return verdict.Usage(err) },
	}
	for _, c := range p.Commands {
		app.Commands = append(app.Commands, p.command(c, env, &code))
	}
	if err := app.RunContext(ctx, append([]string{p.Name}, withInputs(p, args, env)...)); err != nil {
		// Whatever went wrong before a command began is the caller's mistake.
		fmt.Fprintf(env.Stderr, "%s: %v\nTry: %s --help\n", p.Name, err, p.asked(args))
		if env.InActions() {
			fmt.Fprintf(env.Stdout, "::error::%s\n", escape(err.Error()))
		}
		return verdict.ExitUsage
	}
	return code
}

// asked is the command whose help answers what was wrong with args, or the
// program where they name none.
func (p Program) asked(args []string) string {
	for _, c := range p.Commands {
		if len(args) > 0 && c.Name == args[0] {
			return p.Name + " " + c.Name
		}
	}
	return p.Name
}

// withInputs puts an action's inputs before the arguments of the command, so
// that an argument wins over an input.
func withInputs(p Program, args []string, env *Env) []string {
	if len(args) == 0 || !env.InActions() {
		return args
	}
	for _, c := range p.Commands {
		if c.Name == args[0] {
			var common Common
			inputs := inputArgs(append(append([]cli.Flag{}, c.Flags...), commonFlags(&common)...), env.Getenv)
			return append(append([]string{args[0]}, inputs...), args[1:]...)
		}
	}
	return args
}

func (p Program) noCommand(c *cli.Context) error {
	if c.NArg() == 0 {
		return cli.ShowAppHelp(c)
	}
	return fmt.Errorf("unknown command %q", c.Args().First())
}

func (p Program) command(c Command, env *Env, code *int) *cli.Command {
	run := *env
	return &cli.Command{
		Name: c.Name, Usage: c.Summary, Description: c.help(),
		Flags:        append(append([]cli.Flag{}, c.Flags...), commonFlags(&run.Common)...),
		OnUsageError: func(_ *cli.Context, err error, _ bool) error { return verdict.Usage(err) },
		Action: func(ctx *cli.Context) error {
			if ctx.NArg() > 0 {
				return fmt.Errorf("%s takes no argument, got %q", c.Name, ctx.Args().First())
			}
			if run.Common.Attempt < 1 {
				return fmt.Errorf("--attempt %d: attempts count from 1", run.Common.Attempt)
			}
			*code = p.run(ctx.Context, c, &run)
			return nil
		},
	}
}

// run does the command's work, unless the ledger has its verdict already, and
// leaves the result everywhere it belongs.
func (p Program) run(ctx context.Context, c Command, env *Env) int {
	started := env.Now()
	step := c.step(env.Common)
	result, earlier, err := p.work(ctx, c, env, step)
	if err != nil {
		result = merge(result, verdict.FromError(err))
	}
	if !earlier {
		result.Schema, result.Command, result.Version = verdict.Schema, c.Name, p.Version
		result.RunKey = env.Common.RunKey
		result.Started, result.Finished = started.UTC(), env.Now().UTC()
		if err := p.record(ctx, env, step, result); err != nil {
			result = merge(result, verdict.FromError(fmt.Errorf("the work ended with %s, but its result could not be kept: %w", result.Verdict, err)))
		}
	}
	return leave(c, env, step, result)
}

// work answers the ledger's result, with earlier set, or runs the command. A
// panic is an error, never an exit code that means something else.
func (p Program) work(ctx context.Context, c Command, env *Env, step string) (r verdict.Result, earlier bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			fmt.Fprintf(env.Stderr, "%s\n", debug.Stack())
			err = verdict.Coded("panic", fmt.Errorf("%s %s broke (please report this): %v", p.Name, c.Name, v))
		}
	}()
	if p.Ledger == nil || env.Common.RunKey == "" {
		r, err = perform(ctx, c, env)
		return r, false, err
	}
	kept, err := p.Ledger.Lookup(ctx, env, step)
	if err != nil {
		return r, false, err
	}
	if kept != nil {
		env.Logf("%s: run %s, attempt %d has this step's verdict already: nothing to do", c.Name, env.Common.RunKey, env.Common.Attempt)
		return *kept, true, nil
	}
	r, err = p.inTurn(ctx, c, env)
	return r, false, err
}

// inTurn does the work when it is the run's turn. Only after a pass that does
// not end the run is the turn kept: a result that came with an error is none.
func (p Program) inTurn(ctx context.Context, c Command, env *Env) (r verdict.Result, err error) {
	if c.Turn == NoTurn {
		return perform(ctx, c, env)
	}
	turn, done, err := p.Ledger.Take(ctx, env)
	if err != nil {
		return r, err
	}
	defer func() {
		goesOn := c.Turn == KeepsTurn && err == nil && r.Verdict == verdict.Pass && (c.Ends == nil || !c.Ends(r))
		err = errors.Join(err, done(goesOn))
	}()
	return perform(turn, c, env)
}

// perform runs the command and refuses an end without a verdict.
func perform(ctx context.Context, c Command, env *Env) (verdict.Result, error) {
	r, err := c.Run(ctx, env)
	switch {
	case err == nil && ctx.Err() != nil && r.Verdict == "":
		err = context.Cause(ctx)
	case err != nil && ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)):
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err) // why the context ended
	}
	if err == nil && r.Verdict == "" {
		err = errors.New("the command ended without a verdict")
	}
	return r, err
}

func (p Program) record(ctx context.Context, env *Env, step string, r verdict.Result) error {
	if p.Ledger == nil || env.Common.RunKey == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTerm)
	defer cancel()
	return p.Ledger.Record(ctx, env, step, r)
}

// merge keeps what a broken command had found out and takes verdict and reason
// from the failure.
func merge(r, failure verdict.Result) verdict.Result {
	failure.Checks, failure.Warnings = r.Checks, r.Warnings
	if r.Subjects != nil {
		failure.Subjects = r.Subjects
	}
	if r.Outputs != nil {
		failure.Outputs = r.Outputs
	}
	failure.Command, failure.Version, failure.RunKey = r.Command, r.Version, r.RunKey
	failure.Started, failure.Finished = r.Started, r.Finished
	return failure
}
