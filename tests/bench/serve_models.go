package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// workload is a bundle and what is sent to it.
type workload struct {
	bundle string
	flags  []string
}

// workloads by the name in the results. JPEGs are grey. The example draws
// pictures of 96 x 96, which come faster than one machine can both send and
// answer twice over: overload is measured with large ones.
var workloads = map[string]workload{
	"xray":      {"xray", []string{"--side", "96", "--goodput", "0"}},
	"xray-1024": {"xray", []string{"--side", "1024", "--route", "jpeg", "--goodput", "10s"}},
	"resnet18":  {"resnet18", []string{"--side", "1024", "--goodput", "10s"}},
}

// trainers are the programs that make the models, with the files that they
// depend on: a model is made once for each state of them.
var trainers = map[string][]string{
	"resnet18": {"tests/bench/models/resnet.py"},
	"xray":     {"tests/bench/models/xray.py", "examples/xray/train.py", "examples/xray/network.py", "examples/xray/measures.py", "examples/xray/synthesize", "examples/xray/penstock.yaml"},
}

// systemPython has PyTorch.
const systemPython = "/usr/bin/python3"

// bundle gives the folder of a model's bundle, made where it is not there.
func (b *serveBench) bundle(ctx context.Context, model string) (string, error) {
	files := trainers[model]
	dir, err := b.cached(model, files...)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	made := filepath.Join(b.work, model)
	if err := command(ctx, "", systemPython, files[0], "--out", made); err != nil {
		return "", err
	}
	// Copied beside it first, because the cache may be another file system.
	part := dir + ".part"
	if err := errors.Join(os.RemoveAll(part), os.CopyFS(part, os.DirFS(made))); err != nil {
		return "", err
	}
	return dir, os.Rename(part, dir)
}

// cached is the folder in the cache that belongs to the content of some files.
func (b *serveBench) cached(name string, files ...string) (string, error) {
	sum := sha256.New()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		sum.Write(data)
	}
	dir := filepath.Join(b.cache, "bench")
	return filepath.Join(dir, name+"-"+hex.EncodeToString(sum.Sum(nil))[:12]), os.MkdirAll(dir, 0o755)
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
