package objectstore

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/penstock-ml/penstock/internal/journal"
)

// scopeForm is a prefix that leads nowhere else: names and slashes, ending in
// a slash.
var scopeForm = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*/)+$`)

// statePrefix holds the journals, which belong to the whole project.
const statePrefix = "state/"

// ErrScope means that something was to be written that a scope may not touch.
var ErrScope = errors.New("not to be written in a scope")

// Within gives the bucket with a scope: everything is written below the prefix,
// reads look there first and then in the root. Journals are not written in a
// scope. Credentials that may write the prefix only are enough for it.
func (b *Bucket) Within(scope string) (*Bucket, error) {
	if !scopeForm.MatchString(scope) || strings.HasPrefix(scope, statePrefix) {
		return nil, fmt.Errorf("scope %q: a prefix like pr/12/ is wanted", scope)
	}
	scoped := *b
	scoped.scope = scope
	return &scoped, nil
}

// Scope is the prefix below which everything is written, empty for the root.
func (b *Bucket) Scope() string { return b.scope }

// target is where a key is written.
func (b *Bucket) target(key string) (string, error) {
	if b.scope != "" && strings.HasPrefix(key, statePrefix) {
		return "", fmt.Errorf("write %s: %w %s", b.place(key), ErrScope, b.scope)
	}
	return b.scope + key, nil
}

// first does a read in the scope, and in the root where nothing was found.
func (b *Bucket) first(key string, read func(key string) error) error {
	if b.scope == "" {
		return read(key)
	}
	err := read(b.scope + key)
	if errors.Is(err, journal.ErrNotFound) {
		return read(key)
	}
	return err
}

// merged joins listings of scope and root: what the scope has hides what the
// root has under the same key.
func (b *Bucket) merged(scope, root []Object) []Object {
	seen := map[string]bool{}
	for i := range scope {
		scope[i].Key = strings.TrimPrefix(scope[i].Key, b.scope)
		seen[scope[i].Key] = true
	}
	for _, o := range root {
		if !seen[o.Key] {
			scope = append(scope, o)
		}
	}
	slices.SortFunc(scope, func(x, y Object) int { return strings.Compare(x.Key, y.Key) })
	return scope
}
