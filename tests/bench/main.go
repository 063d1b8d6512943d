// Bench runs the Go benchmarks of one stage, prints them as one table and
// writes them as JSON together with the machine they ran on.
//
//	go run ./tests/bench --stage stat --out .penstock/bench/stat.json ./internal/stat
//
// With the argument serve it compares the inference server with its peers.
//
// A benchmark states a bound by reporting a metric of its own beside the one it
// bounds: b.ReportMetric(2e6, "ns/op-bound") says that ns/op should be at most
// 2e6. A bound that does not hold fails the run. Metrics with a slash between
// two nouns ("x/peer") are ratios, taken within one run.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// Report is the JSON file of one stage.
type Report struct {
	Stage   string    `json:"stage"`
	Machine Machine   `json:"machine"`
	When    time.Time `json:"when"`
	Rows    []Row     `json:"rows"`
}

// Row is one metric of one benchmark. Bound and Holds are absent where none is
// stated, the ends of an interval where there is none.
type Row struct {
	Name  string   `json:"name"`
	Value float64  `json:"value"`
	Unit  string   `json:"unit"`
	Low   *float64 `json:"low,omitempty"`
	High  *float64 `json:"high,omitempty"`
	N     int      `json:"n,omitempty"`
	Bound *float64 `json:"bound,omitempty"`
	Least bool     `json:"least,omitempty"` // the bound is a minimum
	Holds *bool    `json:"holds,omitempty"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	var err error
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		err = serve(ctx, os.Args[2:], os.Stdout)
	} else {
		err = run(ctx, os.Args[1:], os.Stdout)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	stage := flags.String("stage", "", "name of the stage")
	file := flags.String("out", "", "JSON file to write")
	benchtime := flags.String("benchtime", "1s", "as in go test")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *stage == "" || *file == "" || flags.NArg() == 0 {
		return errors.New("wanted: --stage NAME --out FILE and a package")
	}
	command := append([]string{"test", "-tags", "turbojpeg", "-run", "^$", "-bench", ".", "-benchmem", "-benchtime", *benchtime}, flags.Args()...)
	cmd := exec.CommandContext(ctx, "go", command...)
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(command, " "), err, text.String())
	}
	rows, err := parse(text.String())
	if err != nil {
		return err
	}
	report := Report{Stage: *stage, Machine: thisMachine(), When: time.Now().UTC(), Rows: rows}
	if err := table(out, report); err != nil {
		return err
	}
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := verdict.WriteFile(*file, append(data, '\n')); err != nil {
		return err
	}
	return broken(rows)
}

// sense says whether the bound is a minimum.
func (r Row) sense() string {
	if r.Least {
		return "at least"
	}
	return "at most"
}

// table prints the report for people.
func table(out io.Writer, r Report) error {
	fmt.Fprintf(out, "%s on %s, %d cores, %s\n", r.Stage, r.Machine.CPU, r.Machine.Cores, r.Machine.Go)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "name\tvalue\tunit\tbound\tholds")
	for _, row := range r.Rows {
		bound, holds := "-", "-"
		if row.Bound != nil {
			bound, holds = fmt.Sprintf("%s %.4g", row.sense(), *row.Bound), fmt.Sprint(*row.Holds)
		}
		fmt.Fprintf(w, "%s\t%.4g\t%s\t%s\t%s\n", row.Name, row.Value, row.Unit, bound, holds)
	}
	return w.Flush()
}

// broken names the bounds that do not hold.
func broken(rows []Row) error {
	var names []string
	for _, row := range rows {
		if row.Holds != nil && !*row.Holds {
			names = append(names, fmt.Sprintf("%s: %.4g %s, %s %.4g wanted", row.Name, row.Value, row.Unit, row.sense(), *row.Bound))
		}
	}
	if len(names) > 0 {
		return errors.New("bounds that do not hold: " + strings.Join(names, "; "))
	}
	return nil
}
