package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
	"github.com/penstock-ml/penstock/serve/measure"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/variants"
)

type optimizeOptions struct {
	engine      engine
	model       string
	dataset     string
	kinds       cli.StringSlice
	script      string
	calibration int
	pictures    string
	training    string
	level       string
	duration    time.Duration
	round       time.Duration
	seed        uint64
	out         string
	from        cli.StringSlice
}

func optimizeCommand() action.Command {
	var o optimizeOptions
	return action.Command{
		Name: "optimize", Program: "penstock-serve",
		Summary: "make faster variants of a model, and keep the best one that is good enough",
		Description: `Makes variants of a model: the graph as ONNX Runtime's optimiser leaves it
(fp32-optimised), and static int8 and fp16 by a command of the project, which
gets pictures of the split train to calibrate on. Each is a bundle of its own
that names its parent and keeps the parent's goldens, within
gate.variant_tolerance of the policy. All are measured on this machine, in one
interleaved run, with the provider that is asked for; their scores on the split
test go through the policy's gate against the parent's. A super-resolution model
is judged by PSNR instead: pictures of --pictures are made small, enlarged, and
held to the originals; the loss may be at most gate.variant_psnr dB.

Pass: the fastest variant that is faster beyond its interval and let through by
the gate is published to the bucket, and into --out. Reject: no variant is,
on evidence. Inconclusive: for at least one it could not be shown either way.
Nothing is written then. A variant is deployed like any model: predict,
evaluate and gate take it from here.`,
		Example: `penstock-serve optimize --from register.json --script "python3 quantize.py"
penstock-serve optimize --model 5f2c... --dataset 91ab... --kind fp32-optimised`,
		Flags: append(o.engine.flags(),
			&cli.StringFlag{Name: "model", Usage: "`DIGEST` of the bundle", Destination: &o.model},
			&cli.StringFlag{Name: "dataset", Usage: "`DIGEST` of the data set whose splits train and test are used", Destination: &o.dataset},
			&cli.StringSliceFlag{Name: "kind", Usage: "`KIND` of variant: fp32-optimised, int8, fp16 (default: all that can be made); may be given several times", Destination: &o.kinds},
			&cli.StringFlag{Name: "script", Usage: "`COMMAND` that makes int8 and fp16, such as \"python3 quantize.py\"; it is given --kind, --bundle, --calibration and --out", Destination: &o.script},
			&cli.IntFlag{Name: "calibration", Usage: "`NUMBER` of training pictures to calibrate on", Value: 128, Destination: &o.calibration},
			&cli.StringFlag{Name: "pictures", Usage: "`DIR` of large pictures that a super-resolution model is judged by", Destination: &o.pictures},
			&cli.StringFlag{Name: "calibration-pictures", Usage: "`DIR` of other large pictures, of those that it was trained on, to calibrate on", Destination: &o.training},
			&cli.StringFlag{Name: "level", Usage: "`LEVEL` of graph optimisation: extended, or all, which lays tensors out for this machine only", Value: model.LevelExtended, Destination: &o.level},
			&cli.DurationFlag{Name: "duration", Usage: "`DURATION` that each variant is driven, all rounds together", Value: 6 * time.Second, Destination: &o.duration},
			&cli.DurationFlag{Name: "round", Usage: "`DURATION` of one round", Value: 200 * time.Millisecond, Destination: &o.round},
			&cli.Uint64Flag{Name: "seed", Usage: "`NUMBER` that calibration pictures and the order of rounds are drawn from", Value: 1, Destination: &o.seed},
			&cli.StringFlag{Name: "out", Usage: "`DIR` to write the best variant to as well; must be new", Destination: &o.out},
			action.From(&o.from),
		),
		Outputs: []action.Output{
			{Name: "model", Description: "digest of the variant, where one is kept"},
			{Name: "parent", Description: "digest of the bundle that was optimised"},
			{Name: "dataset", Description: "digest of the data set"},
			{Name: "kind", Description: "kind of the variant, where one is kept"},
			{Name: "provider", Description: "provider that the measurements were taken with"},
			{Name: "machine", Description: "processor that they were taken on"},
		},
		Environment: append(workspace.StoreVariables(), engineVariables()...),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runOptimize(ctx, env, o)
		},
	}
}

// check refuses what cannot be done, and settles the kinds.
func (o *optimizeOptions) check() ([]string, error) {
	kinds := o.kinds.Value()
	if len(kinds) == 0 {
		kinds = variants.Kinds
		if o.script == "" {
			kinds = []string{variants.Optimised}
		}
	}
	for _, kind := range kinds {
		if !slices.Contains(variants.Kinds, kind) {
			return nil, fmt.Errorf("--kind %q: known are %s", kind, strings.Join(variants.Kinds, ", "))
		}
		if kind != variants.Optimised && o.script == "" {
			return nil, fmt.Errorf("--kind %s needs --script, the command that makes it", kind)
		}
	}
	switch {
	case o.calibration < 1:
		return nil, fmt.Errorf("--calibration %d: at least 1 picture is needed", o.calibration)
	case o.round <= 0 || o.duration < 2*o.round:
		return nil, fmt.Errorf("--duration %s holds fewer than two rounds of %s", o.duration, o.round)
	}
	if o.out != "" {
		if _, err := os.Lstat(o.out); err == nil {
			return nil, fmt.Errorf("--out %s is there already: name a new folder", o.out)
		}
	}
	return kinds, nil
}

func runOptimize(ctx context.Context, env *action.Env, o optimizeOptions) (r verdict.Result, err error) {
	kinds, err := o.check()
	if err != nil {
		return r, verdict.Usage(err)
	}
	w, from, err := workspace.OpenWith(ctx, env, o.from.Value())
	if err != nil {
		return r, err
	}
	tolerance := w.Project.Gate.VariantTolerance
	if tolerance == nil {
		return r, verdict.Coded("no-variant-tolerance", errors.New("the policy has no gate.variant_tolerance: without it there can be no variant; add it, e.g. 0.05"))
	}
	p := optimization{env: env, w: w, options: o}
	if p.parent, p.dataset, err = o.subjects(ctx, w, from); err != nil {
		return r, err
	}
	if p.evidence, err = p.evidenceFor(p.parent); err != nil {
		return r, err
	}
	if p.runtime, err = o.engine.start(env); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.runtime.Close()) }()
	if p.dir, err = os.MkdirTemp("", "penstock-optimize-"); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(p.dir)) }()
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.make(ctx, kinds, *tolerance); err != nil {
		return r, err
	}
	if err := p.measure(ctx); err != nil {
		return r, err
	}
	return p.decide(ctx)
}

// subjects are the bundle and the data set, of the flags or of earlier results.
// The data set may also be the one that the bundle was trained on.
func (o *optimizeOptions) subjects(ctx context.Context, w *workspace.Workspace, from []verdict.Result) (*bundle.Bundle, string, error) {
	digest, err := workspace.Subject("model", o.model, from)
	if err != nil {
		return nil, "", err
	}
	if digest == "" {
		return nil, "", verdict.Usage(errors.New("nothing to optimise: give --model, or a result that names its model by --from"))
	}
	b, err := bundle.Fetch(ctx, w.Bucket, digest, w.Models())
	if err != nil {
		return nil, "", err
	}
	if b.Manifest.Variant.Kind != "" {
		return nil, "", fmt.Errorf("model %s is a variant itself, of %s: optimise that one", digest, b.Manifest.Provenance.Parent)
	}
	data, err := workspace.Subject("dataset", o.dataset, from)
	if data == "" {
		data = b.Manifest.Provenance.Dataset
	}
	return b, data, err
}

// evidenceFor is what variants of the bundle are judged by.
func (p *optimization) evidenceFor(b *bundle.Bundle) (evidence, error) {
	o, policy := p.options, p.w.Project.Gate
	switch b.Manifest.Task {
	case bundle.TaskMultilabel:
		return &labelled{p: p}, nil
	case bundle.TaskSuperResolution:
		if policy.VariantPSNR == nil {
			return nil, verdict.Coded("no-variant-psnr", errors.New("the policy has no gate.variant_psnr: say how many dB a variant may lose, e.g. 0.1"))
		}
		if o.pictures == "" || (o.training == "" && o.script != "") {
			return nil, verdict.Usage(errors.New("a super-resolution model is judged by --pictures, and calibrated on --calibration-pictures: name folders of large pictures"))
		}
		return &originals{model: b.Manifest, judged: o.pictures, training: o.training, policy: policy}, nil
	}
	return nil, fmt.Errorf("model %s is of the task %s: optimize judges multilabel and super-resolution models", b.Digest, b.Manifest.Task)
}

// optimization is one run of the command.
type optimization struct {
	env     *action.Env
	w       *workspace.Workspace
	options optimizeOptions
	runtime *model.Runtime
	dir     string // temporary
	parent  *bundle.Bundle
	dataset string

	evidence   evidence
	open       []*model.Model       // the parent, then the variants that can be
	candidates []variants.Candidate // in the order of the kinds
	latency    measure.Summary      // of the parent
}

// evidence is what variants are made and judged by.
type evidence interface {
	// load brings what the parent and its variants are judged by.
	load(ctx context.Context, parent *model.Model) error
	// calibration draws training pictures, as the model sees them.
	calibration(ctx context.Context, parent *model.Model) ([]imaging.Pixels, error)
	// picture is one to measure the speed with.
	picture() (imaging.Pixels, error)
	// judge asks whether a variant is as good as its parent.
	judge(ctx context.Context, parent, variant *model.Model) (variants.Quality, error)
}

func (p *optimization) close() error {
	var err error
	for _, m := range p.open {
		err = errors.Join(err, m.Close())
	}
	return err
}

// place is the folder of a variant.
func (p *optimization) place(kind string) string { return filepath.Join(p.dir, kind) }

// make makes all variants and keeps those open that can be.
func (p *optimization) make(ctx context.Context, kinds []string, tolerance float64) error {
	parent, err := model.Open(ctx, p.runtime, p.parent)
	if err != nil {
		return err
	}
	p.open = append(p.open, parent)
	if err := p.evidence.load(ctx, parent); err != nil {
		return err
	}
	if p.parent.Manifest.Task == bundle.TaskSuperResolution {
		tolerance *= p.parent.Manifest.SuperResolution.Levels // the policy's is a share of white
	}
	write, err := p.writer(ctx, parent, kinds)
	if err != nil {
		return err
	}
	maker := variants.Maker{Runtime: p.runtime, Parent: p.parent, Tolerance: tolerance, Frameworks: p.frameworks(), Write: write}
	for _, kind := range kinds {
		p.env.Logf("%s: being made", kind)
		c := variants.Candidate{Kind: kind}
		m, err := maker.Make(ctx, kind, p.place(kind))
		var refusal *variants.Refusal
		switch {
		case errors.As(err, &refusal):
			c.Refusal = refusal
		case err != nil:
			return fmt.Errorf("%s: %w", kind, err)
		default:
			p.open = append(p.open, m)
			c.Digest, c.Difference = m.Digest(), m.GoldenDifference()
			if c.Bytes, err = graphBytes(m.Bundle()); err != nil {
				return err
			}
		}
		p.candidates = append(p.candidates, c)
	}
	return nil
}

// graphBytes is the size of the graph with the tensors that lie beside it.
func graphBytes(b *bundle.Bundle) (int64, error) {
	files, err := filepath.Glob(b.Path(bundle.ModelFile) + "*")
	if err != nil {
		return 0, err
	}
	var size int64
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}
