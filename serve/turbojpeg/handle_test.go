//go:build turbojpeg

package turbojpeg

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"testing"
)

// without gives the file less its segments of one marker.
func without(t *testing.T, data []byte, marker byte) []byte {
	t.Helper()
	out := slices.Clone(data[:2])
	for rest := data[2:]; ; {
		end := 2 + int(rest[2])<<8 + int(rest[3])
		if rest[1] == markerSOS {
			if len(out)+len(rest) == len(data) {
				t.Fatalf("the file has no segment %#x", marker)
			}
			return append(out, rest...)
		}
		if rest[1] != marker {
			out = append(out, rest[:end]...)
		}
		rest = rest[end:]
	}
}

// asApart compares what decodeGrey makes of the bytes with what a handle makes
// that has seen no other picture.
func asApart(t *testing.T, name string, data []byte) (decoded bool) {
	t.Helper()
	got, err := decodeGrey(data)
	want, errApart := decodeApart(data)
	switch {
	case (err == nil) != (errApart == nil):
		t.Errorf("%s: %v, from a handle of its own %v", name, err, errApart)
	case err != nil:
		if err.Error() != errApart.Error() {
			t.Errorf("%s: %v, from a handle of its own %v", name, err, errApart)
		}
	case got.Rect != want.Rect || !bytes.Equal(got.Pix, want.Pix):
		t.Errorf("%s: not the picture that a handle of its own gives", name)
	}
	return err == nil
}

// TestNothingOfAPictureIsLeftForTheNext: what a handle keeps are tables, and a
// file without any would be decoded by those of the one before.
func TestNothingOfAPictureIsLeftForTheNext(t *testing.T) {
	files := encoded(t)
	large, small := files["noise-200x150-q5-baseline.jpg"], files["noise-17x31-q92-baseline.jpg"]
	damaged := slices.Clone(large)
	for i := len(damaged) / 2; i < len(damaged)-2; i += 7 {
		damaged[i] ^= 0x55
	}
	turns := []struct {
		name    string
		data    []byte
		decodes bool
	}{
		{"large", large, true},
		{"small", small, true},
		{"damaged", damaged, false},
		{"small after damaged", small, true},
		{"large", large, true},
		{"without quantisation tables", without(t, small, markerDQT), false},
		{"large", large, true},
		{"without Huffman tables", without(t, small, markerDHT), true}, // libjpeg takes those of the standard, which the file has
		{"large", large, true},
		{"cut off", small[:len(small)/2], false},
		{"progressive", files["noise-200x150-q25-progressive.jpg"], true},
		{"small after progressive", small, true},
	}
	for _, turn := range turns {
		if decoded := asApart(t, turn.name, turn.data); decoded != turn.decodes {
			t.Errorf("%s: decoded: %v", turn.name, decoded)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		asApart(t, name, files[name])
	}
}

func TestAHandleThatReportedAnErrorIsNotUsedAgain(t *testing.T) {
	whole := encoded(t)["noise-17x31-q75-baseline.jpg"]
	for len(spare) > 0 {
		handle := <-spare
		defer give(handle)
	}
	if _, err := decodeGrey(whole); err != nil || len(spare) != 1 {
		t.Fatalf("%v; %d handles are kept", err, len(spare))
	}
	if _, err := decodeGrey(whole[:len(whole)/2]); err == nil || len(spare) != 0 {
		t.Errorf("after an error (%v) %d handles are kept", err, len(spare))
	}
}

func TestHandlesThatAreKeptAreBounded(t *testing.T) {
	data := encoded(t)["noise-200x150-q75-baseline.jpg"]
	var group sync.WaitGroup
	for range 4 * cap(spare) {
		group.Go(func() {
			handle, err := take()
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := pixels(handle, data, 200, 150); err != nil {
				t.Error(err)
			}
			give(handle)
		})
	}
	group.Wait()
	handle, err := take()
	if err != nil {
		t.Fatal(err)
	}
	for range cap(spare) {
		more, err := open()
		if err != nil {
			t.Fatal(err)
		}
		give(more)
	}
	give(handle)
	if len(spare) != cap(spare) {
		t.Errorf("%d handles are kept, there is room for %d", len(spare), cap(spare))
	}
}

func TestSequentialFilesMeetHandlesThatWereUsedBefore(t *testing.T) {
	for name, data := range encoded(t) {
		f, whole := wholeFrame(data)
		if sequential := bytes.Contains([]byte(name), []byte("baseline")); whole != sequential {
			t.Errorf("%s: all in its header: %v", name, whole)
			continue
		}
		if !whole {
			continue
		}
		img, err := decodeApart(data)
		if err != nil {
			t.Fatal(err)
		}
		if size := img.Rect.Size(); size.X != f.width || size.Y != f.height {
			t.Errorf("%s: %d x %d, want %v", name, f.width, f.height, size)
		}
	}
}

// TestWhatIsUnusualIsDecodedApart: a frame is whole only where libjpeg cannot
// read it otherwise.
func TestWhatIsUnusualIsDecodedApart(t *testing.T) {
	data := encoded(t)["noise-17x31-q75-baseline.jpg"]
	changed := func(at int, to ...byte) []byte { return slices.Replace(slices.Clone(data), at, at+len(to), to...) }
	frameAt := bytes.Index(data, []byte{0xff, markerSOF0})
	scanAt := bytes.Index(data, []byte{0xff, markerSOS})
	coderAt := bytes.Index(data, []byte{0xff, markerDHT})
	quantiserAt := bytes.Index(data, []byte{0xff, markerDQT})
	for name, data := range map[string][]byte{
		"no start":                   data[2:],
		"a byte between segments":    slices.Insert(slices.Clone(data), frameAt, 0),
		"a fill byte":                slices.Insert(slices.Clone(data), frameAt, 0xff),
		"two frames":                 slices.Insert(slices.Clone(data), frameAt, data[frameAt:frameAt+13]...),
		"no frame":                   slices.Delete(slices.Clone(data), frameAt, frameAt+13),
		"12 bits":                    changed(frameAt+4, 12),
		"no lines":                   changed(frameAt+5, 0, 0),
		"no columns":                 changed(frameAt+7, 0, 0),
		"two components":             changed(frameAt+9, 2),
		"another quantisation table": changed(frameAt+12, 1),
		"quantisation table 4":       changed(frameAt+12, 4),
		"a scan of two components":   changed(scanAt+4, 2),
		"a scan of another one":      changed(scanAt+5, 9),
		"another Huffman table":      changed(scanAt+6, 0x10),
		"Huffman table 4":            changed(scanAt+6, 0x04),
		"Huffman table of no class":  changed(coderAt+4, 0x20),
		"too short Huffman table":    changed(coderAt+5, 255, 255),
		"too short quantiser":        changed(quantiserAt+4, 0x10),
		"a segment of length 1":      changed(frameAt+2, 0, 1),
		"a segment beyond the end":   changed(frameAt+2, 255, 255),
		"a lone marker":              changed(frameAt+1, 0x01),
		"cut off in the header":      data[:scanAt+5],
	} {
		if _, whole := wholeFrame(data); whole {
			t.Errorf("%s: the frame counts as whole", name)
		}
		asApart(t, name, data)
	}
}

// TestAnErrorIsThatOfItsPicture: libjpeg-turbo keeps what went wrong by thread,
// and goroutines change theirs between two calls of C.
func TestAnErrorIsThatOfItsPicture(t *testing.T) {
	whole := encoded(t)["noise-17x31-q75-baseline.jpg"]
	broken := [][]byte{whole[:len(whole)/2], without(t, whole, markerDQT), []byte("no JPEG"), {0xff, 0xd8}}
	texts := map[string]bool{}
	var want []string
	for _, data := range broken {
		_, err := decodeGrey(data)
		if err == nil {
			t.Fatal("a broken picture was decoded")
		}
		want, texts[err.Error()] = append(want, err.Error()), true
	}
	if len(texts) < 2 {
		t.Fatalf("all of them fail for the same reason: %q", want)
	}
	var group sync.WaitGroup
	for i := range 32 {
		group.Go(func() {
			for round := range 500 {
				n := (i + round) % len(broken)
				if _, err := decodeGrey(broken[n]); err == nil || err.Error() != want[n] {
					t.Errorf("picture %d: %v, want %s", n, err, want[n])
					return
				}
			}
		})
	}
	group.Wait()
}
