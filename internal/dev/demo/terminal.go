package demo

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// terminal drives the commands as a user's terminal would: the watcher hands
// batches over, and every command is started here.
type terminal struct {
	*demo
	batches *dispatcher
	watcher *resident
}

func (t *terminal) begin(context.Context) (err error) {
	if t.batches, err = startDispatcher(); err != nil {
		return err
	}
	t.watcher, err = t.programs.start("penstock", "watch", "watch", "--interval", "1s", "--webhook", t.batches.url)
	return err
}

func (t *terminal) end() error {
	var errs []error
	if t.watcher != nil {
		errs = append(errs, t.watcher.stop())
	}
	if t.batches != nil {
		errs = append(errs, t.batches.close())
	}
	return errors.Join(errs...)
}

func (t *terminal) run(ctx context.Context, what task) (outcome, error) {
	switch what.kind {
	case landBatch:
		key, err := t.land(ctx, what.batch)
		if err != nil {
			return outcome{}, err
		}
		return t.drive(ctx, key, 1, t.lineOf(key))
	case goBack:
		return t.drive(ctx, t.second.runKey, 1, []step{{"penstock", "rollback", []string{"rollback"}}})
	case goForward:
		from := t.fromResults(t.second.runKey, 1)
		return t.drive(ctx, t.second.runKey, 2, []step{{"penstock", "rollout", append([]string{"rollout"}, from("gate-release")...)}})
	}
	return outcome{}, fmt.Errorf("unknown task %d", what.kind)
}

// land uploads batch n and waits until the watcher hands it over.
func (t *terminal) land(ctx context.Context, n int) (string, error) {
	dir, err := t.batch(ctx, n)
	if err != nil {
		return "", err
	}
	started := t.now()
	if err := t.upload(ctx, dir); err != nil {
		return "", err
	}
	b, err := t.batches.next(ctx, handOverLimit)
	if err != nil {
		return "", err
	}
	if !strings.Contains(b.Prefix, filepath.Base(dir)) {
		return "", fmt.Errorf("the watcher handed over %s, not %s", b.Prefix, filepath.Base(dir))
	}
	t.say("    %-13s %-12s %5.1f s  batch %.12s", "watch", "pass", t.now().Sub(started).Seconds(), b.Key)
	return b.Key, nil
}
