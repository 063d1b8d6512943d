package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// certificate is the files of the flags --tls-cert and --tls-key.
type certificate struct{ cert, key string }

func (c certificate) given() bool { return c.cert != "" }

func (c certificate) check() error {
	if (c.cert == "") != (c.key == "") {
		return errors.New("--tls-cert and --tls-key belong together")
	}
	return nil
}

// checkPublic refuses to carry pictures of patients over a network in the
// clear.
func checkPublic(address string, tls bool) error {
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("--listen %q: want host:port: %w", address, err)
	}
	ip := net.ParseIP(name)
	if tls || name == "localhost" || (ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("--listen %s is not on loopback: give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy", address)
}

// Bounds of a connection. Reading covers a picture over a slow line.
const (
	readHeaderTerm = 5 * time.Second
	readTerm       = 30 * time.Second
	writeTerm      = 3 * time.Minute // a load on the admin side answers when it is done
	idleTerm       = 2 * time.Minute
	maxHeader      = 64 << 10
)

// endpoint is one listener and what answers there.
type endpoint struct {
	name, address string
	handler       http.Handler
}

// servers are the listeners of the process.
type servers struct {
	all    []*http.Server
	failed chan error
}

// listen opens all addresses before anything is answered: a busy port is an
// error of the start.
func listen(log *slog.Logger, c certificate, endpoints ...endpoint) (*servers, error) {
	s := &servers{failed: make(chan error, len(endpoints))}
	listeners := make([]net.Listener, 0, len(endpoints))
	for _, e := range endpoints {
		l, err := net.Listen("tcp", e.address)
		if err != nil {
			for _, open := range listeners {
				err = errors.Join(err, open.Close())
			}
			return nil, fmt.Errorf("the %s address %s cannot be used (is another server on this port?): %w", e.name, e.address, err)
		}
		listeners = append(listeners, l)
	}
	for i, e := range endpoints {
		server := &http.Server{
			Handler: e.handler, ReadHeaderTimeout: readHeaderTerm, ReadTimeout: readTerm,
			WriteTimeout: writeTerm, IdleTimeout: idleTerm, MaxHeaderBytes: maxHeader,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		}
		s.all = append(s.all, server)
		log.Info("listening", "side", e.name, "address", listeners[i].Addr().String(), "tls", c.given())
		go func() { s.failed <- serve(server, listeners[i], c) }()
	}
	return s, nil
}

func serve(server *http.Server, l net.Listener, c certificate) error {
	if c.given() {
		return server.ServeTLS(l, c.cert, c.key)
	}
	return server.Serve(l)
}

// wait returns when ctx ends, or with the error of a listener that broke.
func (s *servers) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return fmt.Errorf("a listener broke: %w", err)
	}
}

// shutdown takes no new connection and gives the requests that go on their
// time; the admin side goes last, so that the draining can be watched.
func (s *servers) shutdown(term time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), term)
	defer cancel()
	for _, server := range s.all {
		if err := server.Shutdown(ctx); err != nil {
			return fmt.Errorf("requests were still going on %s after the signal: %w", term, err)
		}
	}
	return nil
}

// close ends whatever is left.
func (s *servers) close() {
	for _, server := range s.all {
		server.Close()
	}
}
