package stack

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-ml/penstock/internal/dev/process"
)

// stateSchema is the version of stack.json. Another one is refused.
const stateSchema = 1

// state is stack.json: enough for a later command to find every process of
// this stack, and nobody else's.
type state struct {
	Schema      int               `json:"schema"`
	ID          string            `json:"id"` // marks the environment of every process
	Ports       map[string]int    `json:"ports"`
	SocketDir   string            `json:"socket_dir"`
	Credentials Credentials       `json:"credentials"`
	Processes   map[string]record `json:"processes"` // by service

	dir string
}

// record is a server that was started. It is forgotten when we end it; a record
// without a living process is a server that died.
type record struct {
	ID          process.Identity `json:"process"`
	Fingerprint string           `json:"fingerprint"` // of all it was started with
	Log         string           `json:"log"`
	URL         string           `json:"url"`
	Health      string           `json:"health"`
}

func statePath(dir string) string { return filepath.Join(dir, "stack.json") }

// load reads the folder's state; a folder without one gets an empty state.
func load(dir string) (*state, error) {
	s := &state{Schema: stateSchema, Ports: map[string]int{}, Processes: map[string]record{}, dir: dir}
	data, err := os.ReadFile(statePath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("state of the stack: %w", err)
	}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("state of the stack %s: %w", statePath(dir), err)
	}
	if s.Schema != stateSchema {
		return nil, fmt.Errorf("state of the stack %s has schema %d; this program knows %d: use the program that wrote it", statePath(dir), s.Schema, stateSchema)
	}
	return s, nil
}

// prepare gives the stack its name, secrets, ports and configuration, and lays
// the state down before the first process starts: a crash after that leaves
// nothing that Down cannot find.
func (s *state) prepare(o Options) error {
	if s.ID == "" {
		s.ID, s.Credentials = rand.Text(), newCredentials()
	}
	// What is left of a dead server (workers of a killed leader) holds its port.
	for _, name := range order() {
		if rec, ok := s.Processes[name]; ok && !rec.ID.Alive() {
			if _, err := s.end(name, stopGrace); err != nil {
				return err
			}
		}
	}
	ports, err := choosePorts(o.Ports, s.Ports, s.holds)
	if err != nil {
		return err
	}
	s.Ports = ports
	if err := s.makeSocketDir(); err != nil {
		return err
	}
	if err := s.save(); err != nil {
		return err
	}
	if err := writeConfig(s); err != nil {
		return err
	}
	return s.writeEnv()
}

// holds says whether the server that has the port runs: its port stays.
func (s *state) holds(port string) bool {
	rec, ok := s.Processes[serviceOf(port)]
	return ok && rec.ID.Alive()
}

// maxSocketPath is what HAProxy and the kernel leave for the path of a socket.
const maxSocketPath = 97

// makeSocketDir finds a folder for HAProxy's socket: the stack's own, or a
// short one where that path is too long for the kernel.
func (s *state) makeSocketDir() error {
	if s.SocketDir != "" {
		if _, err := os.Stat(s.SocketDir); err == nil {
			return nil
		}
	}
	s.SocketDir = s.dir
	if len(s.socket()) <= maxSocketPath {
		return nil
	}
	dir, err := os.MkdirTemp("", "penstock-")
	if err != nil {
		return fmt.Errorf("folder for HAProxy's socket: %w", err)
	}
	s.SocketDir = dir
	if len(s.socket()) > maxSocketPath {
		return fmt.Errorf("HAProxy's socket %s is longer than %d characters: set TMPDIR to a shorter folder", s.socket(), maxSocketPath)
	}
	return nil
}

func (s *state) socket() string  { return filepath.Join(s.SocketDir, "haproxy.sock") }
func (s *state) mapFile() string { return filepath.Join(s.dir, "split.map") }

// mark is the variable that every process of a service is born with.
func (s *state) mark(service string) string { return "PENSTOCK_STACK=" + s.ID + "/" + service }

// Port gives a port by name, for the templates of the configuration.
func (s *state) Port(name string) (int, error) {
	port, ok := s.Ports[name]
	if !ok {
		return 0, fmt.Errorf("no port is named %q", name)
	}
	return port, nil
}

func (s *state) url(port string) string { return fmt.Sprintf("http://127.0.0.1:%d", s.Ports[port]) }

func (s *state) stack() *Stack {
	e := Endpoints{
		S3: s.url("minio"), S3Console: s.url("minio-console"), MLflow: s.url("mlflow"),
		Prometheus: s.url("prometheus"), Production: s.url("proxy"), ProxyMetrics: s.url("proxy-metrics"),
		Router: s.url("router"), Servers: map[string]Server{},
	}
	for _, slot := range Slots {
		e.Servers[slot] = Server{URL: s.url(slot), Admin: s.url(slot + "-admin")}
	}
	return &Stack{Dir: s.dir, Endpoints: e, Credentials: s.Credentials}
}

func (s *state) save() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(statePath(s.dir), append(data, '\n'))
}

// writeEnv writes the file that a shell sources to use the stack.
func (s *state) writeEnv() error {
	var b strings.Builder
	b.WriteString("# Written by penstock-dev up: . " + filepath.Join(s.dir, "env") + "\n")
	for _, kv := range s.stack().Env() {
		name, value, _ := strings.Cut(kv, "=")
		fmt.Fprintf(&b, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	return writePrivate(filepath.Join(s.dir, "env"), []byte(b.String()))
}

// writePrivate writes a file that only its owner may read, whole or not at all.
func writePrivate(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// lock keeps two commands off one folder. The kernel opens it when its holder
// is gone, however that went.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of the stack: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of the stack: %w", err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another up or down is at work in %s: %w", dir, ctx.Err())
		case <-tick.C:
		}
	}
}
