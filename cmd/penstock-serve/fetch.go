package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/serve/remote"
	"github.com/penstock-ml/penstock/serve/service"
)

// fetchTerm bounds the fetching of a picture, redirects included.
const fetchTerm = 10 * time.Second

// fetcher gives what goes wrong at a fetch in the service's terms: it is the
// sender's, who named the URL.
type fetcher struct {
	*remote.Fetcher
	log *slog.Logger
}

func newFetcher(hosts []string, log *slog.Logger) (*fetcher, error) {
	f, err := remote.New(remote.Options{Allowed: hosts, MaxBytes: imaging.DefaultLimits.Bytes, Timeout: fetchTerm})
	if err != nil {
		return nil, err
	}
	return &fetcher{f, log}, nil
}

var fetchKinds = map[remote.Reason]service.Kind{
	remote.BadURL: service.BadInput, remote.NotAllowed: service.Denied, remote.TooLarge: service.TooLarge,
	remote.NoPicture: service.Unsupported, remote.Unreachable: service.BadInput,
}

// Get fetches the picture. Why there is none is told the sender in general
// words, and the operator in detail.
func (f *fetcher) Get(ctx context.Context, url string) ([]byte, error) {
	data, err := f.Fetcher.Get(ctx, url)
	var refused *remote.Refused
	if !errors.As(err, &refused) {
		return data, err
	}
	f.log.Warn("a picture was not fetched", "reason", refused.Reason, "cause", refused.Cause)
	return nil, service.Bad(fetchKinds[refused.Reason], "%s", refused.Text)
}
