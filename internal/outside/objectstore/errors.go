package objectstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7"

	"github.com/penstock-ml/penstock/internal/journal"
)

var (
	// ErrNoBucket means that the bucket itself does not exist. It is never
	// mistaken for a missing object.
	ErrNoBucket = errors.New("the bucket does not exist")
	// ErrCredentials means that the store does not know the access key or that
	// the secret key does not fit it.
	ErrCredentials = errors.New("wrong credentials")
	// ErrForbidden means that the credentials are good but do not allow this.
	ErrForbidden = errors.New("not allowed")
	// ErrUnreachable means that the store gave no answer.
	ErrUnreachable = errors.New("the object store gives no answer")
)

// explain turns an error of the library into one that says what, where and
// what to do. ctx is the caller's own: its end is told apart from a timeout.
func (b *Bucket) explain(ctx context.Context, what, key string, err error) error {
	if err == nil {
		return nil
	}
	place := b.place(key)
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", what, place, ctx.Err())
	}
	var answer minio.ErrorResponse
	if errors.As(err, &answer) && answer.Code != "" {
		return b.explainAnswer(what, place, answer)
	}
	var network net.Error
	var request *url.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s %s: %w in time from %s: is it overloaded, or the network slow?", what, place, ErrUnreachable, b.endpoint)
	case errors.As(err, &request) || errors.As(err, &network) || b.core.IsOffline():
		return fmt.Errorf("%s %s: %w at %s: is it running, and is AWS_ENDPOINT_URL_S3 right? (%w)", what, place, ErrUnreachable, b.endpoint, err)
	}
	return fmt.Errorf("%s %s at %s: %w", what, place, b.endpoint, err)
}

func (b *Bucket) explainAnswer(what, place string, answer minio.ErrorResponse) error {
	if foreign(answer) {
		return fmt.Errorf("%s %s: %s answered %d, but not as an S3 store does: is AWS_ENDPOINT_URL_S3 right, or is something between?", what, place, b.endpoint, answer.StatusCode)
	}
	switch answer.Code {
	case "NoSuchKey":
		return fmt.Errorf("%s %s: %w", what, place, journal.ErrNotFound)
	case "PreconditionFailed", "ConditionalRequestConflict":
		return fmt.Errorf("%s %s: %w", what, place, journal.ErrConflict)
	case "NoSuchBucket":
		return fmt.Errorf("%s %s: %w at %s: make it, or correct its name (data.bucket in penstock.yaml, --bucket of penstock-serve run)", what, place, ErrNoBucket, b.endpoint)
	case "InvalidAccessKeyId", "InvalidAccessKeyID":
		return fmt.Errorf("%s %s: %w: %s does not know this access key: correct AWS_ACCESS_KEY_ID", what, place, ErrCredentials, b.endpoint)
	case "SignatureDoesNotMatch":
		return fmt.Errorf("%s %s: %w: the secret key does not fit the access key at %s: correct AWS_SECRET_ACCESS_KEY", what, place, ErrCredentials, b.endpoint)
	case "RequestTimeTooSkewed":
		return fmt.Errorf("%s %s: the clocks of this machine and of %s differ by minutes: set this machine's clock (%w)", what, place, b.endpoint, answer)
	case "AccessDenied":
		return fmt.Errorf("%s %s: %w with these credentials at %s: give their policy this permission", what, place, ErrForbidden, b.endpoint)
	case "NotImplemented":
		return fmt.Errorf("%s %s: %s does not implement this request: the store must honour conditional PUT (%w)", what, place, b.endpoint, answer)
	}
	return fmt.Errorf("%s %s at %s: %s (%w)", what, place, b.endpoint, answer.Code, answer)
}

func (b *Bucket) place(key string) string { return "s3://" + b.name + "/" + key }

// foreign tells an answer that no S3 store gave. The library takes any 404 for
// a missing object and any 412 for a lost race, also those of a web server or
// a proxy; a record must not count as absent because nobody was asked. Stores
// put an id of the request into every answer, or say in XML what it is about.
func foreign(answer minio.ErrorResponse) bool {
	switch answer.StatusCode {
	case http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed:
		return answer.RequestID == "" && answer.HostID == "" && answer.Resource == "" && answer.Region == ""
	}
	return false
}
