// Penstock is the toolkit: one command for each stage of the line from a batch
// in the bucket to a judged model in production.
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
		Name:     "penstock",
		Summary:  "continuous training and staged deployment of models: one command a stage",
		Version:  action.BuildVersion(version),
		Commands: commands(),
		Ledger:   workspace.Ledger{},
	}
}

// commands are listed in the order of the loop.
func commands() []action.Command {
	return []action.Command{
		initCommand(),
		watchCommand(),
		datasetCommand(),
		trainCommand(),
		evaluateCommand(),
		gateCommand(),
		commentCommand(),
		registerCommand(),
		resolveCommand(),
		deployCommand(),
		loadtestCommand(),
		rolloutCommand(),
		rollbackCommand(),
		routerCommand(),
		sendLiveCommand(),
		admitCommand(),
		doctorCommand(),
	}
}
