#!/usr/bin/env python3
"""Write a bundle around a ResNet-18-class network with random weights.

    resnet.py --out DIR [--width 52] [--side 224] [--labels 14] [--seed 1]

The network is He et al.'s 18-layer one (2016) with --width channels in its
first stage, 64 in the paper, and a sigmoid for each label; 52 channels at
224 x 224 take about 10 ms on one thread of a server core, and its input has
150,528 floats. The goldens' scores are PyTorch's own. Golden pictures have the
network's own size, so that no resize lies between them and their pixels.

Needs: torch, NumPy, Pillow.
"""
import argparse
import os
import sys

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

GOLDENS = 3
OPSET = 15

MANIFEST = """schema: 1
name: resnet18
task: multilabel
input:
  name: image
  width: {side}
  height: {side}
  channels: 3
  decoder: go
  resize: stretch
  filter: bilinear
  scale: 0.00392156862745098
  mean: [0.485, 0.456, 0.406]
  std: [0.229, 0.224, 0.225]
  layout: nchw
outputs:
  scores: scores
  activation: none
labels:
{labels}
tolerance: 0.0001
goldens: [{goldens}]
provenance:
  dataset: none
  run_key: benchmark
  mlflow_run: ""
  git_commit: ""
  trainer: random weights, seed {seed}
  frameworks: {{pytorch: {torch}}}
"""


class Block(nn.Module):
    def __init__(self, inner, outer, stride):
        super().__init__()
        self.one = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.norm_one = nn.BatchNorm2d(outer)
        self.two = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norm_two = nn.BatchNorm2d(outer)
        self.skip = nn.Identity()
        if stride > 1 or inner != outer:
            self.skip = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x):
        y = F.relu(self.norm_one(self.one(x)))
        return F.relu(self.norm_two(self.two(y)) + self.skip(x))


class ResNet18(nn.Module):
    def __init__(self, width, labels):
        super().__init__()
        layers = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        inner = width
        for stage in range(4):
            outer = width << stage
            layers += [Block(inner, outer, 1 if stage == 0 else 2), Block(outer, outer, 1)]
            inner = outer
        self.body, self.head = nn.Sequential(*layers), nn.Linear(inner, labels)

    def forward(self, x):
        return torch.sigmoid(self.head(self.body(x).mean((2, 3))))


def pictures(side, count, seed):
    """Smooth random colour pictures, uint8 [n, h, w, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((side, side), Image.BICUBIC)) for c in coarse])


def normalise(pixels):
    x = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def build(args):
    torch.manual_seed(args.seed)
    net = ResNet18(args.width, args.labels)
    # Running means and variances of real activations: with those of the
    # constructor random weights would explode or die out.
    net.train()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # plain averages
        net(normalise(pictures(args.side, 8, args.seed + 1)))
    return net.eval()


def write(args):
    golden = os.path.join(args.out, "golden")
    os.makedirs(golden)
    net = build(args)
    pixels = pictures(args.side, GOLDENS, args.seed)
    with torch.no_grad():
        scores = net(normalise(pixels)).numpy()
    for i in range(GOLDENS):
        Image.fromarray(pixels[i]).save(os.path.join(golden, f"{i}.png"))
        np.save(os.path.join(golden, f"{i}.input.npy"), pixels[i])
        np.save(os.path.join(golden, f"{i}.output.npy"), scores[i].astype(np.float32))
    torch.onnx.export(
        net, normalise(pixels[:1]), os.path.join(args.out, "model.onnx"), opset_version=OPSET,
        input_names=["image"], output_names=["scores"], dynamic_axes={"image": {0: "n"}, "scores": {0: "n"}})
    labels = "\n".join(f"  - {{name: label{i}, threshold: 0.5, urgency: routine}}" for i in range(args.labels))
    with open(os.path.join(args.out, "bundle.yaml"), "w") as f:
        f.write(MANIFEST.format(
            side=args.side, labels=labels, seed=args.seed, torch=torch.__version__,
            goldens=", ".join(f"golden/{i}.png" for i in range(GOLDENS))))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="folder to write; must be new")
    p.add_argument("--width", type=int, default=52)
    p.add_argument("--side", type=int, default=224)
    p.add_argument("--labels", type=int, default=14)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    if os.path.exists(args.out):
        sys.exit(f"resnet.py: {args.out} is there already: name a new folder")
    write(args)


if __name__ == "__main__":
    main()
