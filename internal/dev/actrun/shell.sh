#!/bin/sh
# Stands before a shell on the PATH of a run's steps. act stops reading a step's
# output as soon as the step has failed, and its last lines, the reason among
# them, are lost. So a step that failed stays until its output was read: it
# prints a mark and waits for the file that the reader makes.
#
# A step that act kills takes the shell behind this one with it (the signal of
# its parent's death). For everybody but act this is the shell itself.
parent=
read -r parent <"/proc/$PPID/comm" || :
[ "$parent" = act ] || exec '@SHELL@' "$@"
status=0
@BOUND@ '@SHELL@' "$@" || status=$?
[ "$status" -ne 0 ] || exit 0
printf '::%s::%s\n' '@MARK@' "$$"
turns=0
while [ ! -e '@DIR@'/drained."$$" ] && [ "$turns" -lt 1000 ]; do
	sleep 0.01
	turns=$((turns + 1))
done
exit "$status"
