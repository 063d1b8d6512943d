package host

import "log/slog"

// New makes a host that stands alone, keeps its assignment in stateDir and
// replays nothing.
func New(name, stateDir string, load Load, observer Observer, log *slog.Logger) *Host {
	return newHost(name, stateDir, load, observer, log, Options{})
}

// WithProgress is how a host has a load tell what it is at.
var WithProgress = withProgress
