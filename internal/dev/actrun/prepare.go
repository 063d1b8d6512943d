package actrun

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// knowActions refuses actions that act would fetch from the network.
func (r *run) knowActions() error {
	for _, uses := range r.top.uses() {
		name, ref, _ := strings.Cut(uses, "@")
		parts := strings.SplitN(name, "/", 3)
		if len(parts) < 2 || strings.HasPrefix(uses, "docker://") {
			return fmt.Errorf("%s cannot be run here: only actions in the checkout and actions with a stand-in", uses)
		}
		repository := parts[0] + "/" + parts[1]
		if _, known := r.spec.LocalActions[repository+"@"+ref]; !known && repository != "actions/checkout" {
			return fmt.Errorf("%s has no stand-in: name a folder for %s@%s in LocalActions", uses, repository, ref)
		}
	}
	return nil
}

//go:embed shell.sh
var wrapper string

// wrapped are the shells that steps are started with.
var wrapped = []string{"bash", "sh", "python", "python3"}

func (r *run) wrapShells() error {
	if _, err := exec.LookPath("bash"); err != nil {
		return fmt.Errorf("steps need bash: %w", err)
	}
	bound := "" // without setpriv (util-linux) a step that act kills leaves its shell to the run's end
	if path, err := exec.LookPath("setpriv"); err == nil {
		bound = path + " --pdeathsig KILL --"
	}
	for _, name := range wrapped {
		path, err := exec.LookPath(name)
		if err != nil {
			continue // no step can be started with it
		}
		text := strings.NewReplacer("@SHELL@", path, "@BOUND@", bound, "@MARK@", r.drainMark(), "@DIR@", r.shells).Replace(wrapper)
		if err := os.WriteFile(filepath.Join(r.shells, name), []byte(text), 0o700); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) drainMark() string { return "penstock-end-" + r.mark }

// environment is what every step sees, the workflow's own aside.
func (r *run) environment() map[string]string {
	s := r.spec
	owner, _, _ := strings.Cut(s.Repository, "/")
	id, attempt := strconv.FormatInt(s.ID, 10), strconv.Itoa(max(s.Attempt, 1))
	env := map[string]string{
		"HOME":                    os.Getenv("HOME"), // act itself gets another, free of settings
		"PATH":                    os.Getenv("PATH"),
		"GITHUB_ACTIONS":          "true",
		"GITHUB_RUN_ID":           id,
		"GITHUB_RUN_NUMBER":       id,
		"GITHUB_RUN_ATTEMPT":      attempt,
		"GITHUB_EVENT_NAME":       s.Event,
		"GITHUB_EVENT_PATH":       filepath.Join(r.dir, "event.json"),
		"GITHUB_REPOSITORY":       s.Repository,
		"GITHUB_REPOSITORY_OWNER": owner,
		"GITHUB_REF":              s.Ref,
		"GITHUB_SHA":              s.SHA,
		"SHA_REF":                 s.SHA, // act's name for it
		"GITHUB_ACTOR":            s.Actor,
		"GITHUB_TRIGGERING_ACTOR": s.Actor,
		"GITHUB_WORKFLOW_REF":     s.Repository + "/" + s.Workflow + "@" + s.Ref,
		"GITHUB_WORKFLOW_SHA":     s.SHA,
		"RUNNER_NAME":             "penstock-dev",
		"RUNNER_ENVIRONMENT":      "self-hosted",
	}
	maps.Copy(env, s.Env)
	env["PATH"] = r.shells + string(os.PathListSeparator) + env["PATH"]
	env[markName] = r.mark
	return env
}

// passed names the variables that act and the hook inherit.
var passed = []string{"PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER"}

func inherited() []string {
	var env []string
	for _, name := range passed {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func keysOf(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// file writes a map where act reads it: JSON is YAML, and a file keeps secrets
// out of the list of processes.
func (r *run) file(name string, values map[string]string) (string, error) {
	if values == nil {
		values = map[string]string{}
	}
	data, err := json.Marshal(values)
	if err != nil {
		return "", err
	}
	path := filepath.Join(r.dir, name+".yaml")
	return path, os.WriteFile(path, data, 0o600)
}

func (r *run) arguments(top string) ([]string, error) {
	secrets := maps.Clone(r.spec.Secrets)
	if secrets == nil {
		secrets = map[string]string{}
	}
	if _, ok := secrets["GITHUB_TOKEN"]; !ok {
		secrets["GITHUB_TOKEN"] = "" // or act asks the person's gh
	}
	args := []string{
		r.spec.Event, "--json", "--concurrent-jobs", "1", "--rm", "--no-cache-server", "--no-recurse",
		"--cache-server-addr", "127.0.0.1", "--artifact-server-addr", "127.0.0.1",
		"-C", r.spec.Dir, "-W", top, "-e", r.env["GITHUB_EVENT_PATH"], "--action-cache-path", filepath.Join(r.dir, "cache"),
	}
	for _, f := range []struct {
		flag   string
		values map[string]string
	}{{"env", r.env}, {"secret", secrets}, {"var", r.spec.Vars}, {"input", nil}} {
		path, err := r.file(f.flag, f.values)
		if err != nil {
			return nil, err
		}
		args = append(args, "--"+f.flag+"-file", path)
	}
	for _, label := range slices.Concat(hosted, r.spec.Labels) {
		args = append(args, "-P", label+"=-self-hosted")
	}
	for _, repository := range keysOf(r.spec.LocalActions) {
		// By its name alone act finds it only where the server has no path.
		dir, server := r.spec.LocalActions[repository], strings.TrimSuffix(r.env["GITHUB_SERVER_URL"], "/")
		args = append(args, "--local-repository", repository+"="+dir)
		if server != "" {
			args = append(args, "--local-repository", server+"/"+repository+"="+dir)
		}
		if strings.HasPrefix(repository, "actions/checkout@") && !slices.Contains(args, "--no-skip-checkout") {
			args = append(args, "--no-skip-checkout")
		}
	}
	for flag, value := range map[string]string{"--actor": r.spec.Actor, "--defaultbranch": r.spec.DefaultBranch} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	return args, nil
}
