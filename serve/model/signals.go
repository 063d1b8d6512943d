package model

// #include <signal.h>
//
// // Those of Linux; SIGKILL and SIGSTOP cannot be asked for.
// enum { SIGNALS = 64 };
//
// static void signals_save(struct sigaction *all) {
//	for (int s = 1; s <= SIGNALS; s++) sigaction(s, NULL, &all[s]);
// }
//
// static void signals_restore(const struct sigaction *all) {
//	for (int s = 1; s <= SIGNALS; s++) if (s != SIGKILL && s != SIGSTOP) sigaction(s, &all[s], NULL);
// }
import "C"

// keepSignals calls f and puts the process's signal handlers back as they were:
// CUDA installs its own while it starts, without SA_ONSTACK, and the next
// Ctrl-C would end the Go runtime in a panic (yalue/onnxruntime_go #140).
func keepSignals(f func() error) error {
	var all [C.SIGNALS + 1]C.struct_sigaction
	C.signals_save(&all[0])
	defer C.signals_restore(&all[0])
	return f()
}
