package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/hub/trigger"
)

const (
	gitTimeout = time.Minute
	zeroSHA    = "0000000000000000000000000000000000000000"
)

var (
	nameRule = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$`)
	shaRule  = regexp.MustCompile(`^[0-9a-f]{40}$`)
	// errNoObject: git knows no such commit, ref or file.
	errNoObject = errors.New("no such object in the repository")
)

func (h *Hub) gitDir(r *repository) string {
	return filepath.Join(h.opt.Dir, "git", r.Owner, r.Name+".git")
}

// git runs git in the repository, apart from the user's own configuration.
func (h *Hub) git(r *repository, stdin []byte, args ...string) ([]byte, error) {
	return h.gitIn(h.gitDir(r), stdin, args...)
}

func (h *Hub) gitIn(dir string, stdin []byte, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), gitTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = h.gitEnv()
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

func (h *Hub) gitEnv() []string {
	when := fmt.Sprintf("%d +0000", h.now().Unix())
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + h.opt.Dir, "LC_ALL=C.UTF-8",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=" + h.opt.Login, "GIT_AUTHOR_EMAIL=" + h.opt.Login + "@users.noreply.localhost", "GIT_AUTHOR_DATE=" + when,
		"GIT_COMMITTER_NAME=GitHub", "GIT_COMMITTER_EMAIL=noreply@localhost", "GIT_COMMITTER_DATE=" + when,
	}
}

// initGit makes the bare repository: of a fork with its parent's objects.
func (h *Hub) initGit(r *repository) error {
	dir := h.gitDir(r)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("hub: repository: %w", err)
	}
	create := []string{"init", "--quiet", "--bare", "--initial-branch=main", dir}
	if parent := h.state.byFull(r.Parent); parent != nil {
		r.DefaultBranch = parent.DefaultBranch
		create = []string{"clone", "--quiet", "--bare", "--no-hardlinks", h.gitDir(parent), dir}
	}
	if _, err := h.gitIn(h.opt.Dir, nil, create...); err != nil {
		return fmt.Errorf("hub: repository: %w", err)
	}
	for _, setting := range [][2]string{
		{"http.receivepack", "true"},
		{"http.uploadpack", "true"},
		{"uploadpack.allowAnySHA1InWant", "true"},
		{"receive.hideRefs", "refs/pull"},
		{"receive.denyDeleteCurrent", "ignore"},
		{"gc.auto", "0"},
	} {
		if _, err := h.git(r, nil, "config", setting[0], setting[1]); err != nil {
			return fmt.Errorf("hub: repository: %w", err)
		}
	}
	return nil
}

// refTable is the refs of a repository: what they point at, and the commits
// that this leads to.
type refTable struct {
	objects, commits map[string]string
}

// refTable is kept until a ref moves, which happens only through the hub.
func (h *Hub) refTable(r *repository) (refTable, error) {
	if t, known := h.tables[r.full()]; known {
		return t, nil
	}
	t, err := h.readRefs(r)
	if err == nil {
		h.tables[r.full()] = t
	}
	return t, err
}

func (h *Hub) readRefs(r *repository) (refTable, error) {
	out, err := h.git(r, nil, "for-each-ref", "--format=%(refname) %(objectname) %(*objectname)")
	if err != nil {
		return refTable{}, err
	}
	t := refTable{objects: map[string]string{}, commits: map[string]string{}}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		t.objects[f[0]], t.commits[f[0]] = f[1], f[len(f)-1]
	}
	return t, nil
}

// refsMoved forgets what was known of the refs.
func (h *Hub) refsMoved(r *repository) { delete(h.tables, r.full()) }

// refs are all refs of the repository with the objects they point at.
func (h *Hub) refs(r *repository) (map[string]string, error) {
	t, err := h.refTable(r)
	return t.objects, err
}

// resolve gives the commit of a name: a full ref, a branch, a tag or a SHA.
func (h *Hub) resolve(r *repository, name string) (string, error) {
	t, err := h.refTable(r)
	if err != nil {
		return "", err
	}
	for _, full := range []string{name, "refs/heads/" + name, "refs/tags/" + name} {
		if sha, there := t.commits[full]; there {
			return sha, nil
		}
	}
	if shaRule.MatchString(name) {
		if out, err := h.git(r, nil, "rev-parse", "--verify", "--quiet", name+"^{commit}"); err == nil {
			return strings.TrimSpace(string(out)), nil
		}
	}
	return "", fmt.Errorf("%w: %s", errNoObject, name)
}

// fullRef makes refs/… of what a caller gave; "" where no such ref is there.
func (h *Hub) fullRef(r *repository, name string) string {
	t, err := h.refTable(r)
	if err != nil {
		return ""
	}
	for _, full := range []string{name, "refs/heads/" + name, "refs/tags/" + name} {
		if _, there := t.objects[full]; there {
			return full
		}
	}
	return ""
}

func (h *Hub) setRef(r *repository, ref, sha string) error {
	h.refsMoved(r)
	_, err := h.git(r, nil, "update-ref", ref, sha)
	return err
}

// show is a file of a commit.
func (h *Hub) show(r *repository, sha, path string) ([]byte, error) {
	out, err := h.git(r, nil, "cat-file", "blob", sha+":"+path)
	if err != nil {
		return nil, fmt.Errorf("%w: %s at %s", errNoObject, path, sha)
	}
	return out, nil
}

// workflowFile is a workflow as it stands in a commit.
type workflowFile struct {
	*trigger.Workflow
	data    []byte
	problem error // it cannot be read: it never starts, and its run says why
}

// workflows are those of a commit. They never change, so they are kept.
func (h *Hub) workflows(r *repository, sha string) ([]workflowFile, error) {
	key := r.full() + "@" + sha
	if files, ok := h.files[key]; ok {
		return files, nil
	}
	out, err := h.git(r, nil, "ls-tree", "--name-only", "-z", sha, ".github/workflows/")
	if err != nil {
		return nil, err
	}
	files := []workflowFile{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if ext := filepath.Ext(name); ext != ".yml" && ext != ".yaml" {
			continue
		}
		data, err := h.show(r, sha, name)
		if err != nil {
			return nil, err
		}
		file := workflowFile{data: data}
		file.Workflow, file.problem = trigger.Parse(name, data)
		files = append(files, file)
	}
	h.files[key] = files
	return files, nil
}

// workflowAt is one workflow of a commit.
func (h *Hub) workflowAt(r *repository, sha, path string) (workflowFile, error) {
	files, err := h.workflows(r, sha)
	if err != nil {
		return workflowFile{}, err
	}
	for _, f := range files {
		if f.Path == path {
			return f, nil
		}
	}
	return workflowFile{}, fmt.Errorf("%w: %s at %s", errNoObject, path, sha)
}

// gitCommit is a commit as git tells it.
type gitCommit struct {
	SHA, Tree            string
	Parents              []string
	Author, Committer    gitPerson
	Message, Description string
}

type gitPerson struct {
	Name, Email string
	Date        time.Time
}

// commits are those of a range (newest first), at most limit; 0 is no limit.
func (h *Hub) commits(r *repository, limit int, revisions ...string) ([]gitCommit, error) {
	args := []string{"log", "-z", "--format=%H%x01%T%x01%P%x01%an%x01%ae%x01%aI%x01%cn%x01%ce%x01%cI%x01%B"}
	if limit > 0 {
		args = append(args, "-n", strconv.Itoa(limit))
	}
	out, err := h.git(r, nil, append(append(args, revisions...), "--")...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoObject, err)
	}
	var all []gitCommit
	for record := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		f := strings.SplitN(record, "\x01", 10)
		if len(f) < 10 {
			continue
		}
		c := gitCommit{SHA: f[0], Tree: f[1], Parents: strings.Fields(f[2]), Message: strings.TrimRight(f[9], "\n")}
		if c.Author, err = person(f[3], f[4], f[5]); err != nil {
			return nil, err
		}
		if c.Committer, err = person(f[6], f[7], f[8]); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func (h *Hub) commit(r *repository, sha string) (gitCommit, error) {
	all, err := h.commits(r, 1, sha)
	if err != nil || len(all) == 0 {
		return gitCommit{}, errors.Join(errNoObject, err)
	}
	return all[0], nil
}

func person(name, email, when string) (gitPerson, error) {
	date, err := time.Parse(time.RFC3339, when)
	if err != nil {
		return gitPerson{}, fmt.Errorf("git log: %w", err)
	}
	return gitPerson{Name: name, Email: email, Date: date.UTC()}, nil
}

// count is the number of commits in a range.
func (h *Hub) count(r *repository, revisions ...string) (int, error) {
	out, err := h.git(r, nil, append([]string{"rev-list", "--count"}, revisions...)...)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// mergeBase is "" where the two have nothing in common.
func (h *Hub) mergeBase(r *repository, a, b string) string {
	out, err := h.git(r, nil, "merge-base", a, b)
	if err != nil {
		return "" // git says so by its exit code alone
	}
	return strings.TrimSpace(string(out))
}
