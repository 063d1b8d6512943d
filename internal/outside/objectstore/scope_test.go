package objectstore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
)

func TestAScopeReadsTheRootAndWritesBelowItselfOnly(t *testing.T) {
	ctx := context.Background()
	s3 := servertest.MinIO(t)
	root, err := objectstore.Open(objectstore.Credentials{
		Endpoint: s3.Endpoint, Region: servertest.Region, AccessKey: s3.AccessKey, SecretKey: s3.SecretKey,
	}, servertest.Bucket(t, s3))
	if err != nil {
		t.Fatal(err)
	}
	scoped, err := root.Within("pr/12/")
	if err != nil {
		t.Fatal(err)
	}
	put := func(b *objectstore.Bucket, key, text string) {
		t.Helper()
		if err := b.UploadBytes(ctx, key, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(b *objectstore.Bucket, key string) string {
		t.Helper()
		data, _, err := b.Get(ctx, key)
		if errors.Is(err, journal.ErrNotFound) {
			return "-"
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	put(root, "models/a", "root a")
	put(root, "models/b", "root b")
	put(scoped, "models/b", "scoped b")
	put(scoped, "models/c", "scoped c")
	for key, want := range map[string][2]string{
		"models/a": {"root a", "root a"}, "models/b": {"root b", "scoped b"}, "models/c": {"-", "scoped c"}, "pr/12/models/c": {"scoped c", "scoped c"},
	} {
		if got := [2]string{read(root, key), read(scoped, key)}; got != want {
			t.Errorf("%s: root and scope read %q, want %q", key, got, want)
		}
	}
	objects, err := scoped.List(ctx, "models/")
	if err != nil || len(objects) != 3 || objects[1].Key != "models/b" || objects[1].Size != int64(len("scoped b")) {
		t.Errorf("the scope lists %+v, %v", objects, err)
	}
	if o, err := scoped.Stat(ctx, "models/c"); err != nil || o.Key != "models/c" {
		t.Errorf("stat: %+v, %v", o, err)
	}
	if _, err := scoped.Put(ctx, "state/registry/xray.json", nil, journal.Always()); !errors.Is(err, objectstore.ErrScope) {
		t.Errorf("a scope wrote a journal: %v", err)
	}
	if err := scoped.Remove(ctx, "models/a"); err != nil || read(root, "models/a") != "root a" {
		t.Errorf("a scope removed what is not its own: %v", err)
	}
}

func TestAScopeLeadsNowhereElse(t *testing.T) {
	root, err := objectstore.Open(objectstore.Credentials{Endpoint: "http://127.0.0.1:9", AccessKey: "a", SecretKey: "b"}, "bucket")
	if err != nil {
		t.Fatal(err)
	}
	for _, scope := range []string{"", "pr/12", "/pr/", "../", "pr/../", "state/", "pr//", "pr/ 1/"} {
		if _, err := root.Within(scope); err == nil {
			t.Errorf("scope %q was taken", scope)
		}
	}
}
