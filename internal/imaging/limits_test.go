package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/jpeg"
	"runtime"
	"strings"
	"testing"
)

func chunk(kind string, body []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	out = append(append(out, kind...), body...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[4:]))
}

// announcedPNG is a PNG that announces w x h pixels and has idat for data.
func announcedPNG(w, h uint32, depth, colour, interlaced byte, idat []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, w)
	head = binary.BigEndian.AppendUint32(head, h)
	head = append(head, depth, colour, 0, 0, interlaced)
	out := append(bytes.Clone(pngMagic), chunk("IHDR", head)...)
	if idat != nil {
		out = append(out, chunk("IDAT", idat)...)
	}
	return append(out, chunk("IEND", nil)...)
}

// announcedJPEG is a real JPEG whose header announces another size.
func announcedJPEG(t testing.TB, w, h uint16, progressive bool) []byte {
	t.Helper()
	name := "grey-q75.jpg"
	if progressive {
		name = "grey-q75-progressive.jpg"
	}
	data := bytes.Clone(files(t)[name])
	frame := bytes.Index(data, []byte{0xff, markerSOF0})
	if progressive {
		frame = bytes.Index(data, []byte{0xff, markerSOF2})
	}
	if frame < 0 {
		t.Fatal("no frame header")
	}
	binary.BigEndian.PutUint16(data[frame+5:], h)
	binary.BigEndian.PutUint16(data[frame+7:], w)
	return data
}

// repeatedScan is a sound progressive JPEG with its last scan many times over.
func repeatedScan(t testing.TB, times int) []byte {
	t.Helper()
	data := files(t)["grey-q75-progressive.jpg"]
	last := bytes.LastIndex(data, []byte{0xff, markerSOS})
	end := bytes.LastIndex(data, []byte{0xff, markerEOI})
	if last < 0 || end < last {
		t.Fatal("no scan")
	}
	out := append(bytes.Clone(data[:end]), bytes.Repeat(data[last:end], times)...)
	return append(out, 0xff, markerEOI)
}

func TestLyingAndOversizedFilesAreRefusedBeforeTheyCostMemory(t *testing.T) {
	sound := files(t)
	padded := func(data []byte, to int) []byte { return append(bytes.Clone(data), make([]byte, to-len(data))...) }
	longChunk := bytes.Clone(read(t, "grey.png"))
	at := bytes.Index(longChunk, []byte("IDAT"))
	binary.BigEndian.PutUint32(longChunk[at-4:], 0x7fffffff)
	cases := []struct {
		name string
		data []byte
		code Code
		text string
	}{
		{"PNG of 40,000 x 40,000", announcedPNG(40000, 40000, 8, 0, 0, nil), TooLarge, "40000 x 40000 pixels"},
		{"PNG of 2^31-1 x 2^31-1", announcedPNG(1<<31-1, 1<<31-1, 8, 0, 0, nil), Unsupported, ""},
		{"PNG of no width", announcedPNG(0, 10, 8, 0, 0, nil), Damaged, ""},
		{"PNG of 48 million pixels without any", announcedPNG(8000, 6000, 16, 6, 0, nil), Truncated, "cannot hold"},
		{"PNG of 48 million pixels in 300 bytes", announcedPNG(8000, 6000, 8, 0, 0, make([]byte, 300)), Truncated, "cannot hold"},
		{"interlaced PNG of 16 bits", announcedPNG(7000, 7000, 16, 6, 1, make([]byte, 1<<20)), TooLarge, "MiB"},
		{"PNG of 101 x 1", announcedPNG(101, 1, 8, 0, 0, nil), TooLarge, "100 to 1"},
		{"PNG of 1 x 4,000,000", announcedPNG(1, 4000000, 8, 0, 0, nil), TooLarge, "100 to 1"},
		{"chunk of 2 GiB", longChunk, Truncated, "truncated"},
		{"JPEG of 65,535 x 65,535", announcedJPEG(t, 65535, 65535, false), TooLarge, "65535 x 65535 pixels"},
		{"JPEG of 60,000 x 500", announcedJPEG(t, 60000, 500, false), TooLarge, "100 to 1"},
		{"JPEG of 7,000 x 7,000 in few bytes", announcedJPEG(t, 7000, 7000, false), Truncated, "cannot hold"},
		{"progressive JPEG of 7,000 x 7,000 in few bytes", announcedJPEG(t, 7000, 7000, true), Truncated, "cannot hold"},
		{"JPEG of no height", announcedJPEG(t, 100, 0, false), Damaged, ""},
		{"70 scans", repeatedScan(t, 70), TooLarge, "scans"},
		{"too many bytes", padded(sound["grey-q75.jpg"], 32<<20+1), TooLarge, "bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var err error
			used := allocated(func() { _, _, err = Decode(c.data, DefaultLimits) })
			var refused *Error
			if !errors.As(err, &refused) {
				t.Fatalf("got error %v, want *Error", err)
			}
			if refused.Code != c.code || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %s %q, want code %s and %q in the text", refused.Code, err, c.code, c.text)
			}
			if used > 256<<10 {
				t.Errorf("%d KiB were allocated on the way to the refusal", used>>10)
			}
		})
	}
}

// allocated is how many bytes do allocates in all, freed or not.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestDecodingStaysWithinTheMemoryThatTheHeaderTells holds the estimate, by
// which the limit is kept, to what the decoders really allocate.
func TestDecodingStaysWithinTheMemoryThatTheHeaderTells(t *testing.T) {
	all := files(t)
	// A few hundred kilobytes that say they are 9 million pixels, and are padded to be
	// believed: the bombs that the header cannot tell from a picture.
	for _, progressive := range []bool{false, true} {
		data := announcedJPEG(t, 3000, 3000, progressive)
		all[fmt.Sprintf("bomb progressive %v", progressive)] = append(data, make([]byte, 100<<10)...)
	}
	all["bomb png"] = announcedPNG(3000, 3000, 16, 6, 0, make([]byte, 100<<10))
	all["bomb interlaced"] = announcedPNG(3000, 3000, 16, 6, 1, make([]byte, 100<<10))
	all["large.jpg"] = encodeJPEG(t, image.NewGray(image.Rect(0, 0, 2000, 1500)))
	all["large-colour.jpg"] = encodeJPEG(t, image.NewRGBA(image.Rect(0, 0, 2000, 1500)))
	all["large.png"] = encodePNG(t, image.NewNRGBA64(image.Rect(0, 0, 1000, 1500)))
	const fixed = 192 << 10 // tables, buffers and rows, whatever the size
	for name, data := range all {
		format, err := sniff(data)
		if err != nil {
			t.Fatal(name, err)
		}
		head, err := examine(data, format, DefaultLimits)
		if err != nil {
			t.Fatal(name, err)
		}
		used := allocated(func() { _, _, err = Decode(data, DefaultLimits) })
		if bound := uint64(head.memory) + fixed; used > bound {
			t.Errorf("%s: %d bytes were allocated, the header tells %d (%v)", name, used, head.memory, err)
		}
		tight := DefaultLimits
		tight.Memory = head.memory - 1
		var refused *Error
		if _, _, err = Decode(data, tight); !errors.As(err, &refused) || refused.Code != TooLarge {
			t.Errorf("%s: one byte less gives %v", name, err)
		}
	}
}

func TestEveryPrefixOfAFileIsRefusedAsTruncatedOrIsWhole(t *testing.T) {
	for name, data := range files(t) {
		if len(data) > 4000 {
			continue
		}
		for n := range len(data) {
			_, _, err := Decode(data[:n], DefaultLimits)
			var refused *Error
			switch {
			case err == nil && n < len(data)-chunkOverhead: // the end mark alone may be missed
				t.Errorf("%s: %d of %d bytes are taken for the whole", name, n, len(data))
			case err != nil && (!errors.As(err, &refused) || refused.Code != Truncated && refused.Code != Empty):
				t.Errorf("%s: %d of %d bytes: %v, want truncated", name, n, len(data), err)
			}
		}
	}
}

func TestSequentialJPEGWithMoreScansThanComponentsIsRefused(t *testing.T) {
	data := files(t)["grey-q75.jpg"]
	scan := bytes.Index(data, []byte{0xff, markerSOS})
	body := data[scan : len(data)-2]
	again := append(append(bytes.Clone(data[:len(data)-2]), body...), 0xff, markerEOI)
	_, _, err := Decode(again, DefaultLimits)
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != TooLarge {
		t.Errorf("got %v", err)
	}
}

func TestALargePictureMayHaveFewerScansThanASmallOne(t *testing.T) {
	data := repeatedScan(t, 20) // beside those that it has
	if _, err := examine(data, JPEG, DefaultLimits); err != nil {
		t.Fatal(err)
	}
	tight := DefaultLimits
	tight.Pixels = 61 * 47
	_, err := examine(data, JPEG, tight)
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != TooLarge || !strings.Contains(err.Error(), "61 x 47 pixels in 26 scans, at most 16") {
		t.Errorf("got %v", err)
	}
	if _, _, err := Decode(files(t)["grey-q75-progressive.jpg"], tight); err != nil {
		t.Error(err)
	}
}

func TestOrientationOfEveryImageTypeIsUndone(t *testing.T) {
	// Where the pixel of the upright picture at x, y stands in a file of w x h.
	places := [9]func(x, y, w, h int) (int, int){
		1: func(x, y, _, _ int) (int, int) { return x, y },
		2: func(x, y, w, _ int) (int, int) { return w - 1 - x, y },
		3: func(x, y, w, h int) (int, int) { return w - 1 - x, h - 1 - y },
		4: func(x, y, _, h int) (int, int) { return x, h - 1 - y },
		5: func(x, y, _, _ int) (int, int) { return y, x },
		6: func(x, y, _, h int) (int, int) { return y, h - 1 - x },
		7: func(x, y, w, h int) (int, int) { return w - 1 - y, h - 1 - x },
		8: func(x, y, w, _ int) (int, int) { return w - 1 - y, x },
	}
	for name, img := range typesOf(image.Rect(0, 0, 13, 7)) {
		for o := 1; o <= 8; o++ {
			up := upright(img, o)
			if b := up.Bounds(); o >= 5 && (b.Dx() != 7 || b.Dy() != 13) {
				t.Fatalf("%s, orientation %d: %v", name, o, b)
			}
			for y := range up.Bounds().Dy() {
				for x := range up.Bounds().Dx() {
					u, v := places[o](x, y, 13, 7)
					if up.At(x, y) != img.At(u, v) {
						t.Fatalf("%s, orientation %d: %d, %d is %v, want %v", name, o, x, y, up.At(x, y), img.At(u, v))
					}
				}
			}
		}
	}
}

func TestBrokenEXIFIsTakenForUpright(t *testing.T) {
	sound := []byte("II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00")
	if orientation(sound) != 6 {
		t.Fatal("the sound one is not read")
	}
	for n := range len(sound) {
		if got := orientation(sound[:n]); got != 1 {
			t.Errorf("%d bytes: orientation %d", n, got)
		}
	}
	for at, v := range map[int]byte{0: 'X', 4: 200, 7: 255, 8: 0, 10: 0x13, 12: 4, 14: 2, 18: 9} {
		spoiled := bytes.Clone(sound)
		spoiled[at] = v
		if got := orientation(spoiled); got != 1 {
			t.Errorf("byte %d: orientation %d", at, got)
		}
	}
}

func TestTheGivenDecoderGetsGreyJPEGsOnly(t *testing.T) {
	all := files(t)
	calls := 0
	d := Decoder{Limits: DefaultLimits, GreyJPEG: func(data []byte) (*image.Gray, error) {
		calls++
		img, err := jpeg.Decode(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return img.(*image.Gray), nil
	}}
	for _, name := range []string{"colour.jpg", "cmyk.jpg", "grey16.png"} {
		if _, _, err := d.Decode(all[name]); err != nil || calls != 0 {
			t.Fatalf("%s: %d calls, %v", name, calls, err)
		}
	}
	img, _, err := d.Decode(all["orientation-6.jpg"])
	if err != nil || calls != 1 || img.Bounds().Dx() != 14 {
		t.Errorf("%d calls, %v", calls, err)
	}
	d.GreyJPEG = func([]byte) (*image.Gray, error) { return image.NewGray(image.Rect(0, 0, 1, 1)), nil }
	if _, _, err := d.Decode(all["orientation-6.jpg"]); err == nil || !strings.Contains(err.Error(), "1 x 1") {
		t.Errorf("a picture of another size: %v", err)
	}
}

func TestTheGivenDecoderGetsNoUnfinishedProgressiveJPEG(t *testing.T) {
	// libjpeg smooths what is not refined yet; the standard library does not.
	whole := files(t)["grey-q75-progressive.jpg"]
	calls := 0
	d := Decoder{Limits: DefaultLimits, GreyJPEG: func([]byte) (*image.Gray, error) {
		calls++
		return nil, errors.New("not by me")
	}}
	want, _, err := d.Decode(whole)
	if err != nil || calls != 1 {
		t.Fatalf("what the decoder refuses is left to the standard library: %d calls, %v", calls, err)
	}
	last := bytes.LastIndex(whole, []byte{0xff, markerSOS})
	unfinished := append(bytes.Clone(whole[:last]), 0xff, markerEOI)
	got, _, err := d.Decode(unfinished)
	if err != nil || calls != 1 || got.Bounds() != want.Bounds() {
		t.Errorf("%d calls, %v", calls, err)
	}
}
