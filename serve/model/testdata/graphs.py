"""Makes the tiny ONNX graphs of serve/model's tests: run it beside itself.

    python3 -m pip install onnx==1.23.2 && python3 graphs.py

types.onnx     an input of every fixed-size type, [n, 3], and the same as output
scalars.onnx   `a` float32 [] and `b` int64 [] give `sum` float32 [], a + b, and
               `flag` bool [], a > 0
moving.onnx    `x` float32 [n] gives `above` float32 [m], its numbers above 0, and
               `same` float32 [n], which is x
mixing.onnx    `x` float32 [n, 2] gives `y` float32 [n, 2], x minus the mean of
               all rows: who shares a run changes it
half.onnx      `x` float16 [n, w] gives `y` float16 [n, w], which is x
rows.onnx      `x` float32 [n, 4] gives `y` float32 [n, 4], 2 x, and fails for
               every batch in which an element is above 100
strings.onnx   `x` string [n] gives `y` string [n]
sequence.onnx  `x` float32 [n] gives `y`, a sequence of tensors
work.onnx      a network of about 115 million multiplications a layer on
               `input` float32 [n, 1, 224, 224]; `scores` [n, 4] are all 0.5
../probe.onnx  `x` float32 [1] gives `y`, x where it is above 0: whether a
               provider runs anything at all
weights.onnx   `x` float32 [1, 1024] times a matrix of 4 MiB that is made when
               the graph is loaded, times 0, gives `y` [1, 1024]
"""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

T = TensorProto


def save(name, nodes, inputs, outputs, weights=(), opset=17):
    graph = helper.make_graph(
        nodes, "test", [helper.make_tensor_value_info(*i) if isinstance(i, tuple) else i for i in inputs],
        [helper.make_tensor_value_info(*o) if isinstance(o, tuple) else o for o in outputs],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="graphs.py")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, name + ".onnx")


node = helper.make_node
ALL = {"bool": T.BOOL, "uint8": T.UINT8, "uint16": T.UINT16, "uint32": T.UINT32, "uint64": T.UINT64, "int8": T.INT8,
       "int16": T.INT16, "int32": T.INT32, "int64": T.INT64, "fp16": T.FLOAT16, "bf16": T.BFLOAT16, "fp32": T.FLOAT, "fp64": T.DOUBLE}
save("types", [node("Identity", [k], [k + "_out"]) for k in ALL],
     [(k, t, ["n", 3]) for k, t in ALL.items()], [(k + "_out", t, ["n", 3]) for k, t in ALL.items()])
save("scalars", [node("Cast", ["b"], ["c"], to=T.FLOAT), node("Add", ["a", "c"], ["sum"]), node("Greater", ["a", "zero"], ["flag"])],
     [("a", T.FLOAT, []), ("b", T.INT64, [])], [("sum", T.FLOAT, []), ("flag", T.BOOL, [])], [("zero", np.float32(0))])
save("moving", [node("Greater", ["x", "zero"], ["positive"]), node("Compress", ["x", "positive"], ["above"]), node("Identity", ["x"], ["same"])],
     [("x", T.FLOAT, ["n"])], [("above", T.FLOAT, ["m"]), ("same", T.FLOAT, ["n"])], [("zero", np.float32(0))])
save("mixing", [node("ReduceMean", ["x"], ["mean"], axes=[0]), node("Sub", ["x", "mean"], ["y"])],
     [("x", T.FLOAT, ["n", 2])], [("y", T.FLOAT, ["n", 2])])
save("half", [node("Identity", ["x"], ["y"])], [("x", T.FLOAT16, ["n", "w"])], [("y", T.FLOAT16, ["n", "w"])])
save("rows", [node("ReduceMax", ["x"], ["most"], keepdims=0), node("Greater", ["most", "limit"], ["above"]),
              node("Cast", ["above"], ["index"], to=T.INT64), node("Gather", ["table", "index"], ["factor"], axis=0),
              node("Mul", ["x", "factor"], ["y"])],
     [("x", T.FLOAT, ["n", 4])], [("y", T.FLOAT, ["n", 4])], [("limit", np.float32(100)), ("table", np.float32([2]))])
save("strings", [node("Identity", ["x"], ["y"])], [("x", T.STRING, ["n"])], [("y", T.STRING, ["n"])])
save("sequence", [node("SplitToSequence", ["x"], ["y"], keepdims=0)], [("x", T.FLOAT, ["n"])],
     [helper.make_tensor_sequence_value_info("y", T.FLOAT, None)])


def filled(name, shape, value):
    return node("ConstantOfShape", [name + "_shape"], [name], value=numpy_helper.from_array(np.float32([value]))), (name + "_shape", np.int64(shape))


def work(layers=4, channels=64):
    nodes, weights = [], []

    def conv(x, y, out, cin, k, stride):
        n, w = filled(y + "_w", [out, cin, k, k], 1 / (cin * k * k))
        nodes.extend([n, node("Conv", [x, y + "_w"], [y + "_c"], strides=[stride] * 2, pads=[k // 2] * 4), node("Relu", [y + "_c"], [y])])
        weights.append(w)

    conv("input", "x0", channels, 1, 7, 4)
    for i in range(layers):
        conv(f"x{i}", f"x{i+1}", channels, channels, 3, 1)
    n, w = filled("head", [channels, 4], 0)
    nodes.extend([n, node("GlobalAveragePool", [f"x{layers}"], ["pooled"]), node("Flatten", ["pooled"], ["features"]),
                  node("MatMul", ["features", "head"], ["logits"]), node("Sigmoid", ["logits"], ["scores"])])
    weights.append(w)
    save("work", nodes, [("input", T.FLOAT, ["n", 1, 224, 224])], [("scores", T.FLOAT, ["n", 4])], weights)


work()
n, w = filled("m", [1024, 1024], 0)
save("weights", [n, node("MatMul", ["x", "m"], ["y"])], [("x", T.FLOAT, [1, 1024])], [("y", T.FLOAT, [1, 1024])], [w])
save("../probe", [node("Relu", ["x"], ["y"])], [("x", T.FLOAT, [1])], [("y", T.FLOAT, [1])])
