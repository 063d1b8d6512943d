package layering

import (
	"bytes"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tracked gives the paths of all files in the repository, from its root.
func tracked(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v: these tests need a clone of the repository", err)
	}
	paths := strings.Split(strings.Trim(string(out), "\x00"), "\x00")
	if len(paths) < 10 {
		t.Fatalf("git ls-files lists only %v", paths)
	}
	return paths
}

// text reads a tracked file; nothing for one that is binary or not checked out.
func text(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../..", filepath.FromSlash(file)))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if bytes.IndexByte(data, 0) >= 0 {
		return nil
	}
	return data
}

// A size that was never measured stands as XX in the templates of reports.
func TestNoReadmeHoldsAPlaceholder(t *testing.T) {
	placeholder := regexp.MustCompile(`\bXX+\b`)
	readmes := 0
	for _, file := range tracked(t) {
		if !strings.HasPrefix(path.Base(file), "README") {
			continue
		}
		readmes++
		for i, line := range bytes.Split(text(t, file), []byte("\n")) {
			if placeholder.Match(line) {
				t.Errorf("%s:%d holds a placeholder: %s", file, i+1, line)
			}
		}
	}
	if readmes == 0 {
		t.Error("no README in the repository")
	}
}

// machinePaths are folders that exist on somebody's machine and nowhere else.
var machinePaths = regexp.MustCompile(`(^|[^\w./-])/(wo` + `rk|ro` + `ot|fa` + `rm|home/\w+|Users/\w+)(/|\b)`)

func TestNoFileNamesAFolderOfOneMachine(t *testing.T) {
	for _, file := range tracked(t) {
		for i, line := range bytes.Split(text(t, file), []byte("\n")) {
			if m := machinePaths.Find(line); m != nil {
				t.Errorf("%s:%d names a folder of one machine (%s): %s", file, i+1, m, bytes.TrimSpace(line))
			}
		}
	}
}

func TestMachinePathsAreToldFromOthers(t *testing.T) {
	for line, want := range map[string]bool{
		"see /wo" + "rk/main": true, `"/ro` + `ot/.cache"`: true, "cd /home/" + "ann/x": true,
		"a/work/b": false, "/workflows": false, ".github/work": false, "$HOME/.cache": false, "/homes": false,
	} {
		if got := machinePaths.MatchString(line); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}
