package demo

import (
	"context"
	"path/filepath"

	"github.com/penstock-ml/penstock/internal/bundle"
)

// sabotageBundle makes a bundle from the champion whose graph is slow, or
// fails on over-exposed images, and publishes it like any trainer's.
func (d *demo) sabotageBundle(ctx context.Context, kind string) (digest string, err error) {
	champion, err := bundle.Fetch(ctx, d.bucket, d.champion.model, filepath.Join(d.Dir, "cache", "bundles"))
	if err != nil {
		return "", err
	}
	interpreter, err := oracle()
	if err != nil {
		return "", err
	}
	out := filepath.Join(d.Dir, "sabotage", kind)
	script := filepath.Join(d.Root, "tests", "sabotage", "sabotage.py")
	if err := d.script(ctx, interpreter, script, kind, "--bundle", champion.Dir, "--out", out); err != nil {
		return "", err
	}
	return bundle.Publish(ctx, d.bucket, out)
}
