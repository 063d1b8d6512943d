package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/dev/demo"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "play the whole loop: two batches to production, then sabotage that is stopped",
		Description: "Starts the stack in a folder of its own and a stand-in for GitHub beside it, makes a repository by\n" +
			"penstock init, and drives the line by pushes, dispatches, a pull request and a tag, as an adopter\n" +
			"does; --way terminal drives the same commands without GitHub. The sabotaged models are driven by\n" +
			"commands either way. The exit code is 0 only when every expectation was met. What happened stands\n" +
			"in .penstock/demo.json.\n\n" +
			"Example:\n  penstock-dev demo --keep\n  penstock-dev demo --data ../shared/data/xray",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "root", Usage: "the `CHECKOUT` with examples/ and tests/", Value: "."},
			&cli.StringFlag{Name: "dir", Usage: "`FOLDER` for everything the demo writes", Value: ".penstock/demo"},
			&cli.StringFlag{Name: "programs", Usage: "`FOLDER` of penstock and penstock-serve (default: beside this program)"},
			&cli.StringFlag{Name: "data", Usage: "`FOLDER` with nih64.csv and nih64/: play steps 1 to 3 on real images"},
			&cli.StringFlag{Name: "way", Usage: "`WHO` drives the commands: workflows on a stand-in for GitHub, or terminal", Value: "workflows"},
			&cli.StringFlag{Name: "until", Usage: "`STEP` to end with, such as \"second batch\""},
			&cli.BoolFlag{Name: "keep", Usage: "leave the stack up"},
		},
		Action: func(c *cli.Context) error {
			bin := c.String("programs")
			if bin == "" {
				var err error
				if bin, err = besideMe(); err != nil {
					return err
				}
			}
			return demo.Run(c.Context, demo.Options{
				Root: c.String("root"), Dir: c.String("dir"), Bin: bin,
				Data: c.String("data"), Way: c.String("way"), Until: c.String("until"), Keep: c.Bool("keep"), Out: os.Stdout,
			})
		},
	}
}
