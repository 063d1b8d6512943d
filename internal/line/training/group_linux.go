package training

import "syscall"

// ownGroup puts the trainer into a group of its own and ties its life to ours.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
