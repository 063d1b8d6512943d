package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/penstock-ml/penstock/serve/api"
	"github.com/penstock-ml/penstock/serve/service"
)

// Bounds of a connection that no flag changes.
const (
	readHeaderTerm   = 5 * time.Second
	writeTerm        = api.AnswerTerm // a load on the admin side answers when it is done
	idleTerm         = 2 * time.Minute
	maxHeader        = 64 << 10 // bytes
	adminConnections = 64
	// stopTerm is what a request has to notice that it is terminated.
	stopTerm = 2 * time.Second
)

// errDrained is why a request ends that outlasts the drain.
var errDrained = service.Bad(service.Unavailable, "the server goes away: try again on another one")

// side is one listener and what answers there. drain takes no new connection
// and returns when the last request has ended, or ctx has; stop ends whatever
// is left.
type side struct {
	name, address string
	connections   int // at a time; more wait until one is closed
	serve         func(net.Listener) error
	drain         func(ctx context.Context) error
	stop          func()
}

// httpSide makes a side of HTTP. Requests must have come within read; with a
// certificate's config it speaks TLS only, HTTP/2 too.
func httpSide(name, address string, connections int, read time.Duration, handler http.Handler, secure *tls.Config, log *slog.Logger) side {
	ctx, cancel := context.WithCancelCause(context.Background())
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: min(read, readHeaderTerm), ReadTimeout: read,
		WriteTimeout: writeTerm, IdleTimeout: idleTerm, MaxHeaderBytes: maxHeader, TLSConfig: secure,
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: 128},
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	s := side{name: name, address: address, connections: connections, serve: server.Serve, drain: server.Shutdown}
	if secure != nil {
		s.serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	s.stop = func() {
		cancel(errDrained) // runs are terminated, and their requests answer that
		short, done := context.WithTimeout(context.Background(), stopTerm)
		defer done()
		if server.Shutdown(short) != nil {
			server.Close()
		}
	}
	return s
}

// servers are the listeners of the process, the admin side last.
type servers struct {
	sides  []side
	failed chan error
}

// listen opens all addresses before anything is answered: a busy port is an
// error of the start.
func listen(log *slog.Logger, secure bool, sides ...side) (*servers, error) {
	s := &servers{sides: sides, failed: make(chan error, len(sides))}
	listeners := make([]net.Listener, 0, len(sides))
	for _, each := range sides {
		l, err := net.Listen("tcp", each.address)
		if err != nil {
			for _, open := range listeners {
				err = errors.Join(err, open.Close())
			}
			return nil, fmt.Errorf("the %s address %s cannot be used (is another server on this port?): %w", each.name, each.address, err)
		}
		listeners = append(listeners, netutil.LimitListener(l, each.connections))
	}
	for i, each := range sides {
		log.Info("listening", "side", each.name, "address", listeners[i].Addr().String(), "tls", secure, "connections", each.connections)
		go func() { s.failed <- each.serve(listeners[i]) }()
	}
	return s, nil
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
// time; what is left then is terminated. The admin side goes last, so that the
// draining can be watched.
func (s *servers) shutdown(term time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), term)
	defer cancel()
	last := len(s.sides) - 1
	var draining sync.WaitGroup
	var mu sync.Mutex
	var cut error
	end := func(each side) {
		if err := each.drain(ctx); err != nil {
			mu.Lock()
			cut = errors.Join(cut, fmt.Errorf("requests on the %s side were still going on %s after the signal and were cut off: %w", each.name, term, err))
			mu.Unlock()
			each.stop()
		}
	}
	for _, each := range s.sides[:last] {
		draining.Go(func() { end(each) })
	}
	draining.Wait()
	end(s.sides[last])
	return cut
}

// close ends whatever is left.
func (s *servers) close() {
	for _, each := range s.sides {
		each.stop()
	}
}
