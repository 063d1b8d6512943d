package remote

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// origin is where a picture may come from: scheme, host and port, as text.
type origin struct{ scheme, host, port string }

// String is scheme://host:port.
func (o origin) String() string { return o.scheme + "://" + net.JoinHostPort(o.host, o.port) }

var defaultPorts = map[string]string{"https": "443", "http": "80"}

// hostName is a name of DNS in lower case. A last label of digits alone, or a
// hexadecimal one, is an address in a form that some resolvers understand.
var hostName = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z]([a-z0-9-]*[a-z0-9])?$`)

// parseAllowed reads an entry of the list: host, host:port, or http://host[:port]
// where the picture may come without TLS.
func parseAllowed(entry string) (origin, error) {
	text := entry
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return origin{}, fmt.Errorf("allowed host %q: want host, host:port or http://host:port", entry)
	}
	if strings.HasSuffix(u.Host, ":") || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil {
		return origin{}, fmt.Errorf("allowed host %q: want host, host:port or http://host:port and nothing more", entry)
	}
	o, why := originOf(u)
	if why != "" {
		return origin{}, fmt.Errorf("allowed host %q: %s", entry, why)
	}
	if a, err := netip.ParseAddr(o.host); err == nil && !public(a) {
		return origin{}, fmt.Errorf("allowed host %q: pictures are never fetched from private, loopback, link-local or other special addresses", entry)
	}
	return o, nil
}

// originOf takes a URL's origin, or says why there is none.
func originOf(u *url.URL) (o origin, why string) {
	o = origin{scheme: u.Scheme, host: strings.ToLower(u.Hostname()), port: u.Port()}
	standard, known := defaultPorts[o.scheme]
	if !known {
		return o, "only https:// and, where it is allowed, http:// can be fetched"
	}
	if o.port == "" {
		o.port = standard
	}
	if n, err := strconv.ParseUint(o.port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != o.port {
		return o, "the port is no number from 1 to 65535"
	}
	if a, err := netip.ParseAddr(o.host); err == nil {
		if a.Zone() != "" || a.Is4In6() || a.String() != o.host {
			return o, "the address is not in its usual form"
		}
		return o, ""
	}
	if !hostName.MatchString(o.host) || len(o.host) > 253 {
		return o, "the host is no name of DNS in ASCII"
	}
	return o, ""
}
