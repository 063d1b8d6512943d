package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/penstock-ml/penstock/serve/service"
)

// timingHeader is that of Server Timing (w3.org/TR/server-timing).
const timingHeader = "Server-Timing"

// timed writes the phases and the whole, in milliseconds.
func timed(h http.Header, phases []service.Phase, whole time.Duration) {
	text := make([]byte, 0, 160)
	for _, p := range phases {
		text = append(duration(text, p.Name, p.Took), ", "...)
	}
	h.Set(timingHeader, string(duration(text, "total", whole)))
}

func duration(text []byte, name string, d time.Duration) []byte {
	text = append(append(text, name...), ";dur="...)
	return strconv.AppendFloat(text, float64(d)/float64(time.Millisecond), 'f', 3, 64)
}
