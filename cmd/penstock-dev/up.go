package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/dev/stack"
)

func upCommand() *cli.Command {
	flags := []cli.Flag{
		dirFlag(), jsonFlag(),
		&cli.StringFlag{Name: "programs", Usage: "`FOLDER` of penstock and penstock-serve (default: beside this program)"},
		&cli.StringFlag{Name: "bucket", Usage: "the project's bucket `NAME`, made if missing", Value: "xray"},
		&cli.StringFlag{Name: "model", Usage: "`NAME` under which the servers serve", Value: "xray"},
		&cli.DurationFlag{Name: "slo", Usage: "latency objective, a boundary of the servers' histogram", Value: 500 * time.Millisecond},
		&cli.StringFlag{Name: "onnxruntime", Usage: "libonnxruntime.so `FILE` (default: the cache's)", EnvVars: []string{"PENSTOCK_ONNXRUNTIME"}},
	}
	for _, name := range stack.PortNames() {
		flags = append(flags, &cli.IntFlag{Name: name + "-port", Usage: "`PORT` on 127.0.0.1 (0: the last one, else a free one)"})
	}
	return &cli.Command{
		Name:  "up",
		Usage: "start what does not run yet: MinIO, MLflow, Prometheus, HAProxy with its router, three inference servers",
		Flags: flags,
		Description: "Everything listens on loopback and lives in one folder. A server that runs stays as it is, one that died\n" +
			"is started again, one that was rebuilt or is wanted differently is replaced. Source FOLDER/env to use the stack.",
		Action: up,
	}
}

func up(c *cli.Context) error {
	programs := c.String("programs")
	if programs == "" {
		var err error
		if programs, err = besideMe(); err != nil {
			return err
		}
	}
	o := stack.Options{
		Dir: c.String("dir"), Programs: programs, Bucket: c.String("bucket"), Model: c.String("model"),
		SLO: c.Duration("slo"), OnnxRuntime: c.String("onnxruntime"), Ports: map[string]int{}, Logf: logf,
	}
	for _, name := range stack.PortNames() {
		if port := c.Int(name + "-port"); port != 0 {
			o.Ports[name] = port
		}
	}
	s, err := stack.Up(c.Context, o)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(s.Endpoints)
	}
	fmt.Printf("up; production answers at %s\nto use it in a shell: . %s\n", s.Endpoints.Production, filepath.Join(s.Dir, "env"))
	return nil
}
