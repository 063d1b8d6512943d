package host

import (
	"context"
	"log/slog"
	"time"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/serve/model"
)

// tidyTerm is how long a load that is done waits for another server that tidies
// the same cache.
const tidyTerm = 10 * time.Second

// KeepBundles is an Options.Tidy: it removes bundles from the cache, those that
// no server of this host uses and that were not used for longest, until so many
// are left, and says which. 0 keeps all. A cache that fails is told of in the
// log: the model answers without it.
func KeepBundles(cacheDir string, keep int, log *slog.Logger) func(context.Context) {
	return func(ctx context.Context) {
		if keep == 0 || ctx.Err() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, tidyTerm)
		defer cancel()
		removed, err := bundle.Prune(ctx, cacheDir, keep)
		for _, r := range removed {
			log.Info("removed from the cache", "digest", r.Digest, "bytes", r.Bytes)
		}
		if err != nil {
			log.Warn("the cache of bundles may grow", "reason", err)
		}
	}
}

// discard closes a model after its last request and gives its bundle's place in
// the cache free.
func discard(m *model.Model) error {
	defer m.Bundle().Release()
	return m.Close()
}
