// Package git lays annotated tags into a repository by the git program. A tag
// is a record: it is made once and never moved. Nothing is pushed: who may
// push is the workflow's decision.
package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// ErrTagTaken means that the tag exists and records something else.
var ErrTagTaken = errors.New("tag exists with another record")

// timeout bounds one call of git; a tag takes milliseconds.
const timeout = 20 * time.Second

// Repository is a checkout or a bare repository.
type Repository struct {
	Dir string
}

// Check refuses a folder in which no tag could be made.
func (r Repository) Check(ctx context.Context) error {
	if _, err := r.run(ctx, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"); err != nil {
		return fmt.Errorf("%s is no git repository with a commit; name the project's with --repository: %w", r.Dir, err)
	}
	return nil
}

// Tag makes an annotated tag at HEAD. A tag that is there and whose message
// holds record is what was wanted; another message is ErrTagTaken.
func (r Repository) Tag(ctx context.Context, name, message, record string) error {
	if !strings.Contains(message, record) {
		return fmt.Errorf("tag %s: the message does not hold the record %q", name, record)
	}
	if _, err := r.run(ctx, "rev-parse", "--verify", "--quiet", "refs/tags/"+name); err == nil {
		return r.same(ctx, name, record)
	}
	args := append(r.identity(ctx), "tag", "--annotate", "--message", message, name)
	if _, err := r.run(ctx, args...); err != nil {
		// Another process may have made it between the look and now.
		if sameErr := r.same(ctx, name, record); sameErr == nil {
			return nil
		}
		return fmt.Errorf("tag %s in %s: %w", name, r.Dir, err)
	}
	return nil
}

func (r Repository) same(ctx context.Context, name, record string) error {
	text, err := r.run(ctx, "for-each-ref", "--format=%(objecttype) %(contents)", "refs/tags/"+name)
	if err != nil {
		return fmt.Errorf("read tag %s in %s: %w", name, r.Dir, err)
	}
	if !strings.HasPrefix(text, "tag ") || !strings.Contains(text, record) {
		return fmt.Errorf("%w: %s in %s does not record %s; look at it with `git show %s`", ErrTagTaken, name, r.Dir, record, name)
	}
	return nil
}

// identity names the tagger where the repository's configuration names nobody,
// as on a fresh runner.
func (r Repository) identity(ctx context.Context) []string {
	if _, err := r.run(ctx, "var", "GIT_COMMITTER_IDENT"); err == nil {
		return nil
	}
	return []string{"-c", "user.name=penstock", "-c", "user.email=penstock@localhost"}
}

func (r Repository) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", r.Dir}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}
