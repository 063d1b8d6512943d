package model

// #include <malloc.h>
import "C"

// returnMemory hands freed memory back to the system: glibc keeps what a
// session gave up, hundreds of megabytes after a few reloads.
func returnMemory() { C.malloc_trim(0) }
