"""Writes what onnx's own reference evaluator gives for the toy graphs of
github.com/yalue/onnxruntime_go, as toys/NAME.input.I.npy and output.I.npy; BF16
as uint16 bits.

    python3 -m pip install onnx==1.23.2 && python3 toys.py FOLDER_OF_THE_GRAPHS
"""
import pathlib
import sys

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto as T
from onnx.reference import ReferenceEvaluator

NUMPY = {T.FLOAT: np.float32, T.UINT8: np.uint8, T.UINT16: np.uint16, T.INT16: np.int16, T.INT32: np.int32, T.INT64: np.int64,
         T.FLOAT16: np.float16, T.BFLOAT16: ml_dtypes.bfloat16, T.DOUBLE: np.float64}


def write(path, value):
    value = np.asarray(value)
    np.save(path, value.view(np.uint16) if value.dtype == ml_dtypes.bfloat16 else value)


for name in ["0_dim_output", "big_fanout", "dynamic_axes", "float16", "multitype", "several_inputs_and_outputs"]:
    model = onnx.load(pathlib.Path(sys.argv[1]) / f"example_{name}.onnx")
    feeds = {}
    for k, i in enumerate(model.graph.input):
        tensor = i.type.tensor_type
        shape = [d.dim_value or 3 for d in tensor.shape.dim]
        values = (np.arange(np.prod(shape)).reshape(shape) % 5).astype(NUMPY[tensor.elem_type])
        feeds[i.name] = values
        write(f"toys/{name}.input.{k}.npy", values)
    for k, (value, o) in enumerate(zip(ReferenceEvaluator(model).run(None, feeds), model.graph.output)):
        value = np.asarray(value)
        print(name, o.name, value.dtype, value.shape)
        write(f"toys/{name}.output.{k}.npy", value.astype(NUMPY[o.type.tensor_type.elem_type]))
