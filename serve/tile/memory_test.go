package tile

import (
	"bytes"
	"image/png"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/serve/service"
)

// resident reads a line of /proc/self/status, in bytes.
func resident(t *testing.T, name string) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	must(t, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			must(t, err)
			return kilobytes << 10
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// TestRunsStayWithinTheirMemory enlarges pictures of several sizes, two at a time, the largest
// of which would take many times the bound at once, and looks at the greatest
// resident memory meanwhile.
func TestRunsStayWithinTheirMemory(t *testing.T) {
	const bound = 64 << 20
	m := open(t, networks["edsr"])
	tr := traits(t, m)
	e := New(Bounds{Memory: bound, Runs: 2})
	_, err := e.Enlarge(t.Context(), m, picture(t, 20, 20)) // what every run needs
	must(t, err)
	debug.FreeOSMemory()
	before := resident(t, "VmRSS") // once: what the allocator keeps adds up
	for _, size := range [][2]int{{90, 70}, {300, 200}, {211, 333}, {1500, 1000}} {
		file := picture(t, size[0], size[1])
		debug.FreeOSMemory()
		must(t, os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)) // the peak begins anew
		var group errgroup.Group
		var answer *service.Enlargement
		group.Go(func() (err error) { answer, err = e.Enlarge(t.Context(), m, file); return err })
		group.Go(func() error { _, err := e.Enlarge(t.Context(), m, file); return err })
		must(t, group.Wait())
		grown := resident(t, "VmHWM") - before
		pixels := int64(size[0] * size[1])
		// beside the runs of both: the picture decoded and copied, rows of the answer,
		// the file, and as much again that the collector has not seen yet
		beside := 4*(8*pixels+int64(cap(answer.PNG))) + 24<<20
		t.Logf("%4d x %4d: %d MB more at the peak, %d MB of them beside the runs at most; at once the runs would take %d MB",
			size[0], size[1], grown>>20, beside>>20, int64(tr.PerPixel*float64(pixels))>>20)
		if grown > bound+beside {
			t.Errorf("%v: %d MB more, the bound of the runs is %d MB and the rest %d MB", size, grown>>20, bound>>20, beside>>20)
		}
	}
	if whole := tr.PerPixel * 1500 * 1000; whole < 8*bound {
		t.Errorf("the largest picture would take %.0f MB at once: the bound is not tried", whole/(1<<20))
	}
}

func picture(t *testing.T, width, height int) []byte {
	t.Helper()
	var file bytes.Buffer
	must(t, png.Encode(&file, bundletest.ColourPicture(width, height, false)))
	return file.Bytes()
}
