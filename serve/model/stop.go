package model

import (
	"errors"
	"fmt"

	ort "github.com/yalue/onnxruntime_go"
)

// stop is a run's options, by which it is ended early.
type stop struct {
	*ort.RunOptions
	end   func() // ends the run
	ended chan error
}

// stops are those that ended no run and wait for the next one: as many as the
// channel takes.
type stops chan *stop

func (all stops) take() (*stop, error) {
	select {
	case s := <-all:
		return s, nil
	default:
	}
	options, err := ort.NewRunOptions()
	if err != nil {
		return nil, fmt.Errorf("make run options: %w", err)
	}
	s := &stop{RunOptions: options, ended: make(chan error, 1)}
	s.end = func() { s.ended <- s.Terminate() }
	return s, nil
}

// put takes a stop back after its run. One that was used, or is about to be, goes
// away when that is over.
func (all stops) put(s *stop, used bool) error {
	if used {
		return errors.Join(<-s.ended, s.Destroy())
	}
	select {
	case all <- s:
		return nil
	default:
		return s.Destroy()
	}
}

// destroy is for the end, when no run goes on.
func (all stops) destroy() (err error) {
	close(all)
	for s := range all {
		err = errors.Join(err, s.Destroy())
	}
	return err
}
