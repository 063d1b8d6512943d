package hub

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// emptyTree is git's tree without files.
const emptyTree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

// changedFile is a file that differs between two trees.
type changedFile struct {
	Path, Previous     string // Previous: of a rename
	Status             string // added, removed, modified, renamed
	Blob               string
	Additions, Deleted int
	Patch              string
}

var changeWords = map[byte]string{'A': "added", 'D': "removed", 'M': "modified", 'R': "renamed", 'T': "changed", 'C': "copied"}

// diff lists what changed from one tree to the other.
func (h *Hub) diff(r *repository, from, to string) ([]changedFile, error) {
	out, err := h.git(r, nil, "diff", "--raw", "--no-abbrev", "--numstat", "-z", "-M", from, to, "--")
	if err != nil {
		return nil, err
	}
	fields := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	var files []changedFile
	at := map[string]int{}
	for len(fields) > 0 && fields[0] != "" {
		if strings.HasPrefix(fields[0], ":") {
			head := strings.Fields(fields[0])
			f := changedFile{Status: changeWords[head[4][0]], Path: fields[1], Blob: head[3]}
			fields = fields[2:]
			if head[4][0] == 'R' || head[4][0] == 'C' {
				f.Previous, f.Path, fields = f.Path, fields[0], fields[1:]
			}
			if f.Status == "" {
				return nil, fmt.Errorf("git diff: status %q", head[4])
			}
			at[f.Path] = len(files)
			files = append(files, f)
			continue
		}
		var numbers []string
		if numbers, fields, err = numstat(fields); err != nil {
			return nil, err
		}
		if i, ok := at[numbers[2]]; ok && numbers[0] != "-" { // "-" is a binary file
			if files[i].Additions, err = strconv.Atoi(numbers[0]); err == nil {
				files[i].Deleted, err = strconv.Atoi(numbers[1])
			}
			if err != nil {
				return nil, fmt.Errorf("git diff: %w", err)
			}
		}
	}
	return files, nil
}

// numstat takes one file's numbers off the fields: added, deleted, path.
func numstat(fields []string) (numbers, rest []string, err error) {
	numbers = strings.SplitN(fields[0], "\t", 3)
	rest = fields[1:]
	if len(numbers) != 3 {
		return nil, nil, fmt.Errorf("git diff: unexpected %q", fields[0])
	}
	if numbers[2] == "" { // a rename: the two names follow
		if len(rest) < 2 {
			return nil, nil, fmt.Errorf("git diff: a rename without names")
		}
		numbers[2], rest = rest[1], rest[2:]
	}
	return numbers, rest, nil
}

// patches fills in each file's patch.
func (h *Hub) patches(r *repository, from, to string, files []changedFile) error {
	for i, f := range files {
		out, err := h.git(r, nil, "diff", "--no-color", from, to, "--", f.Path)
		if err != nil {
			return err
		}
		if _, patch, ok := strings.Cut(string(out), "\n@@"); ok {
			files[i].Patch = "@@" + patch
		}
	}
	return nil
}

// paths are the names that path filters look at: of a rename both.
func paths(files []changedFile) []string {
	var all []string
	for _, f := range files {
		all = append(all, f.Path)
		if f.Previous != "" {
			all = append(all, f.Previous)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// pushedPaths are the files that a push changed: against the commit before, and
// of a new branch against the parent of its first new commit.
func (h *Hub) pushedPaths(r *repository, before, after, ref string) ([]string, error) {
	from := before
	if before == zeroSHA {
		from = emptyTree
		out, err := h.git(r, nil, "rev-list", "--topo-order", "--reverse", after, "--exclude="+strings.TrimPrefix(ref, "refs/heads/"), "--not", "--branches")
		if err != nil {
			return nil, err
		}
		first, _, _ := strings.Cut(string(out), "\n")
		if first == "" { // nothing new: it stands on another branch
			return nil, nil
		}
		if c, err := h.commit(r, first); err != nil {
			return nil, err
		} else if len(c.Parents) > 0 {
			from = c.Parents[0]
		}
	}
	files, err := h.diff(r, from, after)
	return paths(files), err
}
