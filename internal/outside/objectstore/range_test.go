package objectstore_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/servertest"
	"github.com/penstock-ml/penstock/internal/journal"
)

func readFrom(t *testing.T, s3 *servertest.S3) {
	b := fresh(t, s3)
	put(t, b, "models/x", "0123456789")
	for offset, want := range map[int64]string{0: "0123456789", 1: "123456789", 9: "9", 10: "", 50: ""} {
		r, size, err := b.ReaderFrom(t.Context(), "models/x", offset)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != want || size != 10 {
			t.Errorf("from %d: %q of %d (%v)", offset, got, size, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, offset := range []int64{0, 5} {
		if _, _, err := b.ReaderFrom(t.Context(), "models/y", offset); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("a missing object from %d: %v", offset, err)
		}
	}
}

func ignoredRangeIsFound(t *testing.T, s3 *servertest.S3) {
	whole := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		io.WriteString(w, "0123456789")
	}))
	defer whole.Close()
	c := credentials(s3)
	c.Endpoint = whole.URL
	if _, _, err := open(t, c, "bucket").ReaderFrom(t.Context(), "models/x", 5); err == nil || !strings.Contains(err.Error(), "Range") {
		t.Errorf("got %v", err)
	}
}
