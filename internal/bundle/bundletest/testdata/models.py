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
flat.onnx      mean.onnx whose scores have no batch: float32 [2]
unknown.onnx   mean.onnx with an operator that nobody has
heavy.onnx     mean.onnx by way of 16 MB of weights, which the runtime makes of
               a constant when it opens the file

enlarge1.onnx and enlarge3.onnx take `input` float32 [n, c, h, w] with 1 or 3
channels and give `image` float32 [n, c, 2h, 2w]: every pixel is the mean of the
3 x 3 pixels around it, 0 outside the picture, repeated 2 x 2.

sums.onnx takes `a` float32 [n, 3] and `b` int64 [n, 3] and gives `sum` float32
[n, 3], a + b, and `twice` int64 [n, 3], 2 b.
"""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

W, B = [2.0, -3.0], [0.0, 0.5]


def const(name, value, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(value, dtype=dtype), name)


def build(path, side=8, failing=False, endless=False, scores="scores", flat=False, unknown=False, heavy=False):
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["features4"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["features4", "one"], ["features"]),
        helper.make_node("MatMul", ["features", "w"], ["weighted"]),
        helper.make_node("Add", ["weighted", "b"], ["logits"]),
        helper.make_node("Conv", ["input", "kernel"], ["heatmap"]),
    ]
    if heavy:
        # m is the same after 64 x 65536 weights of 1/64 and 65536 of 1/65536
        one = numpy_helper.from_array(np.full(1, 1 / 64, np.float32), "value")
        two = numpy_helper.from_array(np.full(1, 1 / 65536, np.float32), "value")
        nodes[:2] = [
            helper.make_node("Flatten", ["input"], ["flat_input"]),
            helper.make_node("ConstantOfShape", ["shape_one"], ["many"], value=one),
            helper.make_node("ConstantOfShape", ["shape_two"], ["few"], value=two),
            helper.make_node("MatMul", ["flat_input", "many"], ["wide"]),
            helper.make_node("MatMul", ["wide", "few"], ["features"]),
        ]
    logits = "logits"
    weights = [const("w", [W]), const("b", B), const("one", [1], np.int64),
               const("kernel", np.reshape(W, (2, 1, 1, 1)))]
    if heavy:
        weights = [w for w in weights if w.name != "one"] + [const("shape_one", [64, 65536], np.int64), const("shape_two", [65536, 1], np.int64)]
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
    if flat:
        nodes.append(helper.make_node("ReduceMax", [logits], ["flat"], axes=[0], keepdims=0))
        logits = "flat"
    if unknown:
        nodes.append(helper.make_node("Levitate", [logits], ["levitated"], domain="example.unknown"))
        logits = "levitated"
    nodes.append(helper.make_node("Sigmoid", [logits], [scores]))
    f = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info("input", f, ["n", 1, side, side])],
        [helper.make_tensor_value_info(scores, f, [2] if flat else ["n", 2]),
         helper.make_tensor_value_info("heatmap", f, ["n", 2, side, side]),
         helper.make_tensor_value_info("features", f, ["n", 1])], weights)
    save(graph, path, [("example.unknown", 1)] if unknown else [])


def save(graph, path, domains=()):
    opsets = [helper.make_opsetid(*o) for o in [("", 13), *domains]]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="models.py")
    onnx.checker.check_model(model, full_check=not domains)
    onnx.save(model, path)


def enlarge(path, channels):
    # DepthToSpace in the order CRD takes 4 planes of each channel, one behind the other
    kernel = np.full((4 * channels, 1, 3, 3), 1 / 9)
    f = TensorProto.FLOAT
    save(helper.make_graph(
        [helper.make_node("Conv", ["input", "kernel"], ["planes"], pads=[1, 1, 1, 1], group=channels),
         helper.make_node("DepthToSpace", ["planes"], ["image"], blocksize=2, mode="CRD")], "test",
        [helper.make_tensor_value_info("input", f, ["n", channels, "h", "w"])],
        [helper.make_tensor_value_info("image", f, ["n", channels, "2h", "2w"])], [const("kernel", kernel)]), path)


def sums(path):
    f, i = TensorProto.FLOAT, TensorProto.INT64
    save(helper.make_graph(
        [helper.make_node("Cast", ["b"], ["b_float"], to=f), helper.make_node("Add", ["a", "b_float"], ["sum"]),
         helper.make_node("Add", ["b", "b"], ["twice"])], "test",
        [helper.make_tensor_value_info("a", f, ["n", 3]), helper.make_tensor_value_info("b", i, ["n", 3])],
        [helper.make_tensor_value_info("sum", f, ["n", 3]), helper.make_tensor_value_info("twice", i, ["n", 3])]), path)


build("mean.onnx")
build("failing.onnx", failing=True)
build("endless.onnx", endless=True)
build("renamed.onnx", scores="output")
build("wide.onnx", side=9)
build("flat.onnx", flat=True)
build("unknown.onnx", unknown=True)
build("heavy.onnx", heavy=True)
enlarge("enlarge1.onnx", 1)
enlarge("enlarge3.onnx", 3)
sums("sums.onnx")
