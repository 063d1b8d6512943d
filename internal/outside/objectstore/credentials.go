package objectstore

import (
	"fmt"
	"strings"
)

// Credentials say which store is asked and as whom. SessionToken may be empty.
type Credentials struct {
	Endpoint     string // URL: http(s)://host[:port]
	Region       string
	AccessKey    string
	SecretKey    string
	SessionToken string
}

// String shows neither key, so that a logged value gives nothing away.
func (c Credentials) String() string { return "credentials for " + c.Endpoint }

// GoString is String, for %#v.
func (c Credentials) GoString() string { return c.String() }

// CredentialsFromEnv reads the names people know: AWS_ACCESS_KEY_ID,
// AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN (may be absent), AWS_REGION
// (us-east-1 where absent, which MinIO expects) and AWS_ENDPOINT_URL_S3, else
// AWS_ENDPOINT_URL. All missing names are told at once.
func CredentialsFromEnv(getenv func(string) string) (Credentials, error) {
	c := Credentials{
		Endpoint:     getenv("AWS_ENDPOINT_URL_S3"),
		Region:       getenv("AWS_REGION"),
		AccessKey:    getenv("AWS_ACCESS_KEY_ID"),
		SecretKey:    getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken: getenv("AWS_SESSION_TOKEN"),
	}
	if c.Endpoint == "" {
		c.Endpoint = getenv("AWS_ENDPOINT_URL")
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	var missing []string
	for _, m := range []struct{ name, value string }{
		{"AWS_ENDPOINT_URL_S3", c.Endpoint},
		{"AWS_ACCESS_KEY_ID", c.AccessKey},
		{"AWS_SECRET_ACCESS_KEY", c.SecretKey},
	} {
		if m.value == "" {
			missing = append(missing, m.name)
		}
	}
	if missing != nil {
		return Credentials{}, fmt.Errorf("no access to the object store: set %s in the environment", strings.Join(missing, ", "))
	}
	return c, nil
}
