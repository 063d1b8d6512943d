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
	"time"

	"github.com/penstock-ml/penstock/internal/oip"
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

// pictureOf reads the bytes of the image: the whole body, the one file of a
// form, or what the URL in a JSON body leads to. What they are is decided by
// the bytes, not by what the sender calls them. The deadline is the sender's own;
// zero: none.
func (s *Server) pictureOf(w http.ResponseWriter, r *http.Request, deadline time.Time, l *buffers.Loan) ([]byte, error) {
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
		return s.fetch(r.Context(), deadline, http.MaxBytesReader(w, r.Body, maxAddress))
	case media == "", media == "application/octet-stream", strings.HasPrefix(media, "image/"),
		media == "application/x-www-form-urlencoded": // what curl --data-binary says
		return readAll(http.MaxBytesReader(w, r.Body, s.picture.Bytes), r.ContentLength, s.picture.Bytes, l)
	}
	return nil, service.Bad(service.Unsupported, "the Content-Type is none of a picture: send a PNG or JPEG as it is, or as the file of a multipart form")
}

// readAll reads a body that ends with an error at limit bytes; hint is how many
// there may be, -1: nobody said. It is believed up to a megabyte.
func readAll(body io.Reader, hint, limit int64, l *buffers.Loan) ([]byte, error) {
	if hint < 0 {
		hint = 64 << 10
	}
	return oip.ReadGrowing(body, int(min(hint, 1<<20))+1, limit, l.Get)
}

func onlyFile(form *multipart.Reader, length, limit int64, l *buffers.Loan) (file []byte, err error) {
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
		if file, err = readAll(http.MaxBytesReader(nil, part, limit), length, limit, l); err != nil {
			return nil, err
		}
	}
	if file == nil {
		return nil, service.Bad(service.BadInput, "the form holds no file")
	}
	return file, nil
}

// fetch reads {"url": "..."} and brings what it leads to, which is work that
// ends with the sender's deadline.
func (s *Server) fetch(ctx context.Context, deadline time.Time, body io.Reader) ([]byte, error) {
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
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
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
