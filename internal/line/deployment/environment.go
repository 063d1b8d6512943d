// Package deployment is the client of what serves a model: the environments of
// penstock.yaml, the servers' admin listeners, what their public side answers
// with, their own counters by digest, and the routers in front.
//
// Every call has a deadline and bounded retries; what is retried may be done
// twice without harm. What is refused: a token sent without TLS to anything
// but loopback, a redirect, a server that says it loaded a digest and answers
// with another.
package deployment

import (
	"errors"
	"fmt"
	"net"
	"net/url"
)

// Slots of an environment that takes a canary.
const (
	Stable = "stable"
	Canary = "canary"
)

// Environment is a section of `environments:` in penstock.yaml: the servers of
// one stage, and where a canary takes traffic, the routers that split it. URL
// is where users reach it.
type Environment struct {
	URL     string   `yaml:"url,omitempty"`
	Servers []Server `yaml:"servers"`
	Routers []Router `yaml:"routers,omitempty"`
}

// Server is one inference server: its slot, its public and its admin URL.
// Several servers may have one slot.
type Server struct {
	Slot  string `yaml:"slot"`
	URL   string `yaml:"url"`
	Admin string `yaml:"admin"`
}

// Router is the split's keeper on one proxy host.
type Router struct {
	URL string `yaml:"url"`
}

// Slot gives the servers of a slot; an empty name means all.
func (e Environment) Slot(name string) ([]Server, error) {
	var found []Server
	for _, s := range e.Servers {
		if name == "" || s.Slot == name {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no server has the slot %q; there are %v", name, e.slots())
	}
	return found, nil
}

func (e Environment) slots() []string {
	var names []string
	for _, s := range e.Servers {
		names = append(names, s.Slot)
	}
	return names
}

// Validate refuses an environment that cannot work. Errors name the key below
// the environment's own.
func (e Environment) Validate() error {
	if len(e.Servers) == 0 {
		return errors.New("servers: at least one server is needed")
	}
	if e.URL != "" {
		if err := checkURL("url", e.URL, false); err != nil {
			return err
		}
	}
	seen := map[string]string{}
	for i, s := range e.Servers {
		at := fmt.Sprintf("servers[%d]", i)
		if err := s.validate(at, seen); err != nil {
			return err
		}
	}
	for i, r := range e.Routers {
		if err := checkURL(fmt.Sprintf("routers[%d].url", i), r.URL, true); err != nil {
			return err
		}
	}
	if len(e.Routers) == 0 {
		return nil
	}
	for _, slot := range []string{Stable, Canary} {
		if _, err := e.Slot(slot); err != nil {
			return fmt.Errorf("routers split between the slots stable and canary: %w", err)
		}
	}
	return nil
}

func (s Server) validate(at string, seen map[string]string) error {
	if s.Slot == "" {
		return fmt.Errorf("%s.slot: a name is needed, such as staging, stable or canary", at)
	}
	if err := checkURL(at+".url", s.URL, false); err != nil {
		return err
	}
	if err := checkURL(at+".admin", s.Admin, true); err != nil {
		return err
	}
	for key, address := range map[string]string{"url": s.URL, "admin": s.Admin} {
		if other := seen[address]; other != "" {
			return fmt.Errorf("%s.%s: %s is %s already; every listener has an address of its own", at, key, address, other)
		}
		seen[address] = at + "." + key
	}
	return nil
}

// checkURL wants an absolute http or https URL without a path's end slash,
// credentials or query. Where a token travels, or users' images, plain http is
// for loopback only.
func checkURL(at, text string, token bool) error {
	u, err := url.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %q is not a URL: %w", at, text, err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return fmt.Errorf("%s: %q: an absolute http or https URL is wanted, such as https://host:8443", at, text)
	case u.User != nil, u.RawQuery != "", u.Fragment != "", u.Path != "":
		return fmt.Errorf("%s: %q: scheme, host and port only; credentials come from the environment", at, text)
	case u.Scheme == "http" && !Loopback(u.Hostname()):
		what := "images of people"
		if token {
			what = "a token"
		}
		return fmt.Errorf("%s: %q would send %s without TLS over the network: use https, or a loopback address", at, text, what)
	}
	return nil
}

// Loopback tells whether a host name or address never leaves the machine.
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
