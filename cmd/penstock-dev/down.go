package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/dev/stack"
)

func downCommand() *cli.Command {
	return &cli.Command{
		Name:        "down",
		Usage:       "end exactly what up started; data, ports and secrets stay for the next up",
		Flags:       []cli.Flag{dirFlag()},
		Description: "Finds the processes of the stack also after up or a server crashed, and never ends a stranger's.",
		Action:      down,
	}
}

func down(c *cli.Context) error {
	n, err := stack.Down(c.Context, c.String("dir"), logf)
	if err != nil {
		return err
	}
	if n == 0 {
		fmt.Println("nothing was up")
		return nil
	}
	fmt.Printf("down; %d processes ended\n", n)
	return nil
}
