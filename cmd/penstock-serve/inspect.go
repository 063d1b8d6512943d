package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
	"github.com/penstock-ml/penstock/serve/model"
	"github.com/penstock-ml/penstock/serve/tile"
)

type inspectOptions struct {
	engine engine
	dir    string
	model  string
	addCAM bool
	out    string
}

func inspectCommand() action.Command {
	var o inspectOptions
	return action.Command{
		Name: "inspect", Program: "penstock-serve",
		Summary: "look into a bundle and run its goldens; give it heat maps",
		Description: `Verifies a bundle, loads it as the server would, runs its goldens and shows
what it is: input, outputs, labels, thresholds, where it comes from. Pass means
that a server would take it; a bundle that it would refuse is an error that
says why.

With --add-cam it writes a new bundle to --out, whose graph also gives a class
activation map for each label: the last feature map, weighted by the
classifier. That takes a network that ends in global average pooling and one
linear layer. The map's mean plus the bias must give the scores, on the goldens
and on random pictures, to 1e-5; the difference is kept in bundle.yaml, the old
bundle's digest as its parent. A bundle that has such a map and says so is left
as it is; a network of another kind is an error.`,
		Example: `penstock-serve inspect --bundle ./bundle
penstock-serve inspect --model 5f2c... --json
penstock-serve inspect --bundle ./bundle --add-cam --out ./bundle-with-heatmap`,
		Flags: append(o.engine.flags(),
			&cli.StringFlag{Name: "bundle", Usage: "`DIR` of the bundle", Destination: &o.dir},
			&cli.StringFlag{Name: "model", Usage: "`DIGEST` of a bundle in the project's bucket", Destination: &o.model},
			&cli.BoolFlag{Name: "add-cam", Usage: "add a class activation map and write the new bundle to --out", Destination: &o.addCAM},
			&cli.StringFlag{Name: "out", Usage: "new `DIR` of the bundle that --add-cam makes", Destination: &o.out},
		),
		Outputs: []action.Output{
			{Name: "model", Description: "digest of the bundle"},
			{Name: "golden_difference", Description: "greatest difference between its scores and the training framework's"},
			{Name: "heatmap", Description: "the graph's output that is a heat map, where it has one"},
			{Name: "heatmap_difference", Description: "greatest difference between the scores and those that its class activation map gives"},
		},
		Environment: append(workspace.StoreVariables(), engineVariables()...),
		Run: func(ctx context.Context, env *action.Env) (verdict.Result, error) {
			return runInspect(ctx, env, o)
		},
	}
}

func runInspect(ctx context.Context, env *action.Env, o inspectOptions) (r verdict.Result, err error) {
	if o.addCAM != (o.out != "") {
		return r, verdict.Usage(errors.New("--add-cam and --out DIR belong together"))
	}
	b, err := o.find(ctx, env)
	if err != nil {
		return r, err
	}
	runtime, err := o.engine.start(env)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, runtime.Close()) }()
	said := "can be served"
	if o.addCAM {
		if b, said, err = addCAM(ctx, runtime, b, o.out); err != nil {
			return r, err
		}
	}
	m, err := model.Open(ctx, runtime, b)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	r = verdict.Passed("%s %s %s", m.Name(), m.Digest(), said)
	r.Subjects["model"] = m.Digest()
	if dataset := b.Manifest.Provenance.Dataset; dataset != "" {
		r.Subjects["dataset"] = dataset
	}
	for _, line := range describe(m) {
		if line.text != "" {
			r.Outputs[line.name] = line.text
		}
	}
	if !env.Common.JSON && len(b.Manifest.Labels) > 0 {
		err = table(env.Stdout, m)
	}
	return r, err
}

func (o inspectOptions) find(ctx context.Context, env *action.Env) (*bundle.Bundle, error) {
	switch {
	case (o.dir == "") == (o.model == ""):
		return nil, verdict.Usage(errors.New("give the bundle's --bundle DIR or its --model DIGEST, one of them"))
	case o.dir != "":
		return bundle.Read(o.dir)
	}
	w, err := workspace.Open(env)
	if err != nil {
		return nil, err
	}
	return bundle.Fetch(ctx, w.Bucket, o.model, w.Models())
}

// line is one fact about a bundle.
type line struct{ name, text string }

func describe(m *model.Model) []line {
	manifest := m.Bundle().Manifest
	in, from := manifest.Input, manifest.Provenance
	input, pipeline := declared(m.Inputs()), ""
	if manifest.Task != bundle.TaskTensor {
		input += fmt.Sprintf(", x*%v, minus %v, over %v", in.Scale, in.Mean, in.Std)
	}
	if manifest.Task == bundle.TaskMultilabel {
		pipeline = m.Spec().Pipeline()
	}
	frameworks := make([]string, 0, len(from.Frameworks))
	for _, name := range slices.Sorted(maps.Keys(from.Frameworks)) {
		frameworks = append(frameworks, name+" "+from.Frameworks[name])
	}
	difference := ""
	heatmap := m.Heatmap()
	if heatmap.Method != "" {
		difference = fmt.Sprintf("%.3g", max(heatmap.Difference, manifest.Outputs.HeatmapDifference))
	}
	return append(enlarging(m), []line{
		{"name", manifest.Name},
		{"task", manifest.Task},
		{"pipeline", pipeline},
		{"input", input},
		{"outputs", declared(m.Outputs())},
		{"activation", manifest.Outputs.Activation},
		{"heatmap", manifest.Outputs.Heatmap},
		{"heatmap_method", heatmap.Method},
		{"heatmap_difference", difference},
		{"labels", strings.Join(manifest.LabelNames(), ", ")},
		{"goldens", fmt.Sprint(len(manifest.Goldens))},
		{"placement", m.Placement()},
		{"golden_difference", fmt.Sprintf("%.3g", m.GoldenDifference())},
		{"tolerance", fmt.Sprint(manifest.Tolerance)},
		{"run_key", from.RunKey},
		{"mlflow_run", from.MLflowRun},
		{"git_commit", from.GitCommit},
		{"trainer", from.Trainer},
		{"frameworks", strings.Join(frameworks, ", ")},
		{"parent", from.Parent},
	}...)
}

// declared lists tensors with their shapes.
func declared(all []model.Declared) string {
	texts := make([]string, len(all))
	for i, d := range all {
		texts[i] = fmt.Sprintf("%s %v", d.Name, d.Shape)
	}
	return strings.Join(texts, ", ")
}

// enlarging says what a super-resolution does and how its pictures are run;
// nothing for other tasks.
func enlarging(m *model.Model) []line {
	b := m.Bundle()
	if b.Manifest.Task != bundle.TaskSuperResolution {
		return nil
	}
	traits, err := tile.Look(b)
	tiles := traits.String()
	if err != nil {
		tiles = err.Error()
	}
	said := b.Manifest.SuperResolution
	return []line{
		{"scale", fmt.Sprint(said.Scale)},
		{"colour", fmt.Sprintf("%s, white is %v", said.Colour, said.Levels)},
		{"tiles", tiles},
	}
}

// table shows the labels; the other facts stand in the result's own text.
func table(out io.Writer, m *model.Model) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LABEL\tTHRESHOLD\tURGENCY")
	for _, l := range m.Bundle().Manifest.Labels {
		fmt.Fprintf(w, "%s\t%.4f\t%s\n", l.Name, l.Threshold, l.Urgency)
	}
	return w.Flush()
}
