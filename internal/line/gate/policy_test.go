package gate

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func TestPolicyIsDecodedStrictlyAndValidated(t *testing.T) {
	const text = `
confidence: 0.95
replicates: 2000
seed: 1
evidence: {positive_groups: 10, negative_groups: 10, labels: 2, max_degenerate: 0.05}
bootstrap:
  macro_auroc: {at_least: 0.6}
compare:
  macro_auroc: {margin: 0.02}
batch: {max_drop: 0.05, labels: 2, without_evidence: list}
variant_tolerance: 0.05
`
	var p Policy
	if err := yaml.UnmarshalWithOptions([]byte(text), &p, yaml.Strict(), yaml.DisallowUnknownField()); err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	if want := policy(); fmt.Sprintf("%+v %+v %+v", p.Evidence, *p.Bootstrap.MacroAUROC, *p.Batch) != fmt.Sprintf("%+v %+v %+v", want.Evidence, *want.Bootstrap.MacroAUROC, *want.Batch) {
		t.Errorf("policy %+v", p)
	}
	if p.VariantTolerance == nil || *p.VariantTolerance != 0.05 {
		t.Errorf("variant_tolerance %v", p.VariantTolerance)
	}
	// An empty section is an explicit one: the first model needs its metrics only.
	var open Policy
	if err := yaml.UnmarshalWithOptions([]byte(strings.Replace(text, "\n  macro_auroc: {at_least: 0.6}", " {}", 1)), &open, yaml.Strict(), yaml.DisallowUnknownField()); err != nil {
		t.Fatal(err)
	}
	if open.Bootstrap == nil || open.Bootstrap.MacroAUROC != nil {
		t.Errorf("bootstrap {} gives %+v", open.Bootstrap)
	}
	if err := yaml.UnmarshalWithOptions([]byte(text+"margin: 3\n"), &p, yaml.Strict(), yaml.DisallowUnknownField()); err == nil {
		t.Error("an unknown key was taken")
	}
	nan := math.NaN()
	for want, change := range map[string]func(*Policy){
		"confidence":          func(p *Policy) { p.Confidence = 0.5 },
		"replicates: 100;":    func(p *Policy) { p.Replicates = 100 },
		"replicates: 1000001": func(p *Policy) { p.Replicates = 1_000_001 },
		"positive_groups":     func(p *Policy) { p.Evidence.PositiveGroups = 0 },
		"evidence: labels":    func(p *Policy) { p.Evidence.Labels = 0 },
		"max_degenerate":      func(p *Policy) { p.Evidence.MaxDegenerate = 1 },
		"at_least":            func(p *Policy) { p.Bootstrap.MacroAUROC.AtLeast = 0 },
		"compare: macro":      func(p *Policy) { p.Compare.MacroAUROC.Margin = 0 },
		"margin: NaN":         func(p *Policy) { p.Compare.MacroAUROC.Margin = nan },
		"labels.Mass.margin":  func(p *Policy) { p.Compare.Labels = map[string]Margin{"Mass": {0.5}} },
		"max_drop":            func(p *Policy) { p.Batch.MaxDrop = nan },
		"batch: labels":       func(p *Policy) { p.Batch.Labels = 0 },
		"without_evidence":    func(p *Policy) { p.Batch.WithoutEvidence = "pass" },
		"variant_tolerance":   func(p *Policy) { p.VariantTolerance = &nan },
		"variant_psnr":        func(p *Policy) { p.VariantPSNR = &nan },
	} {
		p := policy()
		change(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, wanted one with %q", err, want)
		}
	}
}
