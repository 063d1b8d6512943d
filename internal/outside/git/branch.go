package git

import (
	"context"
	"strings"
)

// Branch names the default branch: the remote's, where a clone knows it, else
// the current one. It is empty where there is no repository.
func (r Repository) Branch(ctx context.Context) string {
	if name, err := r.run(ctx, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"); err == nil {
		return strings.TrimPrefix(name, "origin/")
	}
	name, err := r.run(ctx, "symbolic-ref", "--quiet", "--short", "HEAD")
	if err != nil {
		return ""
	}
	return name
}
