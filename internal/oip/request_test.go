package oip_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/penstock-ml/penstock/internal/oip"
)

// small are limits that a test can reach.
var small = oip.Limits{Bytes: 4096, Header: 1024, Elements: 64, Tensors: 3, Depth: 8}

func readJSON(body string) (oip.Request, error) {
	return oip.ReadRequest(strings.NewReader(body), int64(len(body)), -1, small, nil)
}

func tensorJSON(datatype, shape, data string) string {
	return fmt.Sprintf(`{"inputs":[{"name":"x","datatype":%q,"shape":%s,"data":%s}]}`, datatype, shape, data)
}

// bytesOf is values, little-endian.
func bytesOf(values ...any) []byte {
	var b []byte
	for _, v := range values {
		b, _ = binary.Append(b, binary.LittleEndian, v) // of fixed size all
	}
	return b
}

func TestEveryDatatypeIsReadAndWritten(t *testing.T) {
	for _, c := range []struct {
		datatype oip.Datatype
		data     string
		want     []byte
	}{
		{oip.BOOL, `[true,false]`, []byte{1, 0}},
		{oip.INT8, `[-128,127]`, bytesOf(int8(-128), int8(127))},
		{oip.INT16, `[-32768,32767]`, bytesOf(int16(-32768), int16(32767))},
		{oip.INT32, `[-2147483648,2147483647]`, bytesOf(int32(math.MinInt32), int32(math.MaxInt32))},
		{oip.INT64, `[-9223372036854775808,9223372036854775807]`, bytesOf(int64(math.MinInt64), int64(math.MaxInt64))},
		{oip.UINT8, `[0,255]`, []byte{0, 255}},
		{oip.UINT16, `[0,65535]`, bytesOf(uint16(0), uint16(65535))},
		{oip.UINT32, `[0,4294967295]`, bytesOf(uint32(0), uint32(math.MaxUint32))},
		{oip.UINT64, `[0,18446744073709551615]`, bytesOf(uint64(0), uint64(math.MaxUint64))},
		{oip.FP32, `[0.1,-3.4028235e+38]`, bytesOf(float32(0.1), float32(-math.MaxFloat32))},
		{oip.FP64, `[0.1,5e-324]`, bytesOf(0.1, math.SmallestNonzeroFloat64)},
		{oip.BYTES, `["","h\u00e9\"llo"]`, append(bytesOf(uint32(0), uint32(7)), "hé\"llo"...)},
	} {
		r, err := readJSON(tensorJSON(string(c.datatype), "[2]", c.data))
		if err != nil || !bytes.Equal(r.Inputs[0].Data, c.want) {
			t.Errorf("%s: read %x, %v, want %x", c.datatype, r.Inputs, err, c.want)
			continue
		}
		body, err := oip.EncodeResponse(oip.Response{Model: "m", Version: "1", Outputs: r.Inputs}, r, nil)
		if err != nil || body.HeaderLength() != -1 || !json.Valid(body.JSON) {
			t.Fatalf("%s: %s, %v", c.datatype, body.JSON, err)
		}
		back, err := oip.ReadResponse(bytes.NewReader(body.JSON), -1, -1, small, nil)
		if err != nil || !reflect.DeepEqual(back.Outputs, r.Inputs) {
			t.Errorf("%s: %s came back as %v, %v", c.datatype, body.JSON, back.Outputs, err)
		}
	}
}

func TestDataIsFlatOrNestedAndFieldsComeInAnyOrder(t *testing.T) {
	want := oip.Bytes([]float32{1, 2.5, -3, 0.04, 5, 6})
	for _, body := range []string{
		`{"inputs":[{"name":"x","datatype":"FP32","shape":[2,3],"data":[1,2.5,-3,4e-2,5,6]}]}`,
		` { "inputs" : [ { "name" : "x" , "datatype" : "FP32" , "shape" : [ 2 , 3 ] , "data" : [ [ 1 , 2.50 , -3.0 ] ,` + "\n\t[ 0.04 , 5e0,6] ] } ] } \r\n",
		`{"outputs":[],"inputs":[{"data":[[1,2.5,-3],[4E-2,5,6]],"parameters":{},"datatype":"FP32","name":"x","shape":[2,3]}],"id":"7"}`,
		`{"later":{"a":[null,{"b":"]}"}]},"inputs":[{"data":[1,2.5,-3,0.04,5,6],"unknown":[[]],"shape":[2,3],"datatype":"FP32","name":"x"}]}`,
	} {
		r, err := readJSON(body)
		if err != nil || !bytes.Equal(r.Inputs[0].Data, want) {
			t.Errorf("%s: %v, %v", body, r.Inputs, err)
		}
	}
	r, err := readJSON(tensorJSON("INT8", "[]", "[7]"))
	if err != nil || len(r.Inputs[0].Shape) != 0 || r.Inputs[0].Data[0] != 7 {
		t.Errorf("a scalar was read as %v, %v", r.Inputs, err)
	}
}

func TestRequestKeepsIDParametersAndOutputs(t *testing.T) {
	r, err := readJSON(`{"id":"a\nb","parameters":{"s":"x","i":-7,"u":18446744073709551615,"f":1.5,"b":true,"binary_data_output":true},
		"outputs":[{"name":"p","parameters":{"binary_data":false}},{"name":"q"}],"inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":[1]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"s": "x", "i": int64(-7), "u": uint64(math.MaxUint64), "f": 1.5, "b": true, "binary_data_output": true}
	if r.ID != "a\nb" || !reflect.DeepEqual(r.Parameters, want) {
		t.Errorf("got %q, %v", r.ID, r.Parameters)
	}
	if r.Binary("p") || !r.Binary("q") || !r.Binary("another") || len(r.Outputs) != 2 {
		t.Errorf("got outputs %+v", r.Outputs)
	}
}

func TestNullIsALeftOutOption(t *testing.T) {
	r, err := readJSON(`{"id":null,"parameters":null,"outputs":null,
		"inputs":[{"name":"x","datatype":"INT8","shape":[1],"parameters":{"content_type":"np","headers":null},"data":[1]}]}`)
	if err != nil || r.ID != "" || len(r.Parameters) != 0 || r.Outputs != nil || len(r.Inputs) != 1 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestWhatContradictsTheProtocolIsTheSendersFault(t *testing.T) {
	one := `{"name":"x","datatype":"FP32","shape":[1],"data":[1]}`
	for _, c := range []struct{ body, says string }{
		{``, "no object"},
		{`[]`, "no object"},
		{`{"inputs":[` + one, "want , or ]"},
		{`{"inputs":[` + one + `]} x`, "goes on after its object"},
		{`{"inputs":[` + one + `]}{}`, "goes on after its object"},
		{`{"inputs":[` + one + `],}`, "field's name"},
		{`{"inputs":[` + one + `],"inputs":[` + one + `]}`, `"inputs" twice`},
		{`{"inputs":[` + one + `],"other":{"a":1,"a":2}}`, `"a" twice`},
		{`{"inputs":[` + one + `],"other":[[[[[[[[[1]]]]]]]]]}`, "too deep"},
		{`{"inputs":[` + strings.Repeat(one+",", 3) + one + `]}`, "two tensors"},
		{`{"inputs":[],"id":"a"}`, "no inputs"},
		{`{}`, "no inputs"},
		{`{"inputs":{}}`, "inputs is no array"},
		{`{"inputs":[1]}`, "a tensor is no object"},
		{`{"inputs":[` + one + `],"id":7}`, "id is no string"},
		{`{"inputs":[` + one + `],"id":"` + strings.Repeat("a", 4097) + `"}`, "body has more"},
		{`{"inputs":[` + one + `],"parameters":{"a":[1]}}`, "neither a string"},
		{`{"inputs":[` + one + `],"parameters":{"a":{}}}`, "neither a string"},
		{`{"inputs":null}`, "inputs is no array"},
		{`{"inputs":[` + one + `],"parameters":{"a":1e999}}`, "out of range"},
		{`{"inputs":[` + one + `],"parameters":{"binary_data_output":1}}`, "want true or false"},
		{`{"inputs":[` + one + `],"outputs":[{"name":"y"},{"name":"y"}]}`, `"y" is asked for twice`},
		{`{"inputs":[` + one + `],"outputs":[{}]}`, "no name"},
		{`{"inputs":[` + one + `],"outputs":[{"name":"y","parameters":{"classification":3}}]}`, "classification is not offered"},
		{`{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1],"data":[1]}]}`, `"data" twice`},
		{`{"inputs":[{"datatype":"FP32","shape":[1],"data":[1]}]}`, "no name"},
		{`{"inputs":[{"name":"x","shape":[1],"data":[1]}]}`, "no datatype"},
		{`{"inputs":[{"name":"x","datatype":"FP32","data":[1]}]}`, "no shape"},
		{`{"inputs":[{"name":"x","datatype":"FP32","shape":[1]}]}`, "neither data"},
		{`{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}`, "Inference-Header-Content-Length"},
		{`{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1],"parameters":{"binary_data_size":4}}]}`, "both data and binary_data_size"},
		{`{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"shared_memory_region":"a"}}]}`, "shared memory is not offered"},
		{"{\"inputs\":[{\"name\":\"x\ny\"}]}", "control character"},
		{"{\"inputs\":[{\"name\":\"\xff\"}]}", "no UTF-8"},
		{`{"inputs":[{"name":"\q"}]}`, "no JSON string"},
		{`{"inputs":[{"name":"x`, "does not end"},
		{tensorJSON("FLOAT", "[1]", "[1]"), `datatype "FLOAT" is none`},
		{tensorJSON("fp32", "[1]", "[1]"), `datatype "fp32" is none`},
		{tensorJSON("FP16", "[1]", "[1]"), "FP16 cannot travel as JSON"},
		{tensorJSON("BF16", "[1]", "[1]"), "binary tensor extension"},
		{tensorJSON("FP32", "[-1]", "[1]"), `"-1" is no dimension`},
		{tensorJSON("FP32", "[0]", "[]"), "at least 1"},
		{tensorJSON("FP32", "[1.0]", "[1]"), `"1.0" is no dimension`},
		{tensorJSON("FP32", "[9223372036854775808]", "[1]"), "is no dimension"},
		{tensorJSON("FP32", "[4294967296,4294967296]", "[1]"), "more than 64 elements"},
		{tensorJSON("FP32", "[65]", "[1]"), "more than 64 elements"},
		{tensorJSON("FP32", "[["+strings.Repeat("1,", 64)+"1]]", "[1]"), "no number"},
		{tensorJSON("FP32", "["+strings.Repeat("1,", 64)+"1]", "[1]"), "more than 64 elements"},
		{tensorJSON("FP32", "[64]", "[1]"), "the data has fewer"},
		{tensorJSON("FP32", "[2]", "[1]"), "fewer elements than the shape"},
		{tensorJSON("FP32", "[2]", "[1,2,3]"), "more elements than the shape"},
		{tensorJSON("FP32", "[2,2]", "[[1,2],[3]]"), "fewer elements"},
		{tensorJSON("FP32", "[2,2]", "[[1,2]]"), "fewer elements"},
		{tensorJSON("FP32", "[2,2]", "[[1,2],[3,4,5]]"), "more elements"},
		{tensorJSON("FP32", "[2,2]", "[[1,2],[3,4],[5,6]]"), "more elements"},
		{tensorJSON("FP32", "[2,2]", "[[[1,2]],[[3,4]]]"), "nested 3 deep"},
		{tensorJSON("FP32", "[2,2]", "[[1,2],3,4]"), "no array"},
		{tensorJSON("FP32", "[2,1]", "[1,[2]]"), `element 1 is no FP32: "[2`},
		{tensorJSON("FP32", "[2]", "1,2"), "no array"},
		{tensorJSON("FP32", "[2]", "null"), "no array"},
		{tensorJSON("FP32", "[2]", "[1 2]"), `no FP32: "2"`},
		{tensorJSON("FP32", "[2]", "[1,,2]"), "no FP32"},
		{tensorJSON("FP32", "[2]", "[1,2,]"), "more elements"},
		{tensorJSON("FP32", "[2]", "[1,NaN]"), "neither NaN nor infinities"},
		{tensorJSON("FP32", "[2]", "[-Infinity,1]"), "neither NaN nor infinities"},
		{tensorJSON("FP32", "[2]", "[1,null]"), "neither NaN nor infinities nor null"},
		{tensorJSON("FP32", "[2]", `[1,"2"]`), "no FP32"},
		{tensorJSON("FP32", "[2]", "[1,1e39]"), `no FP32: "1e39"`},
		{tensorJSON("FP32", "[2]", "[1,3.5e38]"), "no FP32"},
		{tensorJSON("FP64", "[2]", "[1,1e999]"), "no FP64"},
		{tensorJSON("FP32", "[2]", "[01,2]"), "no FP32"},
		{tensorJSON("FP32", "[2]", "[1.,2]"), "no FP32"},
		{tensorJSON("FP32", "[2]", "[.5,2]"), "no FP32"},
		{tensorJSON("FP32", "[2]", "[1e,2]"), "no FP32"},
		{tensorJSON("FP32", "[2]", "[+1,2]"), "no FP32"},
		{tensorJSON("FP32", "[2]", "[0x1,2]"), `no FP32: "x1"`},
		{tensorJSON("FP32", "[2]", "[1_0,2]"), "no FP32"},
		{tensorJSON("INT8", "[2]", "[1,128]"), `no INT8: "128"`},
		{tensorJSON("INT8", "[2]", "[1,1.0]"), "no INT8"},
		{tensorJSON("INT64", "[2]", "[1,9223372036854775808]"), "no INT64"},
		{tensorJSON("UINT8", "[2]", "[1,-1]"), "no UINT8"},
		{tensorJSON("UINT64", "[2]", "[1,18446744073709551616]"), "no UINT64"},
		{tensorJSON("BOOL", "[2]", "[true,1]"), "no BOOL"},
		{tensorJSON("BYTES", "[2]", `["a",1]`), "no BYTES"},
		{tensorJSON("BYTES", "[2]", `["a"]`), "fewer elements"},
		{tensorJSON("BYTES", "[1]", `["a","b"]`), "more elements"},
	} {
		_, err := readJSON(c.body)
		var fault *oip.BadRequest
		if !errors.As(err, &fault) {
			t.Errorf("%.120s: %v is not the sender's fault", c.body, err)
		} else if !strings.Contains(fault.Text, c.says) && !(fault.TooLarge && strings.Contains(c.says, "body has more")) {
			t.Errorf("%.120s: %q does not say %q", c.body, fault.Text, c.says)
		}
	}
}

func TestErrorsNameTheTensor(t *testing.T) {
	_, err := readJSON(tensorJSON("FP32", "[2]", "[1,true]"))
	if want := `"x": element 1 is no FP32: "true", at byte 63`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestFloat32IsTheNearestToWhatIsWritten(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	texts := []string{"0", "-0", "0.0", "-0.0", "1", "16777217", "16777217.0000001", "1.00000005960464477539", "0.000000000000000000000000000000000000011754943508", "3.4028235677973366e38", "1e-46", "-1e-45", "0.1234567890123456", "0.12345678901234567", "123456789012345678901234567890e-20"}
	for range 200_000 {
		f := math.Float32frombits(random.Uint32())
		if f != f || math.IsInf(float64(f), 0) {
			continue
		}
		// beside the middle between two neighbours, too
		middle := (float64(f) + float64(math.Nextafter32(f, 0))) / 2
		texts = append(texts, strconv.FormatFloat(float64(f), 'g', -1, 32), strconv.FormatFloat(float64(f), 'g', 17, 64),
			strconv.FormatFloat(middle, 'g', -1, 64), strconv.FormatFloat(random.NormFloat64(), 'f', random.IntN(20), 64),
			strconv.FormatFloat(float64(float32(random.NormFloat64())), 'f', -1, 64))
	}
	body := tensorJSON("FP32", fmt.Sprintf("[%d]", len(texts)), "["+strings.Join(texts, ",")+"]")
	r, err := oip.ReadRequest(strings.NewReader(body), -1, -1, oip.DefaultLimits, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range oip.Float32s(r.Inputs[0].Data) {
		want, err := strconv.ParseFloat(texts[i], 32)
		if err != nil || math.Float32bits(got) != math.Float32bits(float32(want)) {
			t.Fatalf("%s was read as %v, want %v, %v", texts[i], got, float32(want), err)
		}
	}
}

func TestBodyAboveTheLimitIsTooLargeBeforeItIsRead(t *testing.T) {
	var fault *oip.BadRequest
	_, err := oip.ReadRequest(iotest.ErrReader(errors.New("was read")), small.Bytes+1, -1, small, nil)
	if !errors.As(err, &fault) || !fault.TooLarge {
		t.Errorf("announced: %v", err)
	}
	_, err = oip.ReadRequest(strings.NewReader(strings.Repeat(" ", 1<<20)), -1, -1, small, nil)
	if !errors.As(err, &fault) || !fault.TooLarge {
		t.Errorf("not announced: %v", err)
	}
}

func TestReadersOwnErrorIsNotTheSendersFault(t *testing.T) {
	broken := errors.New("connection reset")
	for _, n := range []int{-1, 10} {
		_, err := oip.ReadRequest(iotest.ErrReader(broken), 100, n, small, nil)
		var fault *oip.BadRequest
		if errors.As(err, &fault) || !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
}

func TestReadingAllocatesNothingInProportionToTheData(t *testing.T) {
	body, _ := sample(t, false)
	var l lender
	read := func() {
		l.next = 0
		if _, err := oip.ReadRequest(bytes.NewReader(body), int64(len(body)), -1, oip.DefaultLimits, l.lend); err != nil {
			t.Fatal(err)
		}
	}
	read()
	if len(l.buffers) != 2 {
		t.Errorf("%d buffers were borrowed, want the text's and the tensor's", len(l.buffers))
	}
	result := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			read()
		}
	})
	if n := result.AllocedBytesPerOp(); n > 4096 && n > int64(8<<20/result.N) {
		t.Errorf("%d bytes are allocated beside the borrowed buffers", n)
	}
}

func TestABodyOfUnknownLengthHoldsOneBuffer(t *testing.T) {
	held, most := 0, 0
	lend := func(n int, before []byte) []byte {
		b := make([]byte, n)
		copy(b, before)
		held += n - len(before)
		most = max(most, held)
		return b
	}
	body := bytes.Repeat([]byte("abcdefg\n"), 1<<17) // 1 MiB
	text, err := oip.ReadText(bytes.NewReader(body), -1, oip.DefaultLimits, lend)
	if err != nil || !bytes.Equal(text, body) || most > 2*len(body) {
		t.Errorf("%d of %d bytes, %d held, %v", len(text), len(body), most, err)
	}
	var fault *oip.BadRequest
	limits := oip.Limits{Bytes: int64(len(body)) - 1}
	if _, err := oip.ReadText(bytes.NewReader(body), -1, limits, nil); !errors.As(err, &fault) || !fault.TooLarge {
		t.Errorf("a byte too many: %v", err)
	}
	limits.Bytes++
	if text, err := oip.ReadText(bytes.NewReader(body), -1, limits, nil); err != nil || !bytes.Equal(text, body) {
		t.Errorf("as many as may be: %v", err)
	}
}
