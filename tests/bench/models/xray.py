#!/usr/bin/env python3
"""Write a bundle of the X-ray example, trained for a moment on drawn images.

    xray.py --out DIR [--patients 120] [--epochs 4]

The network, its export and its goldens are examples/xray/train.py's. What it
learns does not matter here: only what it costs to run. Golden pictures have the
network's own size, so that no resize lies between them and their pixels.

Needs: torch, NumPy, Pillow.
"""
import argparse
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "examples", "xray")
SIDE, GOLDENS = 64, 3
INPUT = {"width": SIDE, "height": SIDE, "channels": 1, "scale": 1 / 255, "mean": [0.5], "std": [0.25], "layout": "nchw"}

MANIFEST = """schema: 1
name: xray
task: multilabel
input: {{name: image, width: {side}, height: {side}, channels: 1, decoder: go, resize: stretch, filter: bilinear,
  scale: {scale!r}, mean: [0.5], std: [0.25], layout: nchw}}
outputs: {{scores: scores, heatmap: heatmap, features: features, activation: none}}
labels:
{labels}
tolerance: 0.0001
goldens: [{goldens}]
provenance: {{dataset: none, run_key: benchmark, mlflow_run: "", git_commit: "", trainer: examples/xray/train.py, frameworks: {{}}}}
"""


def label_list():
    """The names and urgencies of penstock.yaml, whose labels stand one a line."""
    with open(os.path.join(EXAMPLE, "penstock.yaml")) as f:
        found = re.findall(r"^  - \{name: (\w+), urgency: (\w+)\}$", f.read(), re.M)
    if not found:
        sys.exit("xray.py: examples/xray/penstock.yaml lists no labels in the form that is read here")
    return found


def lay(root, batch, labels):
    """The trainer's world, as examples/xray/README.md describes it."""
    for name in ("dataset/images", "dataset/golden", "output", "checkpoints"):
        os.makedirs(os.path.join(root, name))
    pictures = []
    with open(os.path.join(batch, "labels.csv")) as table, open(os.path.join(root, "dataset", "manifest.jsonl"), "w") as manifest:
        for i, row in enumerate(csv.DictReader(table)):
            path = os.path.join(batch, row["file"])
            with open(path, "rb") as f:
                name = hashlib.sha256(f.read()).hexdigest()
            picture = Image.open(path).convert("L").resize((SIDE, SIDE), Image.BILINEAR)
            picture.save(os.path.join(root, "dataset", "images", name + ".png"))
            found = [label for label in row["labels"].split("|") if label in labels]
            split = "val" if i % 3 == 2 else "train"
            manifest.write(json.dumps({"file": row["file"], "sha256": name, "labels": found, "split": split}) + "\n")
            if i < GOLDENS:
                pictures.append(picture)
                np.save(os.path.join(root, "dataset", "golden", f"{i}.input.npy"), np.asarray(picture)[:, :, None])
    task = {"task": "multilabel", "labels": labels, "goldens": [str(i) for i in range(GOLDENS)], "input": INPUT}
    with open(os.path.join(root, "dataset", "task.json"), "w") as f:
        json.dump(task, f)
    return pictures


def train(root, epochs):
    with open(os.path.join(root, "params.json"), "w") as f:
        json.dump({"epochs": epochs}, f)
    places = {"DATASET": "dataset", "OUTPUT": "output", "CHECKPOINTS": "checkpoints", "PARAMS": "params.json", "EVENTS": "events.jsonl"}
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env.update({"PENSTOCK_" + name: os.path.join(root, place) for name, place in places.items()}, PENSTOCK_SEED="1")
    subprocess.run([sys.executable, os.path.join(EXAMPLE, "train.py")], env=env, check=True)


def deliver(root, out, pictures, labels):
    output = os.path.join(root, "output")
    os.makedirs(os.path.join(out, "golden"))
    shutil.copy(os.path.join(output, "model.onnx"), out)
    with open(os.path.join(output, "thresholds.json")) as f:
        thresholds = json.load(f)
    for i, picture in enumerate(pictures):
        picture.save(os.path.join(out, "golden", f"{i}.png"))
        shutil.copy(os.path.join(root, "dataset", "golden", f"{i}.input.npy"), os.path.join(out, "golden"))
        shutil.copy(os.path.join(output, "golden", f"{i}.output.npy"), os.path.join(out, "golden"))
    lines = [f"  - {{name: {name}, threshold: {thresholds[name]!r}, urgency: {urgency}}}" for name, urgency in labels]
    with open(os.path.join(out, "bundle.yaml"), "w") as f:
        f.write(MANIFEST.format(side=SIDE, scale=INPUT["scale"], labels="\n".join(lines),
                                goldens=", ".join(f"golden/{i}.png" for i in range(GOLDENS))))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="folder to write; must be new")
    p.add_argument("--patients", type=int, default=120)
    p.add_argument("--epochs", type=int, default=4)
    args = p.parse_args()
    if os.path.exists(args.out):
        sys.exit(f"xray.py: {args.out} is there already: name a new folder")
    labels = label_list()
    with tempfile.TemporaryDirectory() as root:
        batch = os.path.join(root, "batch")
        subprocess.run([sys.executable, os.path.join(EXAMPLE, "synthesize"), "--patients", str(args.patients),
                        "--corrupt", "0", "--out", batch], check=True)
        pictures = lay(root, batch, [name for name, _ in labels])
        train(root, args.epochs)
        deliver(root, args.out, pictures, labels)


if __name__ == "__main__":
    main()
