"""Makes the small super-resolution networks of the tests: run it beside itself
with a Python that has onnx 1.23.

edsr.onnx       residual blocks, twofold by DepthToSpace, three channels
plain.onnx      sub-pixel convolution, threefold, one channel
attention.onnx  edsr.onnx with channel attention: it averages over the picture
levels.onnx     one level of pooling and back up: tiles lie at multiples of 2
fixed.onnx      plain.onnx for pictures of exactly 24 x 24 pixels
"""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    def __init__(self, channels):
        self.nodes, self.weights, self.random = [], [], np.random.default_rng(7)
        self.channels = {"x": channels}

    def add(self, op, inputs, channels, **attributes):
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], **attributes))
        self.channels[out] = channels
        return out

    def const(self, value):
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def conv(self, x, out, k):
        fan = self.channels[x] * k * k
        w = self.random.standard_normal((out, self.channels[x], k, k)) * np.sqrt(2 / fan)
        b = self.random.standard_normal(out) * 0.1
        return self.add("Conv", [x, self.const(w), self.const(b)], out, kernel_shape=[k, k], pads=[k // 2] * 4)

    def same(self, op, *inputs, **attributes):
        return self.add(op, list(inputs), self.channels[inputs[0]], **attributes)

    def save(self, path, out, side=None):
        f, c = TensorProto.FLOAT, self.channels["x"]
        nodes = self.nodes + [helper.make_node("Sigmoid", [out], ["y"])]
        graph = helper.make_graph(
            nodes, "test", [helper.make_tensor_value_info("x", f, ["n", c, side or "h", side or "w"])],
            [helper.make_tensor_value_info("y", f, ["n", c, None, None])], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="models.py")
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def edsr(path, attention):
    n = Net(3)
    head = x = n.conv("x", 16, 3)
    for _ in range(3):
        y = n.conv(n.same("Relu", n.conv(x, 16, 3)), 16, 3)
        if attention:
            squeezed = n.conv(n.same("Relu", n.conv(n.same("GlobalAveragePool", y), 4, 1)), 16, 1)
            y = n.same("Mul", y, n.same("Sigmoid", squeezed))
        x = n.same("Add", x, n.same("Mul", y, n.const(0.1)))
    x = n.same("Add", head, n.conv(x, 16, 3))
    x = n.add("DepthToSpace", [n.conv(x, 64, 3)], 16, blocksize=2, mode="CRD")
    n.save(path, n.conv(x, 3, 3))


def plain(path, side):
    n = Net(1)
    x = n.same("Tanh", n.conv("x", 16, 5))
    x = n.same("Tanh", n.conv(x, 8, 3))
    n.save(path, n.add("DepthToSpace", [n.conv(x, 9, 3)], 1, blocksize=3), side)


def levels(path):
    n = Net(1)
    one = n.same("Relu", n.conv("x", 8, 3))
    two = n.same("Relu", n.conv(n.same("MaxPool", one, kernel_shape=[2, 2], strides=[2, 2]), 8, 3))
    up = n.add("Resize", [two, "", n.const([1, 1, 2, 2])], 8, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    x = n.conv(n.same("Add", up, one), 4, 3)
    n.save(path, n.add("DepthToSpace", [x], 1, blocksize=2))


edsr("edsr.onnx", False)
edsr("attention.onnx", True)
plain("plain.onnx", None)
plain("fixed.onnx", 24)
levels("levels.onnx")
