package deployment

import (
	"context"
	"fmt"
	"net/http"

	"github.com/go-resty/resty/v2"

	"github.com/penstock-ml/penstock/internal/line/split"
)

// Split reads what a router does now.
func (c *Client) Split(ctx context.Context, at Router) (split.Split, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var now split.Split
	var no split.Refusal
	r, err := c.router.R().SetContext(ctx).SetResult(&now).SetError(&no).Get(at.URL + "/v1/split")
	if err := routerError(at, r, no, err); err != nil {
		return split.Split{}, err
	}
	return now, nil
}

// SetSplit changes the split of one router; want carries the revision that was
// read. It answers split.ErrStale, ErrHeld or ErrCanaryDown where the router
// refuses. It is not repeated: after a broken connection read again.
func (c *Client) SetSplit(ctx context.Context, at Router, want split.Split) (split.Split, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var now split.Split
	var no split.Refusal
	r, err := c.router.R().SetContext(ctx).SetBody(want).SetResult(&now).SetError(&no).Put(at.URL + "/v1/split")
	if err := routerError(at, r, no, err); err != nil {
		return split.Split{}, err
	}
	return now, nil
}

// routerError turns a refusal back into the error that the router meant.
func routerError(at Router, r *resty.Response, no split.Refusal, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("router %s: %w", at.URL, err)
	case r.StatusCode() == http.StatusOK:
		return nil
	}
	kinds := map[string]error{
		"stale": split.ErrStale, "held": split.ErrHeld,
		"canary-down": split.ErrCanaryDown, "invalid": split.ErrInvalid,
	}
	if kind := kinds[no.Code]; kind != nil {
		return fmt.Errorf("router %s: %w: %s", at.URL, kind, no.Error)
	}
	return fmt.Errorf("router %s: %s: %s", at.URL, r.Status(), no.Error)
}
