package oip

import (
	"slices"
	"testing"
)

func TestFloatsReadsFlatAndNestedData(t *testing.T) {
	want := []float32{1, 2.5, -3, 4e-2, 5, 6}
	for _, data := range []string{
		"[1,2.5,-3,4e-2,5,6]",
		" [ 1, 2.5,\n-3, 4e-2, 5, 6 ] ",
		"[[1,2.5,-3],[0.04,5,6]]",
	} {
		got, err := Floats([]byte(data), []int64{2, 3}, 6)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v", data, got, err)
		}
	}
	if got, err := Floats([]byte("[[[[7]]]]"), []int64{1, 1, 1, 1}, 1); err != nil || got[0] != 7 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestFloatsRefusesWhatContradictsTheShape(t *testing.T) {
	for _, data := range []string{
		"", "null", "3", "{}", "[]", "[1,2,3,4,5]", "[1,2,3,4,5,6,7]", "[[1,2,3,4,5,6]]",
		"[[1,2],[3,4],[5,6]]", "[[1,2,3],[4,5]]", "[[1,2,3],4,5,6]", "[1,2,3,4,5,6]]", "[1,2,3,4,5,6",
		"[1,2,3,4,5,NaN]", `[1,2,3,4,5,"6"]`, "[1,2,3,4,5,1e99]", "[1,,2,3,4,5]", "[1,2,3,4,5,6,]",
		"[[[1,2,3],[4,5,6]]]", "[1,2,3,4,5,--6]",
	} {
		if got, err := Floats([]byte(data), []int64{2, 3}, 6); err == nil {
			t.Errorf("%q was read as %v", data, got)
		}
	}
}

func TestElementsRefusesShapesThatAreNone(t *testing.T) {
	if n, err := Elements([]int64{2, 3, 4}, 24); err != nil || n != 24 {
		t.Errorf("got %d, %v", n, err)
	}
	for _, shape := range [][]int64{{-1, 3}, {0}, {25}, {5, 5}, {1 << 62, 1 << 62}} {
		if n, err := Elements(shape, 24); err == nil {
			t.Errorf("%v has %d elements", shape, n)
		}
	}
}
