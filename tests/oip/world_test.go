package oip_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/dev/process"
	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
)

const adminToken = "token-of-the-test"

// program is penstock-serve, built once.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "penstock-oip-")
	if err == nil {
		program = filepath.Join(dir, "penstock-serve")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", program, "../../cmd/penstock-serve").CombinedOutput(); err != nil {
			err = fmt.Errorf("building penstock-serve: %w\n%s", err, out)
		}
	}
	code := 1
	if err == nil {
		code = m.Run()
		err = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// python runs one of the programs beside this file in the environment that
// tools/setup makes, and gives what it prints.
func python(t *testing.T, program string, args ...string) string {
	t.Helper()
	interpreter, err := process.Cached("mlflow/bin/python")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, interpreter, append([]string{program}, args...)...)
	command.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	var complaints bytes.Buffer
	command.Stderr = &complaints
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", program, err, out, &complaints)
	}
	return string(out)
}

// corpus is a folder of the data that is not in the repository. Where
// PENSTOCK_TEST_DATA is set, it must be there.
func corpus(t *testing.T, name string) string {
	t.Helper()
	root := os.Getenv("PENSTOCK_TEST_DATA")
	if root == "" {
		t.Skip("PENSTOCK_TEST_DATA is not set: the models of other people are not tried")
	}
	dir := filepath.Join(root, name)
	_, err := os.Stat(dir)
	must(t, err)
	return dir
}

// described is a tensor of a folder that models.py wrote.
type described struct {
	Name, Datatype, Npy, File string
	Shape                     []int64
}

// bundleOf makes a bundle of a model's folder, with its tensors as the golden.
func bundleOf(t *testing.T, folder string) string {
	t.Helper()
	model, err := os.ReadFile(filepath.Join(folder, "model.onnx"))
	must(t, err)
	text, err := os.ReadFile(filepath.Join(folder, "tensors.json"))
	must(t, err)
	var tensors struct{ Inputs, Outputs []described }
	must(t, json.Unmarshal(text, &tensors))
	arrays := func(all []described) (read []bundletest.Array) {
		for _, d := range all {
			data, err := os.ReadFile(filepath.Join(folder, d.File))
			must(t, err)
			read = append(read, bundletest.Array{Type: d.Npy, Shape: d.Shape, Data: data})
		}
		return read
	}
	golden := bundletest.Golden{Inputs: arrays(tensors.Inputs), Outputs: arrays(tensors.Outputs)}
	return bundletest.Tensor(t, model, []bundletest.Golden{golden}, called(filepath.Base(folder)), func(m *bundle.Manifest) {
		m.Tolerance = 1e-2 // absolute; mnist-8 answers hundreds
	})
}

func called(name string) func(*bundle.Manifest) {
	return func(m *bundle.Manifest) { m.Name = name }
}

// world is a penstock-serve with a bucket on a real MinIO.
type world struct {
	t                  *testing.T
	bucket             *objectstore.Bucket
	public, rpc, admin string // addresses
	log                bytes.Buffer
	exited             chan struct{}
}

// serve starts a server that serves the names.
func serve(t *testing.T, names ...string) *world {
	t.Helper()
	s3 := servertest.MinIO(t)
	w := &world{t: t, exited: make(chan struct{})}
	dir, name := t.TempDir(), servertest.Bucket(t, s3)
	library, err := process.Cached("lib/libonnxruntime.so")
	must(t, err)
	env := append(s3.Env(), "PENSTOCK_ONNXRUNTIME="+library, "PENSTOCK_ADMIN_TOKEN="+adminToken, "PENSTOCK_CACHE="+filepath.Join(dir, "cache"), "PATH="+os.Getenv("PATH"), "HOME="+dir)
	credentials, err := objectstore.CredentialsFromEnv(func(name string) string {
		for _, kv := range env {
			if key, value, _ := strings.Cut(kv, "="); key == name {
				return value
			}
		}
		return ""
	})
	must(t, err)
	w.bucket, err = objectstore.Open(credentials, name)
	must(t, err)

	for _, address := range []*string{&w.public, &w.rpc, &w.admin} {
		port, err := process.FreePort()
		must(t, err)
		*address = fmt.Sprint("127.0.0.1:", port)
	}
	args := []string{
		"run", "--listen", w.public, "--grpc-listen", w.rpc, "--admin-listen", w.admin,
		"--slot", "stable", "--bucket", name, "--state", filepath.Join(dir, "state"), "--slo", "20s",
	}
	for _, name := range names {
		args = append(args, "--name", name)
	}
	// not of the test's context: that ends before the clean-up
	command := exec.CommandContext(context.Background(), program, args...)
	command.Dir, command.Env, command.Stdout, command.Stderr = dir, env, &w.log, &w.log
	must(t, command.Start())
	go func() { _ = command.Wait(); close(w.exited) }() // its state is not asked for
	t.Cleanup(func() {
		command.Process.Kill() // an error means that it ended already
		<-w.exited
		if t.Failed() {
			log := w.log.Bytes()
			t.Logf("end of penstock-serve's log:\n%s", log[max(0, len(log)-2000):])
		}
	})
	w.awaitLive()
	return w
}

func (w *world) awaitLive() {
	w.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if response, err := http.Get("http://" + w.public + "/v2/health/live"); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-w.exited:
			w.t.Fatalf("penstock-serve ended:\n%s", &w.log)
		case <-deadline:
			w.t.Fatal("waited a minute for penstock-serve to live")
		case <-tick.C:
		}
	}
}

// load publishes a bundle and has the server load it; the answer is the admin
// listener's, or 400 for what may not even be published.
func (w *world) load(name, dir string) (int, string) {
	w.t.Helper()
	digest, err := bundle.Publish(w.t.Context(), w.bucket, dir)
	if err != nil {
		return http.StatusBadRequest, err.Error()
	}
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPut, "http://"+w.admin+"/admin/v1/models/"+name, strings.NewReader(fmt.Sprintf(`{"digest":%q}`, digest)))
	must(w.t, err)
	request.Header.Set("Authorization", "Bearer "+adminToken)
	response, err := http.DefaultClient.Do(request)
	must(w.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(w.t, err)
	return response.StatusCode, string(body)
}

// loadAll serves each folder under its name.
func (w *world) loadAll(folders []string) {
	w.t.Helper()
	for _, folder := range folders {
		if code, body := w.load(filepath.Base(folder), bundleOf(w.t, folder)); code != http.StatusOK {
			w.t.Fatalf("loading %s: %d %s", filepath.Base(folder), code, body)
		}
	}
}

// folders are those in dir.
func folders(t *testing.T, dir string) (paths, names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		paths, names = append(paths, filepath.Join(dir, e.Name())), append(names, e.Name())
	}
	return paths, names
}
