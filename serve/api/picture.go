package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"strings"

	"github.com/penstock-ml/penstock/serve/buffers"
	"github.com/penstock-ml/penstock/serve/service"
)

// Fetcher brings the picture that a client names by its URL.
type Fetcher interface {
	Get(ctx context.Context, url string) ([]byte, error)
}

const (
	formOverhead = 64 << 10 // what a form may add to its one file, in bytes
	maxAddress   = 8 << 10  // of the JSON that holds a URL, in bytes
)

// loan is what a request borrowed.
type loan struct {
	pool     *buffers.Pool
	borrowed [][]byte
}

func (l *loan) get(n int) []byte {
	b := l.pool.Get(n)
	l.borrowed = append(l.borrowed, b)
	return b
}

// larger lends n bytes that begin as b does, and takes back b, which is what was
// lent last.
func (l *loan) larger(b []byte, n int) []byte {
	grown := l.pool.Get(n)
	copy(grown, b)
	l.borrowed[len(l.borrowed)-1] = grown
	l.pool.Put(b)
	return grown
}

func (l *loan) end() {
	for _, b := range l.borrowed {
		l.pool.Put(b)
	}
	l.borrowed = nil
}

// pictureOf reads the bytes of the image: the whole body, the one file of a
// form, or what the URL in a JSON body leads to. What they are is decided by
// the bytes, not by what the sender calls them.
func (s *Server) pictureOf(w http.ResponseWriter, r *http.Request, l *loan) ([]byte, error) {
	kind := r.Header.Get("Content-Type")
	media, params, err := mime.ParseMediaType(kind)
	if kind != "" && err != nil {
		return nil, service.Bad(service.BadInput, "the Content-Type cannot be understood")
	}
	switch {
	case media == "multipart/form-data":
		body := http.MaxBytesReader(w, r.Body, s.picture.Bytes+formOverhead)
		return onlyFile(multipart.NewReader(body, params["boundary"]), r.ContentLength, s.picture.Bytes, l)
	case media == "application/json":
		return s.fetch(r.Context(), http.MaxBytesReader(w, r.Body, maxAddress))
	case media == "", media == "application/octet-stream", strings.HasPrefix(media, "image/"),
		media == "application/x-www-form-urlencoded": // what curl --data-binary says
		return readAll(http.MaxBytesReader(w, r.Body, s.picture.Bytes), r.ContentLength, l)
	}
	return nil, service.Bad(service.Unsupported, "the Content-Type is none of a picture: send a PNG or JPEG as it is, or as the file of a multipart form")
}

// readAll reads into a borrowed buffer; hint is how much there may be, -1:
// nobody said.
func readAll(body io.Reader, hint int64, l *loan) ([]byte, error) {
	if hint < 0 {
		hint = 64 << 10
	}
	// What the sender says is believed up to a megabyte.
	buffer, have := l.get(int(min(hint, 1<<20))+1), 0
	for {
		n, err := body.Read(buffer[have:])
		have += n
		switch {
		case err == io.EOF:
			return buffer[:have], nil
		case err != nil:
			return nil, err
		case have == len(buffer):
			buffer = l.larger(buffer, 2*have)
		}
	}
}

func onlyFile(form *multipart.Reader, length, limit int64, l *loan) (file []byte, err error) {
	for {
		part, err := form.NextPart()
		if err == io.EOF {
			break
		}
		var tooLong *http.MaxBytesError
		if err != nil && !errors.As(err, &tooLong) && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, &service.Problem{Kind: service.BadInput, Text: "the form cannot be read", Err: err}
		}
		if err != nil {
			return nil, err
		}
		if part.FileName() == "" && part.FormName() != "file" {
			continue
		}
		if file != nil {
			return nil, service.Bad(service.BadInput, "the form holds more than one file: send one picture a request")
		}
		if file, err = readAll(http.MaxBytesReader(nil, part, limit), length, l); err != nil {
			return nil, err
		}
	}
	if file == nil {
		return nil, service.Bad(service.BadInput, "the form holds no file")
	}
	return file, nil
}

// fetch reads {"url": "..."} and brings what it leads to.
func (s *Server) fetch(ctx context.Context, body io.Reader) ([]byte, error) {
	if s.o.Fetcher == nil {
		return nil, service.Bad(service.Unsupported, "this server does not fetch pictures, which is what application/json asks for: send the picture itself, as image/png or image/jpeg")
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	url, err := urlOf(text)
	if err != nil {
		return nil, service.Bad(service.BadInput, `the body is not {"url": "..."}: %v`, err)
	}
	return s.o.Fetcher.Get(ctx, url)
}

// urlOf wants the one field, once, and nothing else.
func urlOf(text []byte) (url string, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	var tokens [5]json.Token
	for i := range tokens {
		if tokens[i], err = d.Token(); err != nil && !(i == 4 && err == io.EOF) {
			return "", errors.New("it is no such JSON; a picture itself is sent as image/png or image/jpeg, not as application/json")
		}
	}
	url, isText := tokens[2].(string)
	if tokens[0] != json.Delim('{') || tokens[1] != "url" || !isText || tokens[3] != json.Delim('}') || tokens[4] != nil {
		return "", fmt.Errorf("want the field url, a string, and no other")
	}
	return url, nil
}
