package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/imaging"
	"github.com/penstock-ml/penstock/internal/journal"
	"github.com/penstock-ml/penstock/internal/line/dataset"
	"github.com/penstock-ml/penstock/internal/line/training"
	"github.com/penstock-ml/penstock/internal/project"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

// newJob joins the project, the data set and the goldens to one training.
func newJob(ctx context.Context, env *action.Env, w *workspace.Workspace, digest, data string, rows []dataset.Row) (training.Job, error) {
	p := w.Project
	config := p.Train.WithDefaults()
	commit, changes, err := gitCommit(ctx, env, p.Dir)
	if err != nil {
		return training.Job{}, err
	}
	identity, err := trainingIdentity(p, digest, commit, changes)
	if err != nil {
		return training.Job{}, err
	}
	goldens, err := takeGoldens(ctx, w, data, rows, config.Goldens)
	if err != nil {
		return training.Job{}, err
	}
	image, normalise := p.Data.Image, p.Data.Normalise
	return training.Job{
		Config: config, Project: p.Dir, Data: data, Goldens: goldens, Environ: env.Environ,
		Root: filepath.Join(w.Cache, "training", identity),
		Task: training.Task{Task: p.Task, Labels: p.LabelNames(), Input: training.TaskInput{
			Width: image.Width, Height: image.Height, Channels: image.Channels,
			Scale: normalise.Scale, Mean: normalise.Mean, Std: normalise.Std, Layout: "nchw",
		}},
		Manifest: manifest(env, p, config, digest, commit),
	}, nil
}

// manifest is bundle.yaml as far as it is known before the training.
func manifest(env *action.Env, p project.Project, c training.Config, digest, commit string) bundle.Manifest {
	image, normalise := p.Data.Image, p.Data.Normalise
	m := bundle.Manifest{
		Schema: bundle.Schema, Name: p.Name, Task: p.Task,
		Input: bundle.Input{
			Name: c.Graph.Input, Width: image.Width, Height: image.Height, Channels: image.Channels,
			Decoder: image.Decoder, Resize: "stretch", Filter: image.Filter,
			Scale: normalise.Scale, Mean: normalise.Mean, Std: normalise.Std, Layout: "nchw",
		},
		Outputs: bundle.Outputs{
			Scores: c.Graph.Scores, Heatmap: c.Graph.Heatmap, Features: c.Graph.Features, Activation: c.Graph.Activation,
		},
		Tolerance: c.Tolerance,
		Provenance: bundle.Provenance{
			Dataset: digest, RunKey: env.Common.RunKey, GitCommit: commit, Trainer: strings.Join(c.Command, " "),
		},
	}
	for _, l := range p.Labels {
		m.Labels = append(m.Labels, bundle.Label{Name: l.Name, Urgency: l.Urgency})
	}
	return m
}

// trainingIdentity names what a training must agree in to go on from the
// checkpoints of another: data, parameters, seed, command, code.
func trainingIdentity(p project.Project, digest, commit string, changes []byte) (string, error) {
	code := map[string]string{}
	for _, argument := range p.Train.Command[1:] {
		data, err := os.ReadFile(filepath.Join(p.Dir, argument))
		if err != nil {
			continue // an argument that is no file of the project
		}
		code[argument] = hexSum(data)
	}
	data, err := json.Marshal([]any{
		p.Name, p.Task, p.Train.WithDefaults(), p.LabelNames(), p.Data.Normalise, digest, commit, hexSum(changes), code,
	})
	if err != nil {
		return "", fmt.Errorf("train.params: %w", err)
	}
	return hexSum(data)[:16], nil
}

// gitCommit is the commit of the project: what GitHub says, else what git says,
// with the changes to tracked files that are not committed; where there are
// some, the commit ends in -dirty. A project outside any repository has none.
func gitCommit(ctx context.Context, env *action.Env, dir string) (commit string, changes []byte, err error) {
	if sha := env.Getenv("GITHUB_SHA"); sha != "" {
		return sha, nil, nil
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return "", nil, nil
	}
	ask := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, git, append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "LC_ALL=C") // noCommit reads what it says
		return cmd.Output()
	}
	head, err := ask("rev-parse", "--verify", "HEAD")
	if noCommit(err) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("ask git for the commit of %s: %w%s", dir, err, words(err))
	}
	if changes, err = ask("diff", "HEAD", "--", "."); err != nil {
		return "", nil, fmt.Errorf("ask git for the changes in %s: %w%s", dir, err, words(err))
	}
	commit = strings.TrimSpace(string(head))
	if len(changes) > 0 {
		commit += "-dirty"
	}
	return commit, changes, nil
}

// noCommit tells a folder without a repository, or a repository without a
// commit, from one that git refuses to read, as where somebody else owns it:
// such a project has a commit, and its model must not go without.
func noCommit(err error) bool {
	said := words(err)
	return strings.Contains(said, "not a git repository") || strings.Contains(said, "Needed a single revision")
}

// words are what a program that failed had to say, for the end of an error.
func words(err error) string {
	var exit *exec.ExitError
	if !errors.As(err, &exit) || len(exit.Stderr) == 0 {
		return ""
	}
	return ": " + string(bytes.TrimSpace(exit.Stderr))
}

// takeGoldens takes the first so many pictures of val, in the order of their
// SHA-256, with their original bytes.
func takeGoldens(ctx context.Context, w *workspace.Workspace, data string, rows []dataset.Row, count int) ([]training.Golden, error) {
	val := dataset.Select(rows, dataset.Val)
	slices.SortFunc(val, func(a, b dataset.Row) int { return strings.Compare(a.SHA256, b.SHA256) })
	if len(val) < count {
		return nil, fmt.Errorf("the split val has %d images: train.goldens wants %d of them", len(val), count)
	}
	goldens := make([]training.Golden, 0, count)
	for _, row := range val[:count] {
		g, err := takeGolden(ctx, w, data, row)
		if err != nil {
			return nil, fmt.Errorf("golden %s: %w", row.File, err)
		}
		goldens = append(goldens, g)
	}
	return goldens, nil
}

func takeGolden(ctx context.Context, w *workspace.Workspace, data string, row dataset.Row) (training.Golden, error) {
	original, _, err := w.Bucket.Get(ctx, w.Project.Data.Raw+row.File)
	if errors.Is(err, journal.ErrNotFound) {
		return training.Golden{}, fmt.Errorf("%w: the original files of a data set stay below %s", err, w.Project.Data.Raw)
	}
	if err != nil {
		return training.Golden{}, err
	}
	if hexSum(original) != row.SHA256 {
		return training.Golden{}, verdict.Coded("raw-changed", fmt.Errorf("the file in the bucket is not the one the data set was made from: restore it, or grow a new data set"))
	}
	_, format, err := imaging.Decode(original, imaging.DefaultLimits)
	if err != nil {
		return training.Golden{}, err
	}
	pixels, err := imaging.Preprocess(original, w.Project.Data.Image, imaging.DefaultLimits)
	if err != nil {
		return training.Golden{}, err
	}
	stored, err := os.ReadFile(dataset.LocalImage(data, row))
	if err != nil {
		return training.Golden{}, err
	}
	learned, err := imaging.FromPNG(stored)
	if err != nil {
		return training.Golden{}, err
	}
	if !bytes.Equal(learned.Pix, pixels.Pix) {
		return training.Golden{}, verdict.Coded("preprocessing-skew", fmt.Errorf("this penstock preprocesses the image differently from the one that made the data set: grow the data set anew"))
	}
	ext := ".png"
	if format == imaging.JPEG {
		ext = ".jpg"
	}
	return training.Golden{
		Ext: ext, Original: original, Pixels: pixels.Pix,
		Shape: []int{pixels.Height, pixels.Width, pixels.Channels},
	}, nil
}
