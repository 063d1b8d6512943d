package verdict

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOnlyAnExplicitVerdictLeavesAnythingButOne(t *testing.T) {
	for _, c := range []struct {
		result Result
		want   int
	}{
		{Result{}, ExitError},
		{Result{Verdict: "passed"}, ExitError},
		{Result{Verdict: "PASS"}, ExitError},
		{Passed("fine"), ExitPass},
		{Rejected("errors", "no"), ExitReject},
		{Undecidable(Invalid, "bad measurement"), ExitInconclusive},
		{FromError(errors.New("broken")), ExitError},
		{FromError(Usage(errors.New("what?"))), ExitUsage},
		{FromError(fmt.Errorf("wrapped: %w", Usage(errors.New("what?")))), ExitUsage},
		{FromError(context.Canceled), ExitError},
		{Result{Verdict: Pass, Reason: Reason{Code: BadUsage}}, ExitPass},
	} {
		if got := c.result.ExitCode(); got != c.want {
			t.Errorf("%q (%s): exit %d, want %d", c.result.Verdict, c.result.Reason.Code, got, c.want)
		}
	}
}

func TestCancelIsToldApartFromFailure(t *testing.T) {
	if got := FromError(fmt.Errorf("train: %w", context.Canceled)).Reason.Code; got != Cancelled {
		t.Errorf("reason %q, want %q", got, Cancelled)
	}
	if got := FromError(errors.New("disk full")).Reason.Code; got != Failed {
		t.Errorf("reason %q, want %q", got, Failed)
	}
}

func TestJoinNeverPassesOnAbsence(t *testing.T) {
	check := func(v Verdict, required bool) Check { return Check{Name: "c", Verdict: v, Required: required} }
	for name, c := range map[string]struct {
		checks []Check
		want   Verdict
	}{
		"nothing asked":                     {nil, Inconclusive},
		"only listed":                       {[]Check{check(Pass, false)}, Inconclusive},
		"listed rejection decides nothing":  {[]Check{check(Pass, true), check(Reject, false)}, Pass},
		"one required inconclusive":         {[]Check{check(Pass, true), check(Inconclusive, true)}, Inconclusive},
		"rejection over inconclusive":       {[]Check{check(Inconclusive, true), check(Reject, true)}, Reject},
		"error over rejection":              {[]Check{check(Error, true), check(Reject, true)}, Error},
		"an unknown word is an error":       {[]Check{check(Pass, true), check("ok", true)}, Error},
		"an empty verdict is an error":      {[]Check{check(Pass, true), check("", true)}, Error},
		"all required passed":               {[]Check{check(Pass, true), check(Pass, true)}, Pass},
		"a listed error does not decide it": {[]Check{check(Pass, true), check(Error, false)}, Pass},
	} {
		if got := Join(c.checks); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestResultFileRoundTripAndUnknownSchemaRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "result.json")
	r := Passed("trained")
	r.Command = "train"
	r.Checks = []Check{{Name: "auroc", Verdict: Pass, Observed: Number(0.5), Interval: &Interval{Low: Number(0.4), Level: 0.95}}}
	if err := r.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	r.Warnings = nil
	if diff := cmp.Diff(r, got); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{`{"schema":2,"command":"x","verdict":"pass"}`, `{"schema":1,"command":"x","verdict":"ok"}`, `{"schema":1,"verdict":"pass"}`, `{`, ``} {
		if _, err := Decode([]byte(text)); err == nil {
			t.Errorf("%q was read as a result", text)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("temporary files stay behind: %v %v", left, err)
	}
}

func TestNumberHoldsNoNaN(t *testing.T) {
	if Number(math.NaN()) != nil || Number(math.Inf(-1)) != nil {
		t.Error("NaN or infinity was taken as an observation")
	}
	if n := Number(0); n == nil || *n != 0 {
		t.Error("zero is an observation")
	}
}
