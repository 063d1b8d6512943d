package model

// #include <malloc.h>
import "C"

// alwaysMapped is the size in bytes from which glibc gives an allocation pages
// of its own, which go back to the system when it is freed. (Its own threshold
// grows with what is freed, up to 32 MB: the weights of the next session then
// lie in a thread's arena, whose top malloc_trim does not touch. Reloads were
// seen to keep 16 to 32 MB a time so.)
const alwaysMapped = 1 << 20

// makeMemoryReturnable is called once, before ONNX Runtime allocates. Its own
// arena keeps what runs need: runs map nothing anew.
func makeMemoryReturnable() { C.mallopt(C.M_MMAP_THRESHOLD, alwaysMapped) }

// returnMemory hands freed memory back to the system: glibc keeps what a
// session gave up, hundreds of megabytes after a few reloads.
func returnMemory() { C.malloc_trim(0) }
