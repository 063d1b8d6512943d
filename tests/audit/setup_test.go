package audit

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// runner is a fresh runner with a copy of actions/setup and a place of
// releases. Nothing of it reaches the network.
type runner struct {
	t    *testing.T
	dir  string
	path []string // folders before the system's on the PATH
}

func newRunner(t *testing.T) *runner {
	r := &runner{t: t, dir: t.TempDir()}
	r.write("action/setup", 0o755, read(t, "../../actions/setup/setup"))
	r.write("action/release", 0o644, "# pins\nversion v1.2.3\n")
	return r
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (r *runner) at(name string) string { return filepath.Join(r.dir, filepath.FromSlash(name)) }

func (r *runner) write(name string, mode os.FileMode, text string) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Dir(r.at(name)), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.at(name), []byte(text), mode); err != nil {
		r.t.Fatal(err)
	}
}

// program is a script that says its version as the real ones do.
func program(name, version string) string {
	return "#!/bin/sh\necho " + name + " version " + version + "\n"
}

// release puts an archive of a program where it is downloaded from, and pins
// its sum.
func (r *runner) release(name, version string) {
	r.t.Helper()
	archive := name + "_" + runtime.GOOS + "_" + runtime.GOARCH + ".tar.gz"
	r.write("releases/v1.2.3/"+archive, 0o644, "")
	f, err := os.Create(r.at("releases/v1.2.3/" + archive))
	if err != nil {
		r.t.Fatal(err)
	}
	sum := sha256.New()
	zip := gzip.NewWriter(f)
	out := tar.NewWriter(zip)
	text := program(name, version)
	err = out.WriteHeader(&tar.Header{Name: "./" + name, Mode: 0o755, Size: int64(len(text))})
	if err == nil {
		_, err = out.Write([]byte(text))
	}
	for _, c := range []interface{ Close() error }{out, zip, f} {
		if closing := c.Close(); err == nil {
			err = closing
		}
	}
	if err != nil {
		r.t.Fatal(err)
	}
	fmt.Fprint(sum, read(r.t, r.at("releases/v1.2.3/"+archive)))
	r.write("action/release", 0o644, read(r.t, r.at("action/release"))+fmt.Sprintf("%s %x\n", archive, sum.Sum(nil)))
}

// run is one job's set-up. It answers what was said and whether it passed.
func (r *runner) run(env ...string) (said string, passed bool) {
	r.t.Helper()
	for _, name := range []string{"path", "output"} {
		r.write(name, 0o644, "")
	}
	cmd := exec.Command("bash", r.at("action/setup"))
	cmd.Env = append([]string{
		"PATH=" + strings.Join(append(r.path, "/usr/bin", "/bin"), ":"), "HOME=" + r.dir,
		"RUNNER_TOOL_CACHE=" + r.at("tools"), "GITHUB_PATH=" + r.at("path"), "GITHUB_OUTPUT=" + r.at("output"),
		"PENSTOCK_RELEASES=file://" + r.at("releases"),
	}, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// added are the folders put on the PATH of later steps.
func (r *runner) added() []string { return strings.Fields(read(r.t, r.at("path"))) }

func TestSetupInstallsThePinnedReleaseOnceAndThenWithoutNetwork(t *testing.T) {
	r := newRunner(t)
	r.release("penstock", "v1.2.3")
	r.release("penstock-serve", "v1.2.3")
	if said, ok := r.run("INPUT_SERVE=true"); !ok {
		t.Fatal(said)
	}
	added := r.added()
	if len(added) != 2 {
		t.Fatalf("put on the PATH: %q", added)
	}
	for i, name := range []string{"penstock", "penstock-serve"} {
		if out, err := exec.Command(filepath.Join(added[i], name), "--version").Output(); err != nil || !strings.Contains(string(out), "v1.2.3") {
			t.Errorf("%s says %q, %v", name, out, err)
		}
	}
	if out := read(t, r.at("output")); out != "version=v1.2.3\n" {
		t.Errorf("outputs %q", out)
	}
	if err := os.RemoveAll(r.at("releases")); err != nil {
		t.Fatal(err)
	}
	if said, ok := r.run("INPUT_SERVE=true"); !ok || len(r.added()) != 2 {
		t.Errorf("without the network: %s", said)
	}
}

func TestSetupKeepsAProgramOfThatVersionOrADevelBuild(t *testing.T) {
	for _, version := range []string{"v1.2.3", "devel", "devel-0123456789ab"} {
		r := newRunner(t)
		r.write("bin/penstock", 0o755, program("penstock", version))
		r.path = []string{r.at("bin")}
		if said, ok := r.run(); !ok || len(r.added()) != 0 {
			t.Errorf("%s on the PATH: added %q, %s", version, r.added(), said)
		}
	}
}

func TestSetupDoesNotKeepAnotherVersion(t *testing.T) {
	r := newRunner(t)
	r.write("bin/penstock", 0o755, program("penstock", "v1.2.2"))
	r.path = []string{r.at("bin")}
	r.release("penstock", "v1.2.3")
	if said, ok := r.run(); !ok || len(r.added()) != 1 {
		t.Errorf("v1.2.2 on the PATH: added %q, %s", r.added(), said)
	}
}

func TestSetupRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(r *runner)
		env     []string
		want    string
	}{
		"another archive than pinned": {func(r *runner) {
			r.release("penstock", "v1.2.3")
			archive := "releases/v1.2.3/penstock_" + runtime.GOOS + "_" + runtime.GOARCH + ".tar.gz"
			r.write(archive, 0o644, read(r.t, r.at(archive))+"x")
		}, nil, "not installed"},
		"an archive without a pin":       {func(*runner) {}, nil, "has no checksum"},
		"an archive that is not there":   {func(r *runner) { r.release("penstock", "v1.2.3"); _ = os.RemoveAll(r.at("releases")) }, nil, "could not be downloaded"},
		"a program of another version":   {func(r *runner) { r.release("penstock", "v9.9.9") }, nil, "is v9.9.9, not v1.2.3"},
		"a word that is no truth":        {func(r *runner) { r.release("penstock", "v1.2.3") }, []string{"INPUT_SERVE=yes; true"}, "neither true nor false"},
		"a release file without version": {func(r *runner) { r.write("action/release", 0o644, "# none\n") }, nil, "names no version"},
		"a program that is broken": {func(r *runner) {
			r.write("bin/penstock", 0o755, "#!/bin/sh\nexit 1\n")
			r.path = []string{r.at("bin")}
		}, nil, "--version failed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRunner(t)
			c.prepare(r)
			said, ok := r.run(c.env...)
			if ok || !strings.Contains(said, "::error") || !strings.Contains(said, c.want) {
				t.Errorf("passed=%v, said %q, want %q", ok, said, c.want)
			}
			if len(r.added()) != 0 {
				t.Errorf("put on the PATH: %q", r.added())
			}
		})
	}
}

// What the release builds is what the action can install.
func TestSetupsReleaseFileHasItsForm(t *testing.T) {
	text := read(t, "../../actions/setup/release")
	lines := 0
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "#"):
		case len(fields) == 2 && (fields[0] == "version" || len(fields[1]) == sha256.Size*2):
			lines++
		default:
			t.Errorf("not understood: %s", line)
		}
	}
	if lines == 0 {
		t.Error("the file names no version")
	}
}
