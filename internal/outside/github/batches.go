package github

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/penstock-ml/penstock/internal/line/intake"
)

// ShortestLease is the shortest claim under which batches may be dispatched.
// Its last fifth, which a watcher keeps free, must hold an attempt and the time
// until a run is listed: who takes the claim over then sees what was started.
const ShortestLease = 5 * (attemptLimit + visible + visible/3)

// RunName is the run name of a training run with this key; the workflow's
// run-name must make the same of its input run_key.
func RunName(key string) string { return "train " + key }

// Batches hands batches on by dispatching a workflow with the inputs batch and
// run_key, both the batch's key. It is an intake.Dispatcher.
type Batches struct {
	client   *Client
	workflow string

	mu  sync.Mutex
	ref string
}

// NewBatches dispatches workflow, a file's name, on ref; an empty ref means the
// default branch.
func NewBatches(c *Client, workflow, ref string) *Batches {
	return &Batches{client: c, workflow: workflow, ref: ref}
}

// Dispatched tells whether a run of the batch is listed.
func (b *Batches) Dispatched(ctx context.Context, key string) (bool, error) {
	_, found, err := b.client.lookUp(ctx, b.workflow, RunName(key))
	return found, uncertainty(err)
}

// Dispatch starts the run of the batch, unless it is there. Where it stays
// open whether GitHub took it, the error of both is intake.ErrUncertain.
func (b *Batches) Dispatch(ctx context.Context, batch intake.Batch) error {
	ref, err := b.branch(ctx)
	if err != nil {
		return err
	}
	_, err = b.client.dispatch(ctx, b.workflow, RunName(batch.Key), false, func(ctx context.Context) (int64, error) {
		return b.client.postWorkflow(ctx, b.workflow, ref, map[string]string{"batch": batch.Key, "run_key": batch.Key})
	})
	return uncertainty(err)
}

// uncertainty says in intake's words that it is open whether a run started.
func uncertainty(err error) error {
	if errors.Is(err, ErrUnanswered) {
		return fmt.Errorf("%w: %w", intake.ErrUncertain, err)
	}
	return err
}

func (b *Batches) branch(ctx context.Context) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ref == "" {
		ref, err := b.client.DefaultBranch(ctx)
		if err != nil {
			return "", err
		}
		b.ref = ref
	}
	return b.ref, nil
}
