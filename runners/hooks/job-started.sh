#!/bin/bash
# The job-started hook of a self-hosted runner (ACTIONS_RUNNER_HOOK_JOB_STARTED):
# no job begins here that the list beside this file does not admit. `penstock
# admit`, a copy of which stands beside this file too, decides; this script only
# hands it the runner's own variables and ends the job where it says no.
# runners/README.md tells how to install it.
#
# Whatever goes wrong refuses the job.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

# worker prints the pid of the Runner.Worker above this hook. Its state tells
# whether there is one.
worker() {
	local pid=$PPID name
	while ((pid > 1)); do
		if [[ -d /proc/$pid ]]; then
			name=$(<"/proc/$pid/comm")
		else
			name=$(ps -o comm= -p "$pid") # no /proc: macOS
		fi
		if [[ ${name##*/} == Runner.Worker ]]; then
			printf '%s\n' "$pid"
			return 0
		fi
		pid=$(parent "$pid")
	done
	return 1
}

parent() {
	local key value
	if [[ ! -d /proc/$1 ]]; then
		ps -o ppid= -p "$1" | tr -d ' '
		return
	fi
	while read -r key value; do
		if [[ $key == PPid: ]]; then
			printf '%s\n' "$value"
			return 0
		fi
	done <"/proc/$1/status"
	return 1
}

# refuse ends the job. A failed hook alone does not: the runner goes on with
# steps that say `if: always()` (actions/runner#2811). So its worker is ended
# before this hook returns, as soon as what was printed has had time to reach
# the server; the runner then reports the job as failed.
refuse() {
	local pid
	trap - EXIT
	if pid=$(worker); then
		sleep 3
		kill -KILL "$pid"
	fi
	exit 1
}
trap refuse EXIT

if env -i PATH="$PATH" GITHUB_ACTIONS=true \
	GITHUB_REPOSITORY="${GITHUB_REPOSITORY:-}" \
	GITHUB_WORKFLOW_REF="${GITHUB_WORKFLOW_REF:-}" \
	GITHUB_REF="${GITHUB_REF:-}" \
	GITHUB_EVENT_NAME="${GITHUB_EVENT_NAME:-}" \
	GITHUB_EVENT_PATH="${GITHUB_EVENT_PATH:-}" \
	"$here/penstock" admit --list "$here/jobs.list"; then
	trap - EXIT
	exit 0
fi
