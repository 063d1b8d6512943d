"""What ONNX's own tools and ONNX Runtime say of models; the tests compare.

    oracle.py same A.onnx B.onnx ...   A and B give the same bits on the same
                                       inputs, and the checker takes B
    oracle.py outputs MODEL.onnx       all its outputs for one picture, as JSON; the
                                       checker takes it
    oracle.py sees MODEL.onnx ...      how far outputs are changed by one input
                                       pixel: a JSON line for each model
"""
import json
import os
import sys

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime as ort

TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
         "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8,
         "tensor(int16)": np.int16, "tensor(uint16)": np.uint16, "tensor(uint32)": np.uint32,
         "tensor(uint64)": np.uint64, "tensor(bool)": np.bool_}


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def inputs(s, free=3):
    random = np.random.default_rng(1)
    feed = {}
    for i in s.get_inputs():
        values = random.random([d if isinstance(d, int) else free for d in i.shape])
        feed[i.name] = (values if "float" in i.type else 9 * values).astype(TYPES[i.type])
    return feed


def same(a, b):
    onnx.checker.check_model(onnx.load(b), full_check=True)
    one, two = session(a), session(b)
    feed = inputs(one)
    for x, y in zip(one.run(None, feed), two.run(None, feed), strict=True):
        if x.dtype != y.dtype or x.shape != y.shape or x.tobytes() != y.tobytes():
            sys.exit(f"{b} gives other bits than {a}")


def sees(path, side=96):
    """The farthest that an input pixel at (y, x) is from the input pixel under
    an output pixel that it changes, by side: y before, y after, x before, x after."""
    s = session(path)
    name = s.get_inputs()[0].name
    shape = [d if isinstance(d, int) else n for d, n in zip(s.get_inputs()[0].shape, (1, 1, side, side))]
    random = np.random.default_rng(2)
    base = random.random(shape).astype(np.float32)
    out = s.run(None, {name: base})[0]
    h, w = shape[2:]
    trials = 48 if h * w <= side * side else 9
    far = [0, 0, 0, 0]
    for trial in range(trials):
        y, x = int(random.integers(h // 3, 2 * h // 3)), int(random.integers(w // 3, 2 * w // 3))
        changed = base.copy()
        # Infinity passes through positive weights without being rounded away.
        changed[:, :, y, x] += (-30, 30, np.inf)[trial % 3]
        _, _, ys, xs = np.nonzero(s.run(None, {name: changed})[0] != out)
        ys, xs = ys * h // out.shape[2], xs * w // out.shape[3]
        # an output before the input pixel sees that far after itself
        for k, v in enumerate((y - ys.max(), ys.min() - y, x - xs.max(), xs.min() - x)):
            far[k] = max(far[k], -int(v))
    print(json.dumps({"before": [far[0], far[2]], "after": [far[1], far[3]], "scale": [out.shape[2] / h, out.shape[3] / w]}))


def outputs(path):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    s = session(path)
    values = s.run(None, inputs(s, free=1))
    print(json.dumps({o.name: {"shape": v.shape, "data": v.ravel().tolist()} for o, v in zip(s.get_outputs(), values)}))


what, files = sys.argv[1], sys.argv[2:]
if what == "same":
    for pair in zip(files[::2], files[1::2], strict=True):
        same(*pair)
elif what == "outputs":
    outputs(*files)
elif what == "sees":
    for file in files:
        sees(file)
else:
    sys.exit(__doc__)
