package objectstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
)

// ReaderFrom opens an object for reading from an offset in bytes (a Range
// request, RFC 9110 section 14), and tells the size of the whole object. At or
// behind the object's end there is nothing to read, which is no error: the size
// says which it is. It answers journal.ErrNotFound. The caller closes the
// reader.
func (b *Bucket) ReaderFrom(ctx context.Context, key string, offset int64) (r io.ReadCloser, size int64, err error) {
	err = b.first(key, func(key string) error {
		r, size, err = b.readerFrom(ctx, key, offset)
		return err
	})
	return r, size, err
}

func (b *Bucket) readerFrom(ctx context.Context, key string, offset int64) (io.ReadCloser, int64, error) {
	var opts minio.GetObjectOptions
	if offset > 0 {
		if err := opts.SetRange(offset, 0); err != nil {
			return nil, 0, fmt.Errorf("read %s from byte %d: %w", b.place(key), offset, err)
		}
	}
	call, cancel := context.WithTimeout(ctx, transferTimeout)
	body, info, header, err := b.core.GetObject(call, b.name, key, opts)
	if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
		cancel()
		o, err := b.stat(ctx, key)
		return io.NopCloser(bytes.NewReader(nil)), o.Size, err
	}
	if err != nil {
		cancel()
		return nil, 0, b.explain(ctx, "read", key, err)
	}
	size := info.Size
	if offset > 0 {
		if size, err = rangeSize(header.Get("Content-Range"), offset); err != nil {
			body.Close()
			cancel()
			return nil, 0, fmt.Errorf("read %s from byte %d at %s: %w", b.place(key), offset, b.endpoint, err)
		}
	}
	return &reader{body, cancel}, size, nil
}

// rangeSize reads the whole size from "bytes 5-99/100", and wants the range to
// begin where it was asked for: a store or proxy that ignores ranges would have
// its answer glued to the wrong place.
func rangeSize(header string, offset int64) (int64, error) {
	text, total, _ := strings.Cut(strings.TrimPrefix(header, "bytes "), "/")
	first, _, _ := strings.Cut(text, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	size, sizeErr := strconv.ParseInt(total, 10, 64)
	if err != nil || sizeErr != nil || start != offset || size < offset {
		return 0, fmt.Errorf("it does not answer Range requests as RFC 9110 says (Content-Range %q): is something between?", header)
	}
	return size, nil
}
