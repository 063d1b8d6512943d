"""Makes the tiny ONNX models of package bundletest: run it beside itself.

    python3 -m pip install onnx==1.23.2 && python3 models.py

All take `input` float32 [n, 1, 8, 8] and give, with m the mean of a picture's
input and w, b of each label:

    scores    float32 [n, 2]       sigmoid(w m + b)
    heatmap   float32 [n, 2, 8, 8] w x
    features  float32 [n, 1]       m

mean.onnx      just that
failing.onnx   the same, but its run fails where m > 0.9: an index that is
               computed from m leaves its table
endless.onnx   the same, but its run takes hours where m > 0.9: a loop whose
               count is computed from m
renamed.onnx   mean.onnx with the output `scores` called `output`
wide.onnx      mean.onnx for pictures of 9 x 9
"""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

W, B = [2.0, -3.0], [0.0, 0.5]


def const(name, value, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(value, dtype=dtype), name)


def build(path, side=8, failing=False, endless=False, scores="scores"):
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["features4"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["features4", "one"], ["features"]),
        helper.make_node("MatMul", ["features", "w"], ["weighted"]),
        helper.make_node("Add", ["weighted", "b"], ["logits"]),
        helper.make_node("Conv", ["input", "kernel"], ["heatmap"]),
    ]
    logits = "logits"
    weights = [const("w", [W]), const("b", B), const("one", [1], np.int64),
               const("kernel", np.reshape(W, (2, 1, 1, 1)))]
    if failing:
        # index 0 up to a mean of 0.9, 1 above it; the table has one row
        nodes += [
            helper.make_node("Greater", ["features4", "limit"], ["above"]),
            helper.make_node("Cast", ["above"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["zeros"], axis=0),
            helper.make_node("Add", ["logits", "zeros"], ["checked"]),
        ]
        weights += [const("limit", 0.9), const("table", [[0.0, 0.0]])]
        logits = "checked"
    if endless:
        # the loop adds 0 to the logits: not at all up to a mean of 0.9
        body = helper.make_graph(
            [helper.make_node("Identity", ["go_on"], ["still"]), helper.make_node("Add", ["sum", "zero"], ["next"])], "body",
            [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
             helper.make_tensor_value_info("sum", TensorProto.FLOAT, None)],
            [helper.make_tensor_value_info("still", TensorProto.BOOL, []), helper.make_tensor_value_info("next", TensorProto.FLOAT, None)],
            [const("zero", 0.0)])
        nodes += [
            helper.make_node("ReduceMax", ["features4"], ["brightest"], keepdims=0),
            helper.make_node("Greater", ["brightest", "limit"], ["above"]),
            helper.make_node("Cast", ["above"], ["one_or_none"], to=TensorProto.INT64),
            helper.make_node("Mul", ["one_or_none", "many"], ["times"]),
            helper.make_node("Loop", ["times", "yes", "logits"], ["looped"], body=body),
        ]
        weights += [const("limit", 0.9), const("many", 10**12, np.int64), const("yes", True, np.bool_)]
        logits = "looped"
    nodes.append(helper.make_node("Sigmoid", [logits], [scores]))
    f = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info("input", f, ["n", 1, side, side])],
        [helper.make_tensor_value_info(scores, f, ["n", 2]),
         helper.make_tensor_value_info("heatmap", f, ["n", 2, side, side]),
         helper.make_tensor_value_info("features", f, ["n", 1])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8,
                              producer_name="models.py")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


build("mean.onnx")
build("failing.onnx", failing=True)
build("endless.onnx", endless=True)
build("renamed.onnx", scores="output")
build("wide.onnx", side=9)
