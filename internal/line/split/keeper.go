package split

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/penstock-ml/penstock/internal/verdict"
)

// Key is the entry of the proxy's map that holds the share in basis points.
const Key = "canary_bp"

// Proxy is the running proxy. SetMap must change the entry in memory only;
// Map reads it back, because a proxy may ignore a value without a word.
type Proxy interface {
	Map(ctx context.Context) (map[string]string, error)
	SetMap(ctx context.Context, key, value string) error
	CanaryUp(ctx context.Context) (bool, error)
}

// Keeper holds the split of one proxy host. It alone writes the map file and
// the proxy's map. Its methods may be called at the same time.
type Keeper struct {
	mapFile string
	proxy   Proxy
	now     func() time.Time
	logf    func(string, ...any)

	mu    sync.Mutex
	state State
}

// Open restores the split of mapFile and of the record beside it
// (mapFile.state). A map without a record has no owner, so its share goes to
// 0. The map file is there afterwards; the proxy need not run yet.
func Open(mapFile string, proxy Proxy, now func() time.Time, logf func(string, ...any)) (*Keeper, error) {
	k := &Keeper{mapFile: mapFile, proxy: proxy, now: now, logf: logf}
	data, err := os.ReadFile(k.record())
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read the router's record: %w", err)
	default:
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&k.state); err != nil {
			return nil, fmt.Errorf("the router's record %s cannot be understood; remove it to start from share 0: %w", k.record(), err)
		}
	}
	k.state = k.state.At(now())
	if err := k.persist(k.state); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *Keeper) record() string { return k.mapFile + ".state" }

// persist writes the record, then the map file from which a restarted proxy
// reads. The record is first: a map with a share always has an owner on disk.
func (k *Keeper) persist(s State) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the router's record: %w", err)
	}
	if err := verdict.WriteFile(k.record(), append(data, '\n')); err != nil {
		return err
	}
	return verdict.WriteFile(k.mapFile, fmt.Appendf(nil, "%s %d\n", Key, s.CanaryBP))
}

// Read gives the split as the proxy applies it now; where the proxy holds
// something else (it was restarted, somebody played with its socket) it is set
// right first. An error means that nobody knows what the proxy does.
func (k *Keeper) Read(ctx context.Context) (Split, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.settle(ctx); err != nil {
		return Split{}, err
	}
	up, err := k.proxy.CanaryUp(ctx)
	if err != nil {
		return Split{}, err
	}
	return k.state.Split(k.now(), up), nil
}

// Change asks for another split. After an error that is none of this
// package's the proxy may or may not follow: read again.
func (k *Keeper) Change(ctx context.Context, want Split) (Split, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	up, err := k.proxy.CanaryUp(ctx)
	if err != nil && want.CanaryBP > 0 {
		return Split{}, err
	}
	now := k.now()
	next, err := k.state.Change(want, now)
	if err != nil {
		return k.state.Split(now, up), err
	}
	if next.CanaryBP > k.state.At(now).CanaryBP && !up {
		return k.state.Split(now, up), ErrCanaryDown
	}
	if err := k.persist(next); err != nil {
		return Split{}, err
	}
	k.state = next
	if err := k.apply(ctx); err != nil {
		return Split{}, err
	}
	return k.state.Split(k.now(), up), nil
}

// settle lets a lease run out and makes the proxy follow.
func (k *Keeper) settle(ctx context.Context) error {
	if next := k.state.At(k.now()); next != k.state {
		k.logf("the lease of %q ran out: the share goes from %d to 0 basis points", k.state.Owner, k.state.CanaryBP)
		if err := k.persist(next); err != nil {
			return err
		}
		k.state = next
	}
	return k.apply(ctx)
}

// apply makes the proxy's map hold the share and proves it by reading back.
func (k *Keeper) apply(ctx context.Context) error {
	want := strconv.Itoa(k.state.CanaryBP)
	entries, err := k.proxy.Map(ctx)
	if err != nil {
		return err
	}
	if entries[Key] == want {
		return nil
	}
	if _, there := entries[Key]; !there {
		return fmt.Errorf("the proxy's map %s has no entry %s: it was started before the router wrote the file; reload the proxy", k.mapFile, Key)
	}
	if err := k.proxy.SetMap(ctx, Key, want); err != nil {
		return err
	}
	entries, err = k.proxy.Map(ctx)
	if err != nil {
		return err
	}
	if got := entries[Key]; got != want {
		return fmt.Errorf("the proxy holds %s %q after it was set to %s: check its log and the map %s", Key, got, want, k.mapFile)
	}
	k.logf("share %s basis points, owner %q, revision %d", want, k.state.Owner, k.state.Revision)
	return nil
}

// Run lets leases run out and sets a restarted proxy right, every interval,
// until ctx ends. The split stays as it is: it belongs to its owner, not to
// the life of this process.
func (k *Keeper) Run(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var said string
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := k.once(ctx, interval)
		if err == nil {
			said = ""
			continue
		}
		if text := strings.TrimSpace(err.Error()); text != said && ctx.Err() == nil {
			k.logf("cannot set the proxy right: %s", text)
			said = text
		}
	}
}

func (k *Keeper) once(ctx context.Context, interval time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, max(interval, time.Second))
	defer cancel()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.settle(ctx)
}
