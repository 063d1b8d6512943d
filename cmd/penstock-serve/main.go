// Penstock-serve is all that runs a model: the server, the predictions of a
// split, the look into a bundle.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/workspace"
)

// version is set by the linker for releases.
var version = ""

//go:generate go test -run TestGeneratedFilesAreCurrent -update .

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := program().Main(ctx, os.Args[1:], action.System())
	stop()
	os.Exit(code)
}

func program() action.Program {
	return action.Program{
		Name:     "penstock-serve",
		Summary:  "runs models: the inference server, the predictions of a split, the look into a bundle",
		Version:  action.BuildVersion(version),
		Commands: commands(),
		Ledger:   workspace.Ledger{},
	}
}

func commands() []action.Command {
	return []action.Command{runCommand(), predictCommand(), inspectCommand(), optimizeCommand(), benchCommand()}
}
