package oip_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/penstock-ml/penstock/internal/oip"
)

// binaryBody is JSON with bytes behind it.
func binaryBody(header string, behind ...byte) (io.Reader, int64, int) {
	return strings.NewReader(header + string(behind)), int64(len(header) + len(behind)), len(header)
}

func announced(datatype, shape string, size any) string {
	return fmt.Sprintf(`{"name":"x","datatype":%q,"shape":%s,"parameters":{"binary_data_size":%v}}`, datatype, shape, size)
}

func TestBinaryTensorsAreReadBehindTheJSON(t *testing.T) {
	header := `{"inputs":[` + announced("FP16", "[1,2]", 4) + `,{"name":"y","datatype":"INT8","shape":[1],"data":[5]},` +
		strings.Replace(announced("BYTES", "[2]", 9), `"x"`, `"z"`, 1) + `],"parameters":{"binary_data_output":true}}`
	behind := append([]byte{1, 2, 3, 4}, append(bytesOf(uint32(1)), append([]byte("a"), bytesOf(uint32(0))...)...)...)
	for _, length := range []int64{int64(len(header) + len(behind)), -1} {
		body, _, n := binaryBody(header, behind...)
		r, err := oip.ReadRequest(iotest.OneByteReader(body), length, n, small, nil)
		if err != nil || !r.BinaryOutputs {
			t.Fatalf("%v, %v", r, err)
		}
		if !bytes.Equal(r.Inputs[0].Data, []byte{1, 2, 3, 4}) || !bytes.Equal(r.Inputs[1].Data, []byte{5}) || !bytes.Equal(r.Inputs[2].Data, behind[4:]) {
			t.Errorf("got %v", r.Inputs)
		}
	}
}

func TestBinarySizesThatDisagreeAreTheSendersFault(t *testing.T) {
	for _, c := range []struct {
		tensor string
		behind string
		says   string
	}{
		{announced("FP32", "[2]", 8), "1234567", "7 bytes are left"},
		{announced("FP32", "[2]", 8), "123456789", "sizes disagree"},
		{announced("FP32", "[2]", 4), "1234", "the shape [2] of FP32 has 8"},
		{announced("FP32", "[2]", -8), "12345678", "binary_data_size is -8"},
		{announced("FP32", "[2]", 8.5), "12345678", "binary_data_size is 8.5"},
		{announced("FP32", "[2]", `"8"`), "12345678", "binary_data_size is 8, want an integer"},
		{announced("FP32", "[2]", "9223372036854775807"), "12345678", "has 8"},
		{announced("BYTES", "[1]", "9223372036854775807"), "12345678", "bytes are left"},
		{announced("BYTES", "[1]", 5), "\x02\x00\x00\x00a", "element 0 of 1 goes beyond"},
		{announced("BYTES", "[1]", 5), "\xff\xff\xff\xffa", "goes beyond"},
		{announced("BYTES", "[1]", 6), "\x01\x00\x00\x00ab", "1 bytes follow"},
		{announced("BYTES", "[2]", 5), "\x01\x00\x00\x00a", "element 1 of 2"},
		{announced("BOOL", "[2]", 2), "\x01\x02", "element 1 is 2"},
	} {
		body, length, n := binaryBody(`{"inputs":[`+c.tensor+`]}`, []byte(c.behind)...)
		all, _ := io.ReadAll(body) // of a string
		for _, length := range []int64{length, -1} {
			_, err := oip.ReadRequest(bytes.NewReader(all), length, n, small, nil)
			var fault *oip.BadRequest
			if !errors.As(err, &fault) || length >= 0 && !strings.Contains(fault.Text, c.says) {
				t.Errorf("%s, length %d: %v does not say %q", c.tensor, length, err, c.says)
			}
		}
	}
	header := `{"inputs":[` + announced("FP32", "[1]", 4) + `]}`
	for n, says := range map[int]string{0: "is 0", 2000: "at most 1024", len(header) + 5: "but the body has"} {
		_, err := oip.ReadRequest(strings.NewReader(header+"1234"), int64(len(header)+4), n, small, nil)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("a header of %d bytes: %v does not say %q", n, err, says)
		}
	}
}

func TestResponseAnnouncesWhatStandsBehindIt(t *testing.T) {
	half := oip.Tensor{Name: "h", Datatype: oip.BF16, Shape: []int64{1}, Data: []byte{1, 2}}
	whole := oip.Tensor{Name: "w", Datatype: oip.INT8, Shape: []int64{2}, Data: []byte{3, 0xff}}
	request := oip.Request{Outputs: []oip.Requested{{Name: "h", Binary: true}, {Name: "w"}}}
	body, err := oip.EncodeResponse(oip.Response{ID: "7", Model: "m", Version: "v", Outputs: []oip.Tensor{half, whole}}, request, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"7","model_name":"m","model_version":"v","outputs":[` +
		`{"name":"h","datatype":"BF16","shape":[1],"parameters":{"binary_data_size":2}},{"name":"w","datatype":"INT8","shape":[2],"data":[3,-1]}]}`
	var all bytes.Buffer
	n, err := body.WriteTo(&all)
	if err != nil || all.String() != want+"\x01\x02" || int(n) != body.Length() || body.HeaderLength() != len(want) || body.ContentType() != "application/octet-stream" {
		t.Errorf("got %s, %v; header of %d bytes", all.String(), err, body.HeaderLength())
	}
	empty := oip.Tensor{Name: "e", Datatype: oip.FP32, Shape: []int64{0, 8}}
	body, err = oip.EncodeResponse(oip.Response{Model: "m", Outputs: []oip.Tensor{empty}}, oip.Request{}, nil)
	if err != nil || !strings.HasSuffix(string(body.JSON), `"shape":[0,8],"data":[]}]}`) {
		t.Errorf("got %s, %v", body.JSON, err)
	}
	if back, err := oip.ReadResponse(bytes.NewReader(body.JSON), -1, -1, small, nil); err != nil || len(back.Outputs[0].Data) != 0 {
		t.Errorf("got %v, %v", back, err)
	}
}

func TestWhatJSONCannotHoldIsSaidWithTheRemedy(t *testing.T) {
	var fault *oip.BadRequest
	_, err := oip.EncodeResponse(oip.Response{Outputs: []oip.Tensor{{Name: "h", Datatype: oip.FP16, Shape: []int64{1}, Data: []byte{1, 2}}}}, oip.Request{}, nil)
	if !errors.As(err, &fault) || !strings.Contains(err.Error(), "binary_data") {
		t.Errorf("FP16: %v", err)
	}
	_, err = oip.EncodeResponse(oip.Response{Outputs: []oip.Tensor{{Name: "t", Datatype: oip.BYTES, Shape: []int64{1}, Data: []byte("\x01\x00\x00\x00\xff")}}}, oip.Request{}, nil)
	if !errors.As(err, &fault) {
		t.Errorf("BYTES: %v", err)
	}
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		data := oip.Bytes([]float32{1, float32(f)})
		_, err := oip.EncodeResponse(oip.Response{Outputs: []oip.Tensor{{Name: "y", Datatype: oip.FP32, Shape: []int64{2}, Data: data}}}, oip.Request{}, nil)
		if !errors.Is(err, oip.ErrNotJSON) || !strings.Contains(err.Error(), `"y": element 1`) {
			t.Errorf("%v: %v", f, err)
		}
	}
}
