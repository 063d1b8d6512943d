package oip

import "testing"

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
