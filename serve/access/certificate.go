package access

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// checkTerm is how often at most the files are looked at, so that a burst of
// connections costs no more than one.
const checkTerm = 2 * time.Second

// Certificate is a certificate with its key, read again when the files change.
// A new pair that cannot be used, such as half of one while it is being
// written, leaves the old one in use and is told once.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	checked time.Time
	tried   [2]stamp // of the files when they were last read
}

// stamp tells a changed file.
type stamp struct {
	modified time.Time
	size     int64
}

// LoadCertificate reads a certificate (PEM, with its chain) and its key.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, checked: time.Now()}
	var err error
	if c.tried, err = c.stamps(); err != nil {
		return nil, err
	}
	if c.current, err = c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

// Config is that of a listener: TLS 1.2 or newer.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}
}

func (c *Certificate) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.checked) < checkTerm {
		return c.current
	}
	c.checked = now
	stamps, err := c.stamps()
	if stamps == c.tried {
		return c.current
	}
	c.tried = stamps
	var next *tls.Certificate
	if err == nil {
		next, err = c.read()
	}
	if err != nil {
		c.log.Error("the new certificate is not used, the one before stays", "reason", err)
		return c.current
	}
	c.current = next
	c.log.Info("new certificate", "file", c.certFile, "until", next.Leaf.NotAfter)
	return c.current
}

// stamps are zero for a file that is not there.
func (c *Certificate) stamps() (s [2]stamp, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		info, failed := os.Stat(name)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("the certificate's files: %w", failed))
			continue
		}
		s[i] = stamp{info.ModTime(), info.Size()}
	}
	return s, err
}

func (c *Certificate) read() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("the certificate %s and its key %s cannot be used (--tls-cert, --tls-key): %w", c.certFile, c.keyFile, err)
	}
	return &pair, nil
}
