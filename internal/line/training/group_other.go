//go:build !linux

package training

import "syscall"

// ownGroup puts the trainer into a group of its own. Only Linux can tie its
// life to ours.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
