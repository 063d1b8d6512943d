package main

import (
	"strings"
	"testing"
)

func TestParseJoinsMetricsWithTheirBounds(t *testing.T) {
	rows, err := parse(`goos: linux
BenchmarkComparison/2000-rows-2   	     100	  1500000 ns/op	 2000000 ns/op-bound	 512 B/op	 0.7 s/peer	 0.5 s/peer-bound
PASS
`)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 3 {
		t.Fatalf("%d rows: %+v", len(rows), rows)
	}
	if r := rows[0]; r.Name != "Comparison/2000-rows" || r.Unit != "ns/op" || r.Value != 1.5e6 || r.Bound == nil || *r.Bound != 2e6 || !*r.Holds {
		t.Errorf("first row %+v", r)
	}
	if r := rows[1]; r.Unit != "B/op" || r.Bound != nil || r.Holds != nil {
		t.Errorf("a row without a bound got one: %+v", r)
	}
	if err := broken(rows); err == nil || !strings.Contains(err.Error(), "0.7 s/peer") || strings.Contains(err.Error(), "ns/op") {
		t.Errorf("error %v; want the one bound that does not hold", err)
	}
}

func TestParseRefusesSilenceAndOrphanBounds(t *testing.T) {
	if _, err := parse("PASS\nok x 0.1s\n"); err == nil {
		t.Error("no benchmark passed as a result")
	}
	if _, err := parse("BenchmarkX 1 5 ns/op 7 rows/s-bound\n"); err == nil || !strings.Contains(err.Error(), "rows/s") {
		t.Errorf("error %v; want the bound without a value", err)
	}
}
