"""Makes graphs for the tests of optimize: from model.onnx of a bundle of package
bundletest.

    variants.py waste    a parent that costs much: convolutions whose result is taken times 0
    variants.py lean     the same scores without them
    variants.py constant 0.5 for every picture, at once: fast and worthless
    variants.py far      the scores of another model
    variants.py broken   ends with an error

After the word come the flags that optimize gives: --kind, --bundle, --calibration,
--out. What it is given to calibrate on is checked too.
"""
import argparse
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def const(name, value):
    return numpy_helper.from_array(np.asarray(value, np.float32), name)


def waste(graph):
    scores = next(n for n in graph.node if "scores" in n.output)
    scores.output[0] = "waste/scores"
    random = np.random.default_rng(1)
    graph.initializer.extend([const("waste/one", random.normal(size=(64, 1, 7, 7))), const("waste/two", random.normal(size=(64, 64, 7, 7))),
                              const("waste/zero", 0.0)])
    graph.node.extend([
        helper.make_node("Conv", ["input", "waste/one"], ["waste/a"], pads=[3] * 4),
        helper.make_node("Conv", ["waste/a", "waste/two"], ["waste/b"], pads=[3] * 4),
        helper.make_node("ReduceMean", ["waste/b"], ["waste/c"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["waste/c", "waste/zero"], ["waste/d"]),
        helper.make_node("Unsqueeze", ["waste/d", "one"], ["waste/e"]),
        helper.make_node("Add", ["waste/scores", "waste/e"], ["scores"])])


def lean(graph):
    kept = [n for n in graph.node if not n.output[0].startswith("waste/") and n.output[0] != "scores"]
    scores = next(n for n in graph.node if n.output[0] == "waste/scores")
    scores.output[0] = "scores"
    del graph.node[:]
    graph.node.extend(kept + [scores])
    weights = [i for i in graph.initializer if not i.name.startswith("waste/")]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def scaled(graph, factor, shift):
    lean(graph)
    graph.initializer.extend([const("factor", factor), const("shift", shift)])
    scores = next(n for n in graph.node if "scores" in n.output)
    scores.output[0] = "plain"
    graph.node.extend([helper.make_node("Mul", ["plain", "factor"], ["scaled"]), helper.make_node("Add", ["scaled", "shift"], ["scores"])])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("what")
    for flag in ("--kind", "--bundle", "--calibration", "--out"):
        p.add_argument(flag)
    args = p.parse_args()
    if args.calibration:
        pixels = np.load(args.calibration, allow_pickle=False)
        if pixels.dtype != np.uint8 or pixels.shape != (7, 8, 8, 1):
            sys.exit(f"calibration pictures {pixels.dtype} {pixels.shape}")
    if any(name.startswith("AWS_") for name in os.environ):
        sys.exit("credentials are in the environment")
    model = onnx.load(os.path.join(args.bundle, "model.onnx"))
    {"waste": waste, "lean": lean, "constant": lambda g: scaled(g, 0.0, 0.5), "far": lambda g: scaled(g, 0.1, 0.0)}.get(
        args.what, lambda g: sys.exit("broken, as asked for"))(model.graph)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, args.out)


if __name__ == "__main__":
    main()
