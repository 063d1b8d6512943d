package gate

import (
	"strings"
	"testing"

	"github.com/penstock-ml/penstock/internal/verdict"
)

func TestRelease(t *testing.T) {
	result := func(command, stage string, v verdict.Verdict) verdict.Result {
		r := verdict.Result{
			Schema: verdict.Schema, Command: command, Verdict: v, Reason: verdict.Reason{Code: "x-" + command, Text: "because"}, RunKey: "k",
			Subjects: map[string]string{"model": "m"}, Outputs: map[string]string{},
		}
		if stage != "" {
			r.Outputs[StageOutput] = stage
		}
		return r
	}
	offline := func(v verdict.Verdict) verdict.Result { return result("gate", Offline, v) }
	load := func(v verdict.Verdict) verdict.Result { return result("loadtest", "", v) }
	change := func(r verdict.Result, f func(*verdict.Result)) verdict.Result {
		f(&r)
		return r
	}
	other := func(r *verdict.Result) { r.Subjects = map[string]string{"model": "other"} }
	for _, c := range []struct {
		name string
		from []verdict.Result
		want verdict.Verdict // empty: an error
		code string          // or a part of the error's text
	}{
		{"both pass", []verdict.Result{offline(verdict.Pass), load(verdict.Pass)}, verdict.Pass, "released"},
		{"in any order", []verdict.Result{load(verdict.Pass), offline(verdict.Pass)}, verdict.Pass, "released"},
		{"load test rejects", []verdict.Result{offline(verdict.Pass), load(verdict.Reject)}, verdict.Reject, "x-loadtest"},
		{"load test inconclusive", []verdict.Result{offline(verdict.Pass), load(verdict.Inconclusive)}, verdict.Inconclusive, "x-loadtest"},
		{"a rejection outweighs doubt", []verdict.Result{offline(verdict.Inconclusive), load(verdict.Reject)}, verdict.Reject, "x-loadtest"},
		{"gate rejects", []verdict.Result{offline(verdict.Reject), load(verdict.Pass)}, verdict.Reject, "x-gate"},
		{"nothing", nil, "", "missing"},
		{"no load test", []verdict.Result{offline(verdict.Pass)}, "", "loadtest is missing"},
		{"no gate", []verdict.Result{load(verdict.Pass)}, "", "gate-offline is missing"},
		{"the gate twice", []verdict.Result{offline(verdict.Pass), offline(verdict.Pass), load(verdict.Pass)}, "", "twice"},
		{"something else", []verdict.Result{offline(verdict.Pass), load(verdict.Pass), result("evaluate", "", verdict.Pass)}, "", "no evidence"},
		{"the release gate itself", []verdict.Result{result("gate", ReleaseName, verdict.Pass), load(verdict.Pass)}, "", "no evidence"},
		{"a gate without a stage", []verdict.Result{result("gate", "", verdict.Pass), load(verdict.Pass)}, "", "no evidence"},
		{"a broken load test", []verdict.Result{offline(verdict.Pass), load(verdict.Error)}, "", "no judgement"},
		{"an unknown verdict", []verdict.Result{offline(verdict.Pass), load("ok")}, "", "no judgement"},
		{"an empty verdict", []verdict.Result{offline(""), load(verdict.Pass)}, "", "no judgement"},
		{"another schema", []verdict.Result{change(offline(verdict.Pass), func(r *verdict.Result) { r.Schema = 2 }), load(verdict.Pass)}, "", "schema"},
		{"another model", []verdict.Result{offline(verdict.Pass), change(load(verdict.Pass), other)}, "", "different models"},
		{"no model", []verdict.Result{offline(verdict.Pass), change(load(verdict.Pass), func(r *verdict.Result) { r.Subjects = nil })}, "", "no model digest"},
		{"no model at all", []verdict.Result{
			change(offline(verdict.Pass), func(r *verdict.Result) { r.Subjects = nil }),
			change(load(verdict.Pass), func(r *verdict.Result) { r.Subjects = nil }),
		}, "", "no model digest"},
		{"another run", []verdict.Result{offline(verdict.Pass), change(load(verdict.Pass), func(r *verdict.Result) { r.RunKey = "k2" })}, "", "run k2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, model, err := Release(c.from)
			if c.want == "" {
				if err == nil || !strings.Contains(err.Error(), c.code) || d.Verdict != "" || model != "" {
					t.Fatalf("verdict %q, error %v; wanted an error with %q", d.Verdict, err, c.code)
				}
				if r := verdict.FromError(err); r.Reason.Code != WrongEvidence {
					t.Errorf("reason code %s", r.Reason.Code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d.Verdict != c.want || d.Reason.Code != c.code || model != "m" {
				t.Errorf("%s (%s) for model %q, wanted %s (%s)", d.Verdict, d.Reason.Code, model, c.want, c.code)
			}
		})
	}
}
