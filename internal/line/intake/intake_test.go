package intake_test

import (
	"slices"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/line/intake"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func object(key string, seconds int) intake.Object {
	return intake.Object{Key: key, ETag: "etag-" + key, Size: 3, Modified: noon.Add(time.Duration(seconds) * time.Second)}
}

func TestFingerprintIsOfContentAlone(t *testing.T) {
	objects := []intake.Object{object("raw/a/1.png", 0), object("raw/a/2.png", 1), object("raw/a/labels.csv", 2)}
	want := intake.Fingerprint(objects)
	mixed := append(slices.Clone(objects), object("raw/a/_SUCCESS", 9))
	slices.Reverse(mixed)
	for i := range mixed {
		mixed[i].Modified = noon
	}
	if got := intake.Fingerprint(mixed); got != want || len(want) != 64 {
		t.Errorf("order, times or the marker matter: %s, want %s", got, want)
	}
	for name, change := range map[string]func([]intake.Object) []intake.Object{
		"an ETag": func(o []intake.Object) []intake.Object { o[1].ETag = "x"; return o },
		"a size":  func(o []intake.Object) []intake.Object { o[1].Size++; return o },
		"a key":   func(o []intake.Object) []intake.Object { o[1].Key += "x"; return o },
		"a file more": func(o []intake.Object) []intake.Object {
			return append(o, object("raw/a/3.png", 3))
		},
		"a file less":                   func(o []intake.Object) []intake.Object { return o[1:] },
		"the border of a key":           func(o []intake.Object) []intake.Object { o[1].Key += `" "`; return o },
		"a marker that is no marker":    func(o []intake.Object) []intake.Object { return append(o, object("raw/a/my_SUCCESS", 1)) },
		"an ETag moved into the key":    func(o []intake.Object) []intake.Object { o[1].Key, o[1].ETag = o[1].Key+o[1].ETag, ""; return o },
		"two files with swapped ETags":  func(o []intake.Object) []intake.Object { o[0].ETag, o[1].ETag = o[1].ETag, o[0].ETag; return o },
		"the same files, another batch": func(o []intake.Object) []intake.Object { o[0].Key = "raw/b/1.png"; return o },
	} {
		if intake.Fingerprint(change(slices.Clone(objects))) == want {
			t.Errorf("%s does not matter", name)
		}
	}
}

func TestABatchSettlesByMarkerOrSilence(t *testing.T) {
	const settle = 30 * time.Second
	p := "raw/a/"
	files := []intake.Object{object(p+"1.png", 0), object(p+"2.png", 10)}
	marked := append(slices.Clone(files), object(p+"_SUCCESS", 10))
	late := append(slices.Clone(marked), object(p+"3.png", 11))
	nested := append(slices.Clone(files), object(p+"sub/_SUCCESS", 20))
	for _, c := range []struct {
		name    string
		objects []intake.Object
		now     int // seconds after noon
		settled bool
	}{
		{"young", files, 11, false},
		{"just before", files, 39, false},
		{"silent", files, 40, true},
		{"marked", marked, 10, true},
		{"changed after the marker", late, 12, false},
		{"changed after the marker, then silent", late, 41, true},
		{"a marker further down is none", nested, 21, false},
		{"modified in the future", []intake.Object{object(p+"1.png", 100)}, 50, false},
	} {
		wait := intake.Settle(p, c.objects, noon.Add(time.Duration(c.now)*time.Second), settle)
		if (wait <= 0) != c.settled {
			t.Errorf("%s: waits %s", c.name, wait)
		}
	}
}

func TestFoldersTellBatchesFromStrayFiles(t *testing.T) {
	folders, stray := intake.Folders("raw/", []intake.Object{
		object("raw/a/1.png", 0), object("raw/a/deep/2.png", 0), object("raw/b/1.png", 0), object("raw/loose.png", 0),
		{Key: "raw/empty/"},
		object("raw//x", 0),
	})
	if len(folders) != 2 || len(folders["raw/a/"]) != 2 || len(folders["raw/b/"]) != 1 {
		t.Errorf("folders %v", folders)
	}
	if len(stray) != 2 || stray[0].Key != "raw/loose.png" {
		t.Errorf("stray %v", stray)
	}
}
