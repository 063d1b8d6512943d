package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/dev/actrun"
	"github.com/penstock-ml/penstock/internal/dev/hub"
	"github.com/penstock-ml/penstock/internal/dev/process"
)

func hubCommand() *cli.Command {
	return &cli.Command{
		Name:  "hub",
		Usage: "a stand-in for GitHub on this machine: its API, a git remote, and workflows run by act",
		Description: "Serves GitHub's API below /api/v3, a git remote per repository, and a page that shows the runs.\n" +
			"It runs what is pushed to it, on this machine and as you: push only what you would run yourself.\n\n" +
			"Example:\n  penstock-dev hub --repository acme/line --label penstock --label gpu\n" +
			"  git push http://x-access-token:$TOKEN@127.0.0.1:PORT/acme/line.git main",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "address", Usage: "loopback `ADDRESS` to listen on", Value: "127.0.0.1:0"},
			&cli.StringFlag{Name: "dir", Usage: "`FOLDER` of repositories, logs and state", Value: ".penstock/hub"},
			&cli.StringSliceFlag{Name: "repository", Usage: "`OWNER/NAME` to make where it is not there yet"},
			&cli.StringSliceFlag{Name: "label", Usage: "`LABEL` of the self-hosted runner beside self-hosted; none means no such runner"},
			&cli.StringSliceFlag{Name: "secret", Usage: "`NAME` of an environment variable that workflows get as a secret"},
			&cli.StringSliceFlag{Name: "variable", Usage: "`NAME` of an environment variable that workflows get as a variable"},
			&cli.StringFlag{Name: "hook", Usage: "job-started hook `SCRIPT`, run before every self-hosted job"},
			&cli.IntFlag{Name: "parallel", Usage: "`RUNS` at the same time", Value: 2},
		},
		Action: runHub,
	}
}

func runHub(c *cli.Context) error {
	secrets, err := fromEnvironment(c.StringSlice("secret"))
	if err != nil {
		return err
	}
	variables, err := fromEnvironment(c.StringSlice("variable"))
	if err != nil {
		return err
	}
	cache, err := process.Cache()
	if err != nil {
		return err
	}
	h, err := hub.Start(c.Context, hub.Options{
		Dir: c.String("dir"), Address: c.String("address"), Execute: actrun.Run, Hook: c.String("hook"),
		Labels: c.StringSlice("label"), Schedules: true, Parallel: c.Int("parallel"), Secrets: secrets, Vars: variables,
		Mermaid: filepath.Join(cache, "mermaid", "mermaid.min.js"), Logf: logf,
	})
	if err != nil {
		return err
	}
	for _, full := range c.StringSlice("repository") {
		owner, name, ok := strings.Cut(full, "/")
		if !ok {
			return errors.Join(fmt.Errorf("%w: --repository %q is not OWNER/NAME", errUsage, full), h.Close())
		}
		if err := h.EnsureRepository(owner, name); err != nil {
			return errors.Join(err, h.Close())
		}
	}
	fmt.Printf("%s\nthe API is %s; the administrator's token stands in %s\n", h.URL, h.API(), filepath.Join(c.String("dir"), "token"))
	<-c.Context.Done()
	return h.Close()
}

// fromEnvironment reads named variables: a value never stands in a flag.
func fromEnvironment(names []string) (map[string]string, error) {
	values := map[string]string{}
	for _, name := range names {
		value, set := os.LookupEnv(name)
		if !set {
			return nil, fmt.Errorf("%w: variable %s is not set", errUsage, name)
		}
		values[name] = value
	}
	return values, nil
}
