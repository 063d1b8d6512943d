// Package workspace opens what the commands of both programs stand in: the
// project file, its bucket, the results of earlier steps and the ledger of the
// run. It holds no logic of any stage.
package workspace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
	"github.com/penstock-ml/penstock/internal/project"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// Workspace is an open project.
type Workspace struct {
	Project project.Project
	Bucket  *objectstore.Bucket
	Cache   string // folder for downloads; safe to delete

	run action.Common
}

// StoreVariables are the environment variables that open the bucket, for the
// definitions of commands.
func StoreVariables() []action.Variable {
	return []action.Variable{
		{Name: "AWS_ENDPOINT_URL_S3", Description: "address of the S3 store (or AWS_ENDPOINT_URL)"},
		{Name: "AWS_REGION", Description: "region, us-east-1 where absent"},
		{Name: "AWS_ACCESS_KEY_ID", Description: "who asks"},
		{Name: "AWS_SECRET_ACCESS_KEY", Description: "its secret", Secret: true},
	}
}

// Models is the folder in which fetched bundles are kept, by digest.
func (w *Workspace) Models() string { return filepath.Join(w.Cache, "models") }

// Open reads the project file and opens its bucket. No request is made yet.
func Open(env *action.Env) (*Workspace, error) {
	p, err := project.Read(env.Common.Config)
	if err != nil {
		return nil, verdict.Coded("config", err)
	}
	credentials, err := objectstore.CredentialsFromEnv(env.Getenv)
	if err != nil {
		return nil, verdict.Coded("credentials", err)
	}
	bucket, err := objectstore.Open(credentials, p.Data.Bucket)
	if err != nil {
		return nil, err
	}
	if scope := cmp.Or(env.Common.Scope, env.Getenv("PENSTOCK_SCOPE")); scope != "" {
		if bucket, err = bucket.Within(scope); err != nil {
			return nil, verdict.Usage(err)
		}
	}
	cache, err := CacheDir(env)
	if err != nil {
		return nil, err
	}
	return &Workspace{Project: p, Bucket: bucket, Cache: cache, run: env.Common}, nil
}

// CacheDir is the folder of downloads: PENSTOCK_CACHE/data, else below the
// user's cache folder.
func CacheDir(env *action.Env) (string, error) {
	if dir := env.Getenv("PENSTOCK_CACHE"); dir != "" {
		return filepath.Join(dir, "data"), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder for downloads: set PENSTOCK_CACHE: %w", err)
	}
	return filepath.Join(dir, "penstock", "data"), nil
}

// From reads the results that --from names: files, s3:// URIs in the project's
// bucket, or step:NAME, the newest result of a step of this run.
func (w *Workspace) From(ctx context.Context, sources []string) ([]verdict.Result, error) {
	results := make([]verdict.Result, 0, len(sources))
	for _, source := range sources {
		data, err := w.Read(ctx, source)
		if err != nil {
			return nil, fmt.Errorf("--from %s: %w", source, err)
		}
		r, err := verdict.Decode(data)
		if err != nil {
			return nil, fmt.Errorf("--from %s: %w", source, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// OpenWith opens the workspace and reads the results that --from names.
func OpenWith(ctx context.Context, env *action.Env, sources []string) (*Workspace, []verdict.Result, error) {
	w, err := Open(env)
	if err != nil {
		return nil, nil, err
	}
	from, err := w.From(ctx, sources)
	return w, from, err
}

// Read reads a file, an s3:// URI in the project's bucket, or the result of a
// step of this run.
func (w *Workspace) Read(ctx context.Context, source string) ([]byte, error) {
	if step, ok := strings.CutPrefix(source, "step:"); ok {
		return w.step(ctx, step)
	}
	rest, remote := strings.CutPrefix(source, "s3://")
	if !remote {
		return os.ReadFile(source)
	}
	bucket, key, found := strings.Cut(rest, "/")
	if !found || bucket != w.Bucket.Name() {
		return nil, fmt.Errorf("not in the project's bucket %s", w.Bucket.Name())
	}
	data, _, err := w.Bucket.Get(ctx, key)
	return data, err
}

// step reads the result of a step of this run: of this attempt or the newest
// before it, because jobs that passed are not run again with those that failed.
func (w *Workspace) step(ctx context.Context, name string) ([]byte, error) {
	if w.run.RunKey == "" {
		return nil, verdict.Usage(errors.New("step:NAME needs --run-key"))
	}
	for earlier := w.run; earlier.Attempt > 0; earlier.Attempt-- {
		data, _, err := w.Bucket.Get(ctx, earlier.Key(name))
		if !errors.Is(err, journal.ErrNotFound) {
			return data, err
		}
	}
	return nil, fmt.Errorf("run %s has no verdict of a step %s up to attempt %d: %w", w.run.RunKey, name, w.run.Attempt, journal.ErrNotFound)
}

// Subject joins a flag with what earlier results say of a role ("model",
// "dataset", …): the flag's value must not contradict them, nor they each
// other. It is empty where nobody says anything.
func Subject(role, flag string, from []verdict.Result) (string, error) {
	value, by := flag, "--"+role
	for _, r := range from {
		said := r.Subjects[role]
		switch {
		case said == "" || said == value:
		case value == "":
			value, by = said, "the result of "+r.Command
		default:
			return "", verdict.Coded("digest-mismatch", fmt.Errorf("%s: %s says %s, the result of %s says %s; the steps are of different runs", role, by, value, r.Command, said))
		}
	}
	return value, nil
}

// Ledger keeps results in the bucket's runs/. It implements action.Ledger.
type Ledger struct{}

// Lookup answers the step's verdict of this run and attempt, nil where there
// is none.
func (Ledger) Lookup(ctx context.Context, env *action.Env, step string) (*verdict.Result, error) {
	w, err := Open(env)
	if err != nil {
		return nil, err
	}
	data, _, err := w.Bucket.Get(ctx, env.Common.Key(step))
	if errors.Is(err, journal.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := verdict.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", env.Common.Key(step), err)
	}
	return &r, nil
}

// Record creates the step's result. An error is no verdict: it is kept beside,
// under <step>.error.json, so that the same attempt can be tried again.
func (Ledger) Record(ctx context.Context, env *action.Env, step string, r verdict.Result) error {
	w, err := Open(env)
	if err != nil {
		return err
	}
	data, err := r.Encode()
	if err != nil {
		return err
	}
	key, when := env.Common.Key(step), journal.IfAbsent()
	if r.Verdict == verdict.Error {
		key, when = env.Common.Key(step+".error"), journal.Always()
	}
	_, err = w.Bucket.Put(ctx, key, data, when)
	if errors.Is(err, journal.ErrConflict) {
		return fmt.Errorf("run %s, attempt %d already has a result of step %s: another process runs the same step; %w", env.Common.RunKey, env.Common.Attempt, step, err)
	}
	return err
}
