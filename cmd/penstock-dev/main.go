// Penstock-dev is the laptop: the local stack of servers that the line stands
// on, and the demo that drives the line on it. It is never needed in production.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/dev/stack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := app().RunContext(ctx, os.Args)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "penstock-dev:", err)
		os.Exit(exitCode(err))
	}
}

func app() *cli.App {
	all := commands()
	for _, c := range all {
		c.OnUsageError, c.Before = usageError, noArguments
	}
	return &cli.App{
		Name:           "penstock-dev",
		Usage:          "the line on a laptop: its servers, and a demo",
		Commands:       all,
		OnUsageError:   usageError,
		ExitErrHandler: func(*cli.Context, error) {}, // main alone ends the program
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return fmt.Errorf("%w: unknown command %q; see penstock-dev --help", errUsage, name)
			}
			return cli.ShowAppHelp(c)
		},
	}
}

func commands() []*cli.Command {
	return []*cli.Command{demoCommand(), hubCommand(), upCommand(), statusCommand(), downCommand()}
}

// errUsage marks the caller's mistake.
var errUsage = errors.New("usage")

func usageError(_ *cli.Context, err error, _ bool) error {
	return fmt.Errorf("%w: %w", errUsage, err)
}

// noArguments refuses what no command reads. A flag behind an argument would
// not be read either, so that another demo than the one asked for would play.
func noArguments(c *cli.Context) error {
	if name := c.Args().First(); name != "" {
		return fmt.Errorf("%w: %s takes no argument, got %q; see penstock-dev %s --help", errUsage, c.Command.Name, name, c.Command.Name)
	}
	return nil
}

// exitCode is 2 for wrong usage and 1 for everything else that is no success.
func exitCode(err error) int {
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

// dirFlag is where the stack lives.
func dirFlag() cli.Flag {
	return &cli.StringFlag{Name: "dir", Usage: "the stack's `FOLDER`", Value: stack.DefaultDir, EnvVars: []string{"PENSTOCK_STACK_DIR"}}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON on stdout"}
}

// besideMe is the folder of this program, where its siblings are built.
func besideMe() (string, error) {
	me, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("where this program lies: %w; name the folder with --programs", err)
	}
	return filepath.Dir(me), nil
}

// logf writes prose for people.
func logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
