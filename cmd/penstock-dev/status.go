package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/dev/stack"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:        "status",
		Usage:       "what of the stack lives",
		Flags:       []cli.Flag{dirFlag(), jsonFlag()},
		Description: "Exit code 0 when every server is up, else 1; what is wrong with a server stands below the table.",
		Action:      status,
	}
}

func status(c *cli.Context) error {
	all, err := stack.Status(c.Context, c.String("dir"))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		err = out.Encode(all)
	} else {
		err = printStatus(all)
	}
	if err != nil {
		return err
	}
	var wrong []string
	for _, st := range all {
		if st.Condition != stack.Running {
			wrong = append(wrong, fmt.Sprintf("%s is %s", st.Name, st.Condition))
		}
	}
	if len(wrong) == len(all) {
		return fmt.Errorf("the stack in %s is down; `penstock-dev up` starts it", c.String("dir"))
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s; `penstock-dev up` starts again what is missing", strings.Join(wrong, ", "))
	}
	return nil
}

func printStatus(all []stack.ServerStatus) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "server\tstate\tpid\turl")
	for _, st := range all {
		pid := ""
		if st.PID != 0 {
			pid = fmt.Sprint(st.PID)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", st.Name, st.Condition, pid, st.URL)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, st := range all {
		if st.Detail != "" {
			fmt.Printf("\n%s: %s\n", st.Name, st.Detail)
		}
	}
	return nil
}
