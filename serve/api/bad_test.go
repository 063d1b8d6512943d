package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/bundle/bundletest"
	"github.com/penstock-ml/penstock/internal/imaging"
)

// bad is a request that is its sender's fault.
type bad struct {
	header header
	path   string
	body   []byte
	status int
}

// badRequests are the ways in which senders get it wrong; those of pictures
// and tensors stand one by one in imaging and oip.
func badRequests(t *testing.T) map[string]bad {
	t.Helper()
	picture := bright(t)
	infer := "/v2/models/test/infer"
	text := func(format string, args ...any) []byte { return fmt.Appendf(nil, format, args...) }
	tensor := func(shape, data string) []byte {
		return text(`{"inputs":[{"name":"input","datatype":"FP32","shape":%s,"data":%s}]}`, shape, data)
	}
	binary := func(size string) []byte {
		return append(text(`{"inputs":[{"name":"input","datatype":"FP32","shape":[1,1,8,8],"parameters":{"binary_data_size":%s}}]}`, size), make([]byte, 256)...)
	}
	head := func(body []byte) header { // of binary with 256 bytes behind
		return header{"Inference-Header-Content-Length": fmt.Sprint(len(body) - 256)}
	}
	lying := append([]byte(nil), picture...)
	lying[20] ^= 0x40 // the height in the header, whose sum is then wrong
	all := map[string]bad{
		"empty":             {nil, predictPath, nil, 400},
		"truncated":         {nil, predictPath, picture[:len(picture)/2], 400},
		"lying header":      {nil, predictPath, lying, 400},
		"bomb":              {nil, predictPath, hugePNG(), 413},
		"no picture":        {nil, predictPath, []byte("GIF89a"), 415},
		"too many bytes":    {nil, predictPath, make([]byte, imaging.DefaultLimits.Bytes+formRoom+1), 413},
		"unknown model":     {nil, "/v1/models/other/predict", picture, 404},
		"unknown version":   {nil, "/v2/models/test/versions/2/infer", inferBody(1, 0, ""), 404},
		"unknown query":     {nil, infer + "?explain=true", inferBody(1, 0, ""), 400},
		"JSON depth":        {nil, infer, []byte(strings.Repeat(`{"parameters":`, 5000)), 400},
		"JSON cut":          {nil, infer, inferBody(1, 0.5, "")[:200], 400},
		"NaN":               {nil, infer, tensor("[1,1,8,8]", "[NaN]"), 400},
		"negative size":     {nil, infer, tensor("[1,1,-8,-8]", "[1]"), 400},
		"huge size":         {nil, infer, tensor("[9223372036854775807,9223372036854775807]", "[1]"), 400},
		"wrong shape":       {nil, infer, tensor("[1,1,1,1]", "[1]"), 400},
		"duplicated field":  {nil, infer, text(`{"id":"a","id":"b","inputs":[]}`), 400},
		"binary too short":  {head(binary("256")), infer, binary("256")[:300], 400},
		"binary, negative":  {head(binary("-256")), infer, binary("-256"), 400},
		"binary, NaN":       {head(binary("NaN")), infer, binary("NaN"), 400},
		"binary, wrong":     {head(binary("255")), infer, binary("255"), 400},
		"header too long":   {header{"Inference-Header-Content-Length": "99999"}, infer, binary("256"), 400},
		"header negative":   {header{"Inference-Header-Content-Length": "-1"}, infer, binary("256"), 400},
		"header no number":  {header{"Inference-Header-Content-Length": "1e3"}, infer, binary("256"), 400},
		"header huge":       {header{"Inference-Header-Content-Length": "99999999999999999999"}, infer, binary("256"), 400},
		"compressed":        {header{"Content-Encoding": "deflate"}, infer, inferBody(1, 0, ""), 415},
		"negative deadline": {header{"Penstock-Timeout-Ms": "-5"}, infer, inferBody(1, 0, ""), 400},
	}
	return all
}

// formRoom is what a form may add to its file.
const formRoom = 64 << 10

func TestBadRequestsAreToldOneByOne(t *testing.T) {
	w := serve(t, bundletest.Mean)
	for name, b := range badRequests(t) {
		w.counts.take()
		a := w.send(b.header, "POST", b.path, b.body)
		if a.status != b.status {
			t.Errorf("%s: %d, want %d: %s", name, a.status, b.status, a.body)
		}
		if got := w.counts.take(); !strings.HasSuffix(got, " client_error") || strings.Contains(got, ",") {
			t.Errorf("%s: counted %q", name, got)
		}
	}
}
