package measure

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Request is one HTTP/1.1 request that is sent again and again, over one
// connection for each caller. Building it once and writing it in one piece
// keeps the client's own cost small: it runs on the machine that it measures.
type Request struct {
	address string
	bytes   []byte
	term    time.Duration
}

// NewRequest prepares a POST. term bounds each exchange.
func NewRequest(to string, header http.Header, body []byte, term time.Duration) (*Request, error) {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("URL %q: want http://host:port/path", to)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", u.RequestURI(), u.Host, len(body))
	if err := header.Write(&out); err != nil {
		return nil, err
	}
	out.WriteString("\r\n")
	out.Write(body)
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "80")
	}
	return &Request{address: address, bytes: out.Bytes(), term: term}, nil
}

// stale is after how long an idle connection is no longer relied on: servers
// close theirs after a few seconds.
const stale = 2 * time.Second

// HTTPCaller exchanges one request over one connection.
type HTTPCaller struct {
	request *Request
	conn    net.Conn
	reader  *bufio.Reader
	used    time.Time
}

// Caller gives a caller of the request; it connects when it is prepared.
func (r *Request) Caller(context.Context) (Caller, error) {
	return &HTTPCaller{request: r}, nil
}

// Prepare connects, unless there is a fresh connection.
func (c *HTTPCaller) Prepare(ctx context.Context) error {
	if c.conn != nil && time.Since(c.used) < stale {
		return nil
	}
	if err := c.Close(); err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: c.request.term}
	conn, err := dialer.DialContext(ctx, "tcp", c.request.address)
	if err != nil {
		return err
	}
	c.conn, c.reader, c.used = conn, bufio.NewReaderSize(conn, 64<<10), time.Now()
	return nil
}

// Call sends the request and reads the answer, which must be a 200.
func (c *HTTPCaller) Call(ctx context.Context) error {
	response, err := c.send()
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 300)) // of an error already
		return fmt.Errorf("answered %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	_, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close(), c.kept(response))
}

// Exchange is a Call that gives the answer.
func (c *HTTPCaller) Exchange(ctx context.Context) (status int, header http.Header, body []byte, err error) {
	if err := c.Prepare(ctx); err != nil {
		return 0, nil, nil, err
	}
	response, err := c.send()
	if err != nil {
		return 0, nil, nil, err
	}
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, response.Header, body, errors.Join(err, response.Body.Close(), c.kept(response))
}

func (c *HTTPCaller) send() (*http.Response, error) {
	if c.conn == nil {
		return nil, errors.New("the caller was not prepared")
	}
	c.used = time.Now()
	if err := c.conn.SetDeadline(c.used.Add(c.request.term)); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(c.request.bytes); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return response, nil
}

// kept drops a connection that the server is about to close.
func (c *HTTPCaller) kept(response *http.Response) error {
	if !response.Close {
		return nil
	}
	return errors.Join(c.Close(), errors.New("the server closes the connection after each answer: connections would be measured"))
}

// Close ends the connection.
func (c *HTTPCaller) Close() error {
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn = nil
	return err
}
