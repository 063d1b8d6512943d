// Package intake turns what people upload into batches, each handed on exactly
// once.
//
// A batch is a folder below the raw prefix. It is complete when a _SUCCESS
// marker is newer than all its other files, or when nothing in it changed for
// the settle time by the store's own clock. Its key is the fingerprint of a
// sorted manifest of (key, ETag, size): there is no snapshot of several
// objects, so the manifest is what a batch is. The marker is no part of it.
//
// A folder that changes after it was handed on has another fingerprint and so
// becomes a batch of its own, once it has settled again. It holds all that is
// in the folder then; the data set recognises by content what it has already
// and takes only the rest. Nothing is handed on twice under one key, and no
// upload is ever ignored.
//
// The listing is the only truth; events of the store, which can be lost, are
// never needed. A claim is a conditional PUT with a lease, the dispatcher is
// asked for the key before anything is handed on, and a claim whose owner died
// is taken over when the lease is over: a crash at any point loses nothing and
// repeats nothing.
//
// Refused: batches split over folders, and files that lie in no folder.
package intake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Marker is the name of the empty file that ends an upload.
const Marker = "_SUCCESS"

// Object is one object below the raw prefix. Size is in bytes; Modified is by
// the store's clock and not kept in records.
type Object struct {
	Key      string    `json:"key"`
	ETag     string    `json:"etag"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"-"`
}

// Batch is a complete batch: its key, its folder and its objects, sorted by
// key, without the marker.
type Batch struct {
	Key     string   `json:"key"`
	Prefix  string   `json:"prefix"`
	Objects []Object `json:"objects"`
}

// ErrUncertain is a dispatcher's word for: the other side may have taken the
// batch, and cannot tell yet. The claim then stands until its lease ends, so
// that nobody asks too early and hands it on again.
var ErrUncertain = errors.New("it is not known yet whether the other side took the batch")

// Dispatcher hands batches on. Dispatched tells whether the other side knows
// the key already; Dispatch of a known key must change nothing there.
type Dispatcher interface {
	Dispatched(ctx context.Context, key string) (bool, error)
	Dispatch(ctx context.Context, b Batch) error
}

// Lister lists the objects below a prefix and knows the store's clock.
type Lister interface {
	List(ctx context.Context, prefix string) ([]Object, error)
	Now() time.Time
}

// Fingerprint is the batch key of objects: the SHA-256 of their sorted
// manifest, in hex. The order of the listing and the marker do not matter.
func Fingerprint(objects []Object) string {
	h := sha256.New()
	for _, o := range content(objects) {
		fmt.Fprintf(h, "%q %q %d\n", o.Key, o.ETag, o.Size)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// content is a sorted copy without the marker.
func content(objects []Object) []Object {
	var kept []Object
	for _, o := range objects {
		if !isMarker(o) {
			kept = append(kept, o)
		}
	}
	slices.SortFunc(kept, func(a, b Object) int { return strings.Compare(a.Key, b.Key) })
	return kept
}

func isMarker(o Object) bool { return strings.HasSuffix(o.Key, "/"+Marker) }

// Folders sorts a listing into batches' folders: <raw><name>/. Files that lie
// in no folder come back as stray.
func Folders(raw string, objects []Object) (folders map[string][]Object, stray []Object) {
	folders = map[string][]Object{}
	for _, o := range objects {
		name, _, inside := strings.Cut(strings.TrimPrefix(o.Key, raw), "/")
		switch {
		case strings.HasSuffix(o.Key, "/") && o.Size == 0:
			// what some tools leave for an empty folder
		case !inside || name == "":
			stray = append(stray, o)
		default:
			folders[raw+name+"/"] = append(folders[raw+name+"/"], o)
		}
	}
	return folders, stray
}

// Settle tells how long a folder has yet to wait before it is complete; zero
// or less means that it is. now is by the store's clock.
func Settle(prefix string, objects []Object, now time.Time, settle time.Duration) time.Duration {
	var newest, marked time.Time
	for _, o := range objects {
		if o.Key == prefix+Marker {
			marked = o.Modified
			continue
		}
		if o.Modified.After(newest) {
			newest = o.Modified
		}
	}
	if !marked.IsZero() && !newest.After(marked) {
		return 0
	}
	return newest.Add(settle).Sub(now)
}
