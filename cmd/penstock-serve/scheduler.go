package main

import "runtime"

// schedule gives Go as many threads again as there are CPUs. Decoding and
// running take the CPUs, and the runtime's shares see to it that they take no
// more. With one thread for each, whatever comes in meanwhile would wait until
// one of them pauses, 10 ms a turn and several turns for a body: requests would
// miss their deadline before anybody has looked at it, and CPUs stand idle
// between two runs. With more threads than work the kernel lets the short ones
// go first.
func schedule(cpus int) { runtime.GOMAXPROCS(2 * cpus) }
