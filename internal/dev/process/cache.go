package process

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// Cache is the folder in which `make setup` keeps what it installs:
// PENSTOCK_CACHE, or .cache/penstock in the home folder.
func Cache() (string, error) {
	if dir := os.Getenv("PENSTOCK_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("the cache folder is unknown: %w (set PENSTOCK_CACHE)", err)
	}
	return filepath.Join(home, ".cache", "penstock"), nil
}

// Cached returns the path of a file below the cache, or an error that names
// the remedy.
func Cached(rel string) (string, error) {
	dir, err := Cache()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, rel)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not installed (looked for %s): run `make setup`", filepath.Base(rel), path)
	}
	return path, nil
}

// Installed finds a program of the system. Debian keeps servers in /usr/sbin,
// which is not in everybody's PATH.
func Installed(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path := filepath.Join("/usr/sbin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not installed: run `make setup`", name)
	}
	return path, nil
}

// FreePort returns a TCP port of 127.0.0.1 that nobody listens on now. Another
// process may take it before it is used; who starts a server on it sees that.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
