// Package haproxy speaks with a running HAProxy over its runtime socket: one
// command a connection, as its management guide describes (section 9.3, "Unix
// Socket commands"; version 2.6). It reads and sets map entries and reads the
// servers' states. It changes no weights and no server states: both are
// forgotten at a reload and leave sticky sessions where they were.
package haproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// timeout bounds one command. The socket is local and answers within
// milliseconds; a proxy that takes longer is in trouble.
const timeout = 2 * time.Second

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 4 << 20

// maxSocketPath is what the kernel and HAProxy, which appends a suffix while
// it binds, leave for the path of a socket.
const maxSocketPath = 97

// Client is one proxy's runtime socket. It keeps no connection.
type Client struct {
	socket  string
	mapFile string
	backend string
}

// New makes a client for the socket at path. mapFile is the map as the
// proxy's configuration names it; backend is the canary's backend there.
func New(socket, mapFile, backend string) (*Client, error) {
	if len(socket) > maxSocketPath {
		return nil, fmt.Errorf("haproxy socket %s: the path has %d characters, at most %d work; choose a shorter folder", socket, len(socket), maxSocketPath)
	}
	for what, word := range map[string]string{"map": mapFile, "backend": backend} {
		if !plain(word) {
			return nil, fmt.Errorf("haproxy %s %q: a name without blanks, semicolons or line ends is wanted", what, word)
		}
	}
	return &Client{socket: socket, mapFile: mapFile, backend: backend}, nil
}

// plain tells whether a word can stand in a command as it is: a blank, a
// semicolon or a line end would start another argument or command.
func plain(word string) bool {
	return word != "" && !strings.ContainsAny(word, " \t\r\n;\\\"'")
}

// Map reads the entries of the map as the running proxy holds them.
func (c *Client) Map(ctx context.Context) (map[string]string, error) {
	text, err := c.do(ctx, "show map "+c.mapFile)
	if err != nil {
		return nil, err
	}
	entries := map[string]string{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 3 || !strings.HasPrefix(fields[0], "0x") {
			return nil, fmt.Errorf("haproxy %s: map %s: %s", c.socket, c.mapFile, strings.TrimSpace(text))
		}
		entries[fields[1]] = fields[2]
	}
	return entries, nil
}

// SetMap changes an entry that exists, in memory only. HAProxy says nothing
// where it ignores a value, so the caller reads back.
func (c *Client) SetMap(ctx context.Context, key, value string) error {
	if !plain(key) || !plain(value) {
		return fmt.Errorf("haproxy map %s: key %q and value %q must be plain words", c.mapFile, key, value)
	}
	text, err := c.do(ctx, "set map "+c.mapFile+" "+key+" "+value)
	if err != nil {
		return err
	}
	if text = strings.TrimSpace(text); text != "" {
		return fmt.Errorf("haproxy %s: set map %s: %s", c.socket, c.mapFile, text)
	}
	return nil
}

// Server is one server of a backend; Up tells that the proxy would send it
// requests.
type Server struct {
	Backend, Name string
	Up            bool
}

// Columns of "show servers state", and the values that mean a server gets
// requests: operational state 2 (running) and no administrative state
// (maintenance, drain).
const (
	columnBackend = 1
	columnServer  = 3
	columnState   = 5
	columnAdmin   = 6
	stateRunning  = 2
)

// Servers reads the state of every server of every backend.
func (c *Client) Servers(ctx context.Context) ([]Server, error) {
	text, err := c.do(ctx, "show servers state")
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	if !lines.Scan() || strings.TrimSpace(lines.Text()) != "1" {
		return nil, fmt.Errorf("haproxy %s: servers state of an unknown version %q, 1 is known", c.socket, strings.TrimSpace(lines.Text()))
	}
	var servers []Server
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		if len(fields) <= columnAdmin {
			return nil, fmt.Errorf("haproxy %s: servers state with %d columns: %s", c.socket, len(fields), lines.Text())
		}
		state, err := strconv.Atoi(fields[columnState])
		if err != nil {
			return nil, fmt.Errorf("haproxy %s: server state %q: %w", c.socket, fields[columnState], err)
		}
		servers = append(servers, Server{
			Backend: fields[columnBackend], Name: fields[columnServer],
			Up: state == stateRunning && fields[columnAdmin] == "0",
		})
	}
	return servers, lines.Err()
}

// CanaryUp tells whether a server of the canary's backend would get requests.
func (c *Client) CanaryUp(ctx context.Context) (bool, error) {
	servers, err := c.Servers(ctx)
	if err != nil {
		return false, err
	}
	found := false
	for _, s := range servers {
		if s.Backend != c.backend {
			continue
		}
		if found = true; s.Up {
			return true, nil
		}
	}
	if !found {
		return false, fmt.Errorf("haproxy %s: no server in the backend %q: name it so in the proxy's configuration, or name another one", c.socket, c.backend)
	}
	return false, nil
}

func (c *Client) do(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	text, err := c.exchange(ctx, command)
	if err != nil {
		return "", fmt.Errorf("haproxy runtime socket %s: %q: %w (is HAProxy running, with `stats socket … level admin`?)", c.socket, command, err)
	}
	return text, nil
}

func (c *Client) exchange(ctx context.Context, command string) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, maxAnswer+1))
	if err != nil {
		return "", err
	}
	if len(answer) > maxAnswer {
		return "", errors.New("answer above 4 MiB")
	}
	return string(answer), nil
}
