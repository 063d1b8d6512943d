#!/usr/bin/env python3
"""Writes models with the tensors that go in and come out of them.

    models.py synthetic OUT          graphs made here: every datatype, NaN
    models.py vectors DATA OUT       other people's models: their own vectors
                                     where they have some, else what ONNX
                                     Runtime answers to random tensors
    models.py refused DATA OUT       models that cannot be served

Each model is a folder of OUT with model.onnx and tensors.json: inputs and
outputs in the graph's order, each with name, datatype (of the Open Inference
Protocol), shape, npy (numpy's name of the type; BF16 as its bits) and the file
of its bytes. Python's ONNX Runtime knows no BF16: a graph with it is given
casts to float32, which holds every BF16 exactly.
"""
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

DATATYPES = {  # of ONNX: of the protocol, of numpy's arrays, of their files
    TensorProto.BOOL: ("BOOL", np.bool_, "|b1"),
    TensorProto.INT8: ("INT8", np.int8, "|i1"),
    TensorProto.INT16: ("INT16", np.int16, "<i2"),
    TensorProto.INT32: ("INT32", np.int32, "<i4"),
    TensorProto.INT64: ("INT64", np.int64, "<i8"),
    TensorProto.UINT8: ("UINT8", np.uint8, "|u1"),
    TensorProto.UINT16: ("UINT16", np.uint16, "<u2"),
    TensorProto.UINT32: ("UINT32", np.uint32, "<u4"),
    TensorProto.UINT64: ("UINT64", np.uint64, "<u8"),
    TensorProto.FLOAT16: ("FP16", np.float16, "<f2"),
    TensorProto.BFLOAT16: ("BF16", np.uint16, "<u2"),
    TensorProto.FLOAT: ("FP32", np.float32, "<f4"),
    TensorProto.DOUBLE: ("FP64", np.float64, "<f8"),
}


def element(value):
    return value.type.tensor_type.elem_type


def inputs_of(graph):
    constants = {t.name for t in graph.initializer}
    return [i for i in graph.input if i.name not in constants]


def random_array(value, rng):
    """A random array for an input; free dimensions become 3, BF16 its bits."""
    shape = [d.dim_value or 3 for d in value.type.tensor_type.shape.dim]
    datatype, kind, _ = DATATYPES[element(value)]
    if datatype == "BOOL":
        return rng.integers(0, 2, shape).astype(kind)
    if datatype == "BF16":
        return (rng.standard_normal(shape).astype(np.float32).view(np.uint32) >> 16).astype(kind)
    if np.issubdtype(kind, np.floating):
        return rng.standard_normal(shape).astype(kind)
    # 0 to 1 is what these graphs take for an index, too
    return rng.integers(0, 2, shape).astype(kind)


def without_bf16(model):
    """The same graph with float32 where BF16 goes in or comes out."""
    wrapped = onnx.ModelProto()
    wrapped.CopyFrom(model)
    graph = wrapped.graph
    for value in inputs_of(graph):
        if element(value) == TensorProto.BFLOAT16:
            inner = value.name + "/bf16"
            for node in graph.node:
                for i, name in enumerate(node.input):
                    if name == value.name:
                        node.input[i] = inner
            graph.node.insert(0, helper.make_node("Cast", [value.name], [inner], to=TensorProto.BFLOAT16))
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for value in graph.output:
        if element(value) == TensorProto.BFLOAT16:
            inner = value.name + "/bf16"
            for node in graph.node:
                for i, name in enumerate(node.output):
                    if name == value.name:
                        node.output[i] = inner
            graph.node.append(helper.make_node("Cast", [inner], [value.name], to=TensorProto.FLOAT))
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return wrapped


def widen(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def run(model, arrays):
    """What ONNX Runtime answers, in the graph's order; BF16 as its bits."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(without_bf16(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {}
    for value, array in zip(inputs_of(model.graph), arrays):
        feed[value.name] = widen(array) if element(value) == TensorProto.BFLOAT16 else array
    results = session.run(None, feed)
    return [
        (np.ascontiguousarray(r).view(np.uint32) >> 16).astype(np.uint16) if element(value) == TensorProto.BFLOAT16 else r
        for value, r in zip(model.graph.output, results)
    ]


def write(out, name, model, inputs, outputs):
    folder = Path(out) / name
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    graph = onnx.load(folder / "model.onnx").graph
    described = {}
    for side, values, arrays in (("inputs", inputs_of(graph), inputs), ("outputs", graph.output, outputs)):
        described[side] = []
        for i, (value, array) in enumerate(zip(values, arrays, strict=True)):
            datatype, kind, npy = DATATYPES[element(value)]
            file = f"{side}.{i}.bin"
            (folder / file).write_bytes(np.ascontiguousarray(array, dtype=kind).tobytes())
            described[side].append({"name": value.name, "datatype": datatype, "npy": npy, "shape": list(array.shape), "file": file})
    (folder / "tensors.json").write_text(json.dumps(described))


def make(nodes, inputs, outputs, opset=17):
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def synthetic(out):
    """types: an Identity for each datatype. roots: square roots, NaN of what is negative."""
    values = [("x_" + d.lower(), "y_" + d.lower(), e) for e, (d, _, _) in DATATYPES.items()]
    model = make(
        [helper.make_node("Identity", [x], [y]) for x, y, _ in values],
        [helper.make_tensor_value_info(x, e, ["n", 2]) for x, _, e in values],
        [helper.make_tensor_value_info(y, e, ["n", 2]) for _, y, e in values],
    )
    rng = np.random.default_rng(1)
    arrays = [random_array(i, rng) for i in model.graph.input]
    write(out, "types", model, arrays, arrays)
    model = make(
        [helper.make_node("Sqrt", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    write(out, "roots", model, [np.array([4, 9], np.float32)], [np.array([2, 3], np.float32)])


REFUSED = ["super_resolution_tutorial", "onnx_backend/test_AvgPool2d", "onnx_backend/test_BatchNorm2d_eval",
           "onnx_backend/test_Linear", "yalue_test_data/sklearn_randomforest.onnx"]


def tensor(path):
    proto = TensorProto()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(proto)


def vectors(data, out):
    root = Path(data)
    for path in sorted(root.rglob("model.onnx")):
        name = path.parent.relative_to(root).as_posix()
        if name in REFUSED:
            continue
        for case in sorted(path.parent.glob("test_data_set_*")):
            given = [tensor(p) for p in sorted(case.glob("input_*.pb"))]
            wanted = [tensor(p) for p in sorted(case.glob("output_*.pb"))]
            label = path.parent.name if case.name.endswith("_0") else f"{path.parent.name}_{case.name[-1]}"
            write(out, label.replace("_", "-"), path.read_bytes(), given, wanted)
    rng = np.random.default_rng(2)
    for path in sorted(root.glob("yalue_test_data/*.onnx")):
        if path.relative_to(root).as_posix() in REFUSED:
            continue
        model = onnx.load(path)
        given = [random_array(i, rng) for i in inputs_of(model.graph)]
        write(out, path.stem.replace("_", "-"), path.read_bytes(), given, run(model, given))


def refused(data, out):
    for name in REFUSED:
        path = Path(data) / name
        folder = Path(out) / path.stem
        folder.mkdir(parents=True)
        shutil.copy(path if path.suffix else path / "model.onnx", folder / "model.onnx")


if __name__ == "__main__":
    {"synthetic": synthetic, "vectors": vectors, "refused": refused}[sys.argv[1]](*sys.argv[2:])
