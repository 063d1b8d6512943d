#!/usr/bin/env python3
"""Make a bad model from a good one, as a plain ONNX graph in a bundle.

    sabotage.py slow    --bundle CHAMPION --out DIR [--seconds 1.2]
    sabotage.py failing --bundle CHAMPION --out DIR [--brightness 0.75]

slow: the same scores, but each run also multiplies matrices in a loop that
depends on the input, for so many seconds of one core. The cost is that of a
run, not of an image: a batch of images takes no longer than one.

failing: the same scores, but a run with an image brighter than the share of
white given (on the mean of its pixels) ends in an error of the runtime: a Gather
whose index is out of range. Other images never notice.

Labels, thresholds, goldens and tolerance stay the champion's; bundle.yaml names
it as the parent. Both graphs are tried with ONNX Runtime before they are
written. No program has a fault switch: what goes wrong lives in the graph.

Needs: onnx, onnxruntime, NumPy, PyYAML.
"""
import argparse
import hashlib
import os
import shutil
import sys
import time

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before ONNX Runtime is loaded

import numpy as np
import onnx
import onnxruntime
import yaml
from onnx import TensorProto, helper, numpy_helper

SIDE = 256  # of the matrices that cost the time
PROBE = 100  # rounds of the loop to learn its speed from


class Graph:
    """The champion's graph, to which nodes are added."""

    def __init__(self, model, manifest):
        self.model, self.graph = model, model.graph
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.image = manifest["input"]["name"]
        self.scores = manifest["outputs"]["scores"]
        if self.image not in [i.name for i in self.graph.input]:
            sys.exit(f"sabotage.py: the graph has no input {self.image}")

    def constant(self, name, value):
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), "sabotage/" + name))
        return "sabotage/" + name

    def node(self, kind, inputs, name, **attributes):
        self.graph.node.append(helper.make_node(kind, inputs, ["sabotage/" + name], "sabotage/" + name, **attributes))
        return "sabotage/" + name

    def mean(self, value, axes, name):
        """The mean over axes: an attribute until operator set 17, an input since."""
        if self.opset < 18:
            return self.node("ReduceMean", [value], name, axes=axes, keepdims=0)
        return self.node("ReduceMean", [value, self.constant(name + "/axes", np.array(axes, np.int64))], name, keepdims=0)

    def add_to_scores(self, nothing):
        """Scores become scores + nothing, so that what computes nothing is needed."""
        inner = "sabotage/scores"
        for node in self.graph.node:
            for at, output in enumerate(node.output):
                if output == self.scores:
                    node.output[at] = inner
            for at, source in enumerate(node.input):
                if source == self.scores:
                    node.input[at] = inner
        self.graph.node.append(helper.make_node("Add", [inner, nothing], [self.scores], "sabotage/sum"))

    def bytes(self):
        onnx.checker.check_model(self.model, full_check=True)
        return self.model.SerializeToString()


def make_slow(model, manifest, rounds):
    g = Graph(model, manifest)
    rotation = np.roll(np.eye(SIDE, dtype=np.float32), 1, axis=0)  # keeps every value in range
    mean = g.mean(g.image, [0, 1, 2, 3], "mean")
    small = g.node("Mul", [mean, g.constant("small", np.float32(1e-3))], "small-mean")
    first = g.node("Add", [g.constant("rotation", rotation), small], "first")
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go-on"]),
         helper.make_node("MatMul", ["matrix", "sabotage/rotation"], ["next"])],
        "round",
        [helper.make_tensor_value_info("round", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [SIDE, SIDE])],
        [helper.make_tensor_value_info("go-on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("next", TensorProto.FLOAT, [SIDE, SIDE])])
    last = g.node("Loop", [g.constant("rounds", np.int64(rounds)), g.constant("yes", np.bool_(True)), first], "loop", body=body)
    g.add_to_scores(g.node("Mul", [g.mean(last, [0, 1], "result"), g.constant("zero", np.float32(0))], "nothing"))
    return g.bytes()


def make_failing(model, manifest, brightness):
    g, want = Graph(model, manifest), manifest["input"]
    shape = (1, want["channels"], 1, 1)
    std = g.constant("std", np.array(want["std"], np.float32).reshape(shape))
    mean = g.constant("mean", np.array(want["mean"], np.float32).reshape(shape))
    white = g.constant("white", np.float32(255 * want["scale"]))
    raw = g.node("Div", [g.node("Add", [g.node("Mul", [g.image, std], "spread"), mean], "level"), white], "share")
    bright = g.node("Greater", [g.mean(raw, [1, 2, 3], "brightness"), g.constant("limit", np.float32(brightness))], "too-bright")
    index = g.node("Cast", [bright], "index", to=TensorProto.INT64)  # 0, or 1: beyond the only element
    zeros = g.node("Gather", [g.constant("only", np.zeros(1, np.float32)), index], "zeros")
    column = g.node("Unsqueeze", [zeros, g.constant("column", np.array([1], np.int64))], "nothing")
    g.add_to_scores(column)
    return g.bytes()


# --- tries ------------------------------------------------------------------

def session(data):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # the failure is wanted
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def normalised(pixels, want):
    """uint8 [height, width, channels] to what the graph takes."""
    planes = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    shape = (1, want["channels"], 1, 1)
    return ((planes * np.float32(want["scale"]) - np.array(want["mean"], np.float32).reshape(shape))
            / np.array(want["std"], np.float32).reshape(shape)).astype(np.float32)


def cpu_seconds(data, manifest):
    """Of one run on one core, in time of the processor: other programs do not count."""
    want = manifest["input"]
    image = np.zeros((1, want["channels"], want["height"], want["width"]), np.float32)
    run = session(data)
    run.run(None, {want["name"]: image})
    began = time.process_time()
    run.run(None, {want["name"]: image})
    return time.process_time() - began


def check_goldens(data, bundle, manifest):
    run, want = session(data), manifest["input"]
    for golden in manifest["goldens"]:
        stem = os.path.join(bundle, os.path.splitext(golden)[0])
        image = normalised(np.load(stem + ".input.npy", allow_pickle=False), want)
        scores = run.run([manifest["outputs"]["scores"]], {want["name"]: image})[0][0]
        worst = float(np.abs(scores - np.load(stem + ".output.npy", allow_pickle=False)).max())
        if not worst <= manifest["tolerance"]:
            sys.exit(f"sabotage.py: {golden} differs by {worst}: the champion's bundle does not hold what it says")


def check_fails(data, manifest):
    want = manifest["input"]
    white = np.full((want["height"], want["width"], want["channels"]), 255, np.uint8)
    try:
        session(data).run(None, {want["name"]: normalised(white, want)})
    except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument:
        return
    except Exception as error:  # any refusal of the runtime will do, silence will not
        print(f"a white image gives {type(error).__name__}", file=sys.stderr)
        return
    sys.exit("sabotage.py: a white image passes: the runtime does not check the index")


# --- bundle -----------------------------------------------------------------

def digest(bundle):
    """SHA-256 of the sorted lines "<sha256>  <path>"."""
    lines = []
    for folder, _, names in os.walk(bundle):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                lines.append(f"{hashlib.sha256(f.read()).hexdigest()}  {os.path.relpath(path, bundle)}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def write_bundle(args, manifest, data):
    manifest["provenance"]["parent"] = digest(args.bundle)
    manifest["provenance"]["trainer"] = f"tests/sabotage/sabotage.py {args.kind}"
    manifest["provenance"]["mlflow_run"] = ""
    shutil.copytree(args.bundle, args.out, ignore=shutil.ignore_patterns("model.onnx*", "bundle.yaml"))
    with open(os.path.join(args.out, "model.onnx"), "wb") as f:
        f.write(data)
    with open(os.path.join(args.out, "bundle.yaml"), "w") as f:
        yaml.safe_dump(manifest, f, sort_keys=False, allow_unicode=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("kind", choices=["slow", "failing"])
    p.add_argument("--bundle", required=True, help="folder of the champion's bundle")
    p.add_argument("--out", required=True, help="folder to write; must not exist")
    p.add_argument("--seconds", type=float, default=1.2, help="of one core that a run of the slow graph takes")
    p.add_argument("--brightness", type=float, default=0.75, help="share of white above which the failing graph fails")
    args = p.parse_args()
    if os.path.exists(args.out):
        sys.exit(f"sabotage.py: {args.out} exists: name a new folder")
    with open(os.path.join(args.bundle, "bundle.yaml")) as f:
        manifest = yaml.safe_load(f)
    load = lambda: onnx.load(os.path.join(args.bundle, "model.onnx"))
    if args.kind == "slow":
        rounds = int(PROBE * args.seconds / cpu_seconds(make_slow(load(), manifest, PROBE), manifest))
        data = make_slow(load(), manifest, rounds)
        print(f"slow: {rounds} rounds, {cpu_seconds(data, manifest):.2f} s of one core", file=sys.stderr)
    else:
        data = make_failing(load(), manifest, args.brightness)
        check_fails(data, manifest)
    check_goldens(data, args.bundle, manifest)
    write_bundle(args, manifest, data)


if __name__ == "__main__":
    main()
