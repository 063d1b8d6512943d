package stack

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"
)

// ports lists what is listened on, by name: PortNames in the order of `up`.
var portNames = []string{
	"minio", "minio-console", "mlflow", "prometheus", "proxy", "proxy-metrics", "router",
	"staging", "staging-admin", "stable", "stable-admin", "canary", "canary-admin",
}

// PortNames are the ports that Options.Ports may fix.
func PortNames() []string { return slices.Clone(portNames) }

// choosePorts gives every name a port: the one asked for, else the one that the
// folder had before if it is still free or ours, else a free one.
func choosePorts(asked, before map[string]int, ours func(name string) bool) (map[string]int, error) {
	for name := range asked {
		if !slices.Contains(portNames, name) {
			return nil, fmt.Errorf("unknown port name %q: one of %s", name, strings.Join(portNames, ", "))
		}
	}
	chosen := map[string]int{}
	var held []net.Listener // kept open so that no free port is chosen twice
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for _, name := range portNames {
		if port := asked[name]; port != 0 {
			if old := before[name]; ours(name) && old != port {
				return nil, fmt.Errorf("the stack is up with port %d for %s, not %d: `penstock-dev down` first", old, name, port)
			}
			chosen[name] = port
			continue
		}
		if ours(name) {
			chosen[name] = before[name]
			continue
		}
		l, err := listen(before[name])
		if err != nil {
			if l, err = listen(0); err != nil {
				return nil, fmt.Errorf("find a free port for %s: %w", name, err)
			}
		}
		held = append(held, l)
		chosen[name] = l.Addr().(*net.TCPAddr).Port
	}
	return chosen, distinct(chosen)
}

func distinct(ports map[string]int) error {
	owner := map[int]string{}
	for _, name := range slices.Sorted(maps.Keys(ports)) {
		if other, ok := owner[ports[name]]; ok {
			return fmt.Errorf("port %d is asked for twice: --%s-port and --%s-port", ports[name], other, name)
		}
		owner[ports[name]] = name
	}
	return nil
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
}

// portPatience is how long a port may stay busy: the kernel takes a moment to
// close the sockets of a process that was killed.
const portPatience = 2 * time.Second

// checkPorts fails when somebody listens on a port that the server is to have.
func checkPorts(ctx context.Context, sv service, ports map[string]int) error {
	ctx, cancel := context.WithTimeout(ctx, portPatience)
	defer cancel()
	for _, name := range sv.ports {
		for {
			l, err := listen(ports[name])
			if err == nil {
				l.Close()
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s cannot start: port %d is busy (%w); free it, or choose another with --%s-port", sv.Name, ports[name], err, name)
			case <-time.After(lookInterval):
			}
		}
	}
	return nil
}
