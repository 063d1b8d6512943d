package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"penstock": main})
}

// TestScripts runs the commands as a terminal does. Every script has a bucket
// of its own on a real MinIO ($BUCKET) and a port where nothing listens
// ($CLOSED). `exits CODE program args…` tells exit codes apart.
func TestScripts(t *testing.T) {
	s3 := servertest.MinIO(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("AWS_ENDPOINT_URL_S3", s3.Endpoint)
			env.Setenv("AWS_ACCESS_KEY_ID", s3.AccessKey)
			env.Setenv("AWS_SECRET_ACCESS_KEY", s3.SecretKey)
			env.Setenv("PENSTOCK_CACHE", env.WorkDir+"/cache")
			env.Setenv("BUCKET", servertest.Bucket(t, s3))
			env.Setenv("CLOSED", closedPort(t))
			return layProject(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// layProject gives the script the X-ray example's penstock.yaml with a bucket
// of its own; a script that brings a penstock.yaml keeps it.
func layProject(env *testscript.Env) error {
	path := filepath.Join(env.WorkDir, "penstock.yaml")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	data, err := os.ReadFile("../../examples/xray/penstock.yaml")
	if err != nil {
		return err
	}
	text := strings.Replace(string(data), "bucket: xray", "bucket: "+env.Getenv("BUCKET"), 1)
	return os.WriteFile(path, []byte(text), 0o644)
}

// exits CODE program [args…] runs a program and wants exactly this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE program [args…]")
	}
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		_, code, found := strings.Cut(err.Error(), "exit status ")
		if !found {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = code
	}
	if got != args[0] {
		ts.Fatalf("%s: exit code %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// closedPort gives an address of loopback where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprint(l.Addr())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}
