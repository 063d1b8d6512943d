package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// dispatched is a batch as the watcher hands it over; the rest of the record
// is not the demo's business.
type dispatched struct {
	Key    string `json:"key"`
	Prefix string `json:"prefix"`
}

// dispatcher is the demo's side of `penstock watch --webhook`: it knows the
// batches it has taken, so that a repeated hand-over changes nothing.
type dispatcher struct {
	server  *http.Server
	url     string
	batches chan dispatched
	mu      sync.Mutex
	known   map[string]bool
}

// maxRecord bounds a hand-over's body in bytes.
const maxRecord = 16 << 20

func startDispatcher() (*dispatcher, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the watcher: %w", err)
	}
	d := &dispatcher{
		url:     "http://" + listener.Addr().String() + "/batches",
		batches: make(chan dispatched, 16),
		known:   map[string]bool{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /batches/{key}", d.look)
	mux.HandleFunc("PUT /batches/{key}", d.take)
	d.server = &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	go d.server.Serve(listener)
	return d, nil
}

func (d *dispatcher) close() error { return d.server.Close() }

func (d *dispatcher) look(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.known[r.PathValue("key")] {
		http.Error(w, "no such batch", http.StatusNotFound)
	}
}

func (d *dispatcher) take(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRecord))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var b dispatched
	if err := json.Unmarshal(data, &b); err != nil || b.Key != r.PathValue("key") {
		http.Error(w, fmt.Sprintf("not the record of batch %s: %v", r.PathValue("key"), err), http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known[b.Key] {
		return
	}
	select {
	case d.batches <- b:
		d.known[b.Key] = true
	default:
		http.Error(w, "too many batches wait", http.StatusServiceUnavailable)
	}
}

// next waits for a batch.
func (d *dispatcher) next(ctx context.Context, limit time.Duration) (dispatched, error) {
	select {
	case b := <-d.batches:
		return b, nil
	case <-ctx.Done():
		return dispatched{}, ctx.Err()
	case <-time.After(limit):
		return dispatched{}, fmt.Errorf("the watcher handed over no batch within %s", limit)
	}
}
