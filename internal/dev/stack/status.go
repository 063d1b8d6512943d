package stack

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/penstock-ml/penstock/internal/dev/process"
)

// Condition is how a server is.
type Condition string

// Conditions of a server.
const (
	Running   Condition = "up"
	Unhealthy Condition = "unhealthy" // it runs, but does not answer as it should
	Dead      Condition = "dead"      // it ended by itself
	Ended     Condition = "down"      // it was never started, or Down ended it
)

// ServerStatus is one server as it is now.
type ServerStatus struct {
	Name      string    `json:"name"`
	Condition Condition `json:"condition"`
	PID       int       `json:"pid,omitempty"`
	URL       string    `json:"url,omitempty"`
	Log       string    `json:"log,omitempty"`
	Detail    string    `json:"detail,omitempty"` // what is wrong, with a dead server's last lines
}

// logLines is how much of a dead server's log its status shows.
const logLines = 8

// Status looks at every server of the folder's stack, in the order of Up.
func Status(ctx context.Context, dir string) ([]ServerStatus, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s, err := load(dir)
	if err != nil {
		return nil, err
	}
	var all []ServerStatus
	for _, name := range order() {
		rec, ok := s.Processes[name]
		if !ok {
			all = append(all, ServerStatus{Name: name, Condition: Ended})
			continue
		}
		all = append(all, rec.status(ctx, name))
	}
	return all, nil
}

func (r record) status(ctx context.Context, name string) ServerStatus {
	st := ServerStatus{Name: name, Condition: Running, PID: r.ID.PID, URL: r.URL, Log: r.Log}
	if !r.ID.Alive() {
		st.Condition = Dead
		st.Detail = fmt.Sprintf("process %d is gone; last lines of %s:\n%s", r.ID.PID, r.Log, process.Tail(r.Log, logLines))
		return st
	}
	if err := process.Healthy(ctx, r.Health); err != nil {
		st.Condition = Unhealthy
		st.Detail = err.Error()
	}
	return st
}
