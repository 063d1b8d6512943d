package dataset_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/outside/objectstore"
	"github.com/penstock-ml/penstock/internal/verdict"
)

var labels = []string{"Mass", "Hernia"}

func config() dataset.Config {
	return dataset.Config{
		Bucket: "xray", Raw: "raw/", Settle: time.Second, Table: "labels.csv",
		Columns:        dataset.Columns{File: "file", Labels: "labels", Group: "patient"},
		LabelSeparator: "|", NoFinding: "No Finding",
		Slices:    map[string]dataset.Slice{"sex": {Column: "sex"}},
		Splits:    dataset.Splits{Train: 0.5, Val: 0.2, Test: 0.2, FinalEval: 0.1, Seed: 1},
		Image:     imaging.Spec{Width: 8, Height: 8, Channels: 1, Filter: "bilinear", Decoder: "go"},
		Normalise: dataset.Normalise{Scale: 1.0 / 255, Mean: []float64{0.5}, Std: []float64{0.25}},
	}
}

func picture(t testing.TB, n int) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 12, 10))
	for i := range img.Pix {
		img.Pix[i] = uint8(i*n + n>>8 + i)
	}
	img.SetGray(0, 0, color.Gray{Y: uint8(n)})
	img.SetGray(1, 0, color.Gray{Y: uint8(n >> 8)})
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func hugePNG() []byte {
	header := binary.BigEndian.AppendUint32([]byte("IHDR"), 40_000)
	header = binary.BigEndian.AppendUint32(header, 40_000)
	header = append(header, 8, 0, 0, 0, 0)
	data := binary.BigEndian.AppendUint32([]byte("\x89PNG\r\n\x1a\n"), 13)
	data = append(data, header...)
	return binary.BigEndian.AppendUint32(data, crc32.ChecksumIEEE(header))
}

type upload struct {
	folder string
	table  []string
	files  map[string][]byte
}

func newUpload(folder string) *upload {
	return &upload{folder, []string{"file,patient,labels,sex"}, map[string][]byte{}}
}

func (u *upload) add(file, patient, labels string, data []byte) {
	u.table = append(u.table, fmt.Sprintf("%s,%s,%s,F", file, patient, labels))
	if data != nil {
		u.files[file] = data
	}
}

func (u *upload) patients(t testing.TB, first, last int) *upload {
	t.Helper()
	kinds := []string{"No Finding", "Mass", "No Finding", "Mass|Hernia", "No Finding"}
	for p := first; p <= last; p++ {
		for i := range 2 {
			n := 2*p + i
			u.add(fmt.Sprintf("%04d.png", n), fmt.Sprintf("p%d", p), kinds[n%len(kinds)], picture(t, n))
		}
	}
	return u
}

func (u *upload) send(t testing.TB, b *objectstore.Bucket) dataset.Batch {
	t.Helper()
	prefix := "raw/" + u.folder + "/"
	if u.table != nil {
		u.files["labels.csv"] = []byte(strings.Join(u.table, "\n") + "\n")
	}
	for name, data := range u.files {
		if err := b.UploadBytes(t.Context(), prefix+name, data); err != nil {
			t.Fatal(err)
		}
	}
	listed, err := b.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	batch := dataset.Batch{Key: "key-of-" + u.folder, Prefix: prefix}
	for _, o := range listed {
		batch.Objects = append(batch.Objects, dataset.Object{Key: o.Key, ETag: o.ETag, Size: o.Size})
	}
	return batch
}

func request(b dataset.Batch, parent string) dataset.Request {
	return dataset.Request{Config: config(), Labels: labels, Parent: parent, Batch: b, CreatedBy: "run", Limits: imaging.DefaultLimits}
}

func grow(t testing.TB, store dataset.Store, r dataset.Request) dataset.Growth {
	t.Helper()
	g, err := dataset.Grow(t.Context(), store, r)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func load(t testing.TB, store dataset.Reader, digest string) (dataset.Dataset, []dataset.Row) {
	t.Helper()
	d, rows, err := dataset.Load(t.Context(), store, digest)
	if err != nil {
		t.Fatal(err)
	}
	return d, rows
}

func fails(t *testing.T, err error, code string, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", code)
	}
	if got := verdict.FromError(err).Reason.Code; got != code {
		t.Errorf("reason code %q, want %q: %v", got, code, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func bucket(t testing.TB, s3 *servertest.S3) *objectstore.Bucket {
	t.Helper()
	b, err := objectstore.Open(objectstore.Credentials{
		Endpoint: s3.Endpoint, Region: servertest.Region, AccessKey: s3.AccessKey, SecretKey: s3.SecretKey,
	}, servertest.Bucket(t, s3))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
