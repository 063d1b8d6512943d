"""Makes the small networks whose receptive fields the tests compare: run it
beside itself with a Python that has onnx 1.23.

All weights are positive, so that what a pixel reaches is not lost on the way.

edsr.onnx      residual blocks, twofold DepthToSpace
unet.onnx      two levels of pooling, ConvTranspose and nearest Resize back up
shuffle.onnx   threefold sub-pixel convolution by Reshape, Transpose, Reshape,
               whose sizes are computed from Shape
mixed.onnx     SAME padding, dilation, reflecting Pad, SpaceToDepth, linear
               Resize, strided ConvTranspose
classes.onnx   the body of a classifier: an eighth of the picture's sides
"""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """Nodes one after another; each method gives the name of what it made."""

    def __init__(self, channels):
        self.nodes, self.weights, self.count = [], [], 0
        self.random = np.random.default_rng(3)
        self.channels = {"x": channels}

    def add(self, op, inputs, channels, **attributes):
        self.count += 1
        out = f"t{self.count}"
        self.nodes.append(helper.make_node(op, inputs, [out], **attributes))
        self.channels[out] = channels
        return out

    def const(self, value, dtype=np.float32):
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def conv(self, x, out, k, **attributes):
        w = self.const(self.random.random((out, self.channels[x], k, k)) / (self.channels[x] * k * k) + 0.01)
        attributes.setdefault("pads", [k // 2] * 4) if "auto_pad" not in attributes else None
        return self.add("Conv", [x, w], out, **attributes)

    def up(self, x, out, k, **attributes):
        w = self.const(self.random.random((self.channels[x], out, k, k)) + 0.01)
        return self.add("ConvTranspose", [x, w], out, **attributes)

    def same(self, op, *inputs, **attributes):
        return self.add(op, list(inputs), self.channels[inputs[0]], **attributes)

    def concat(self, *inputs):
        return self.add("Concat", list(inputs), sum(self.channels[i] for i in inputs), axis=1)

    def resize(self, x, **attributes):
        return self.add("Resize", [x, "", self.const([1, 1, 2, 2])], self.channels[x], **attributes)

    def save(self, path, out):
        f = TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes + [helper.make_node("Identity", [out], ["y"])], "test",
            [helper.make_tensor_value_info("x", f, ["n", self.channels["x"], "h", "w"])],
            [helper.make_tensor_value_info("y", f, ["n", self.channels[out], None, None])], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="models.py")
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def edsr():
    n = Net(3)
    head = n.conv("x", 4, 3)
    x = head
    for _ in range(3):
        y = n.conv(n.same("Relu", n.conv(x, 4, 3)), 4, 3)
        x = n.same("Add", x, n.same("Mul", y, n.const(0.1)))
    x = n.same("Add", head, n.conv(x, 4, 3))
    x = n.add("DepthToSpace", [n.conv(x, 16, 3)], 4, blocksize=2, mode="CRD")
    n.save("edsr.onnx", n.conv(x, 3, 3))


def unet():
    n = Net(1)
    one = n.same("Relu", n.conv("x", 3, 3))
    two = n.same("Relu", n.conv(n.same("MaxPool", one, kernel_shape=[2, 2], strides=[2, 2]), 4, 3))
    three = n.same("LeakyRelu", n.conv(n.same("MaxPool", two, kernel_shape=[2, 2], strides=[2, 2]), 5, 3))
    x = n.conv(n.concat(n.up(three, 4, 2, strides=[2, 2]), two), 4, 3)
    x = n.concat(n.resize(x, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"), one)
    n.save("unet.onnx", n.same("Sigmoid", n.conv(x, 2, 3)))


def shuffle():
    n = Net(1)
    x = n.conv(n.same("Tanh", n.same("Mul", n.conv("x", 4, 5), n.const(1e-6))), 9, 3)
    shape = n.add("Shape", [x], 0)

    def size(i):
        return n.add("Unsqueeze", [n.add("Gather", [shape, n.const(i, np.int64)], 0), n.const([0], np.int64)], 0)

    r = n.const([3], np.int64)
    apart = n.add("Concat", [size(0), n.const([1], np.int64), r, r, size(2), size(3)], 0, axis=0)
    whole = n.add("Concat", [size(0), n.const([1], np.int64), n.add("Mul", [size(2), r], 0), n.add("Mul", [size(3), r], 0)], 0, axis=0)
    x = n.add("Transpose", [n.add("Reshape", [x, apart], 1)], 1, perm=[0, 1, 4, 2, 5, 3])
    n.save("shuffle.onnx", n.add("Reshape", [x, whole], 1))


def mixed():
    n = Net(1)
    x = n.conv("x", 3, 5, auto_pad="SAME_UPPER", strides=[2, 2])
    x = n.conv(x, 3, 3, dilations=[2, 2], pads=[2, 2, 2, 2])
    x = n.same("Pad", x, n.const([0, 0, 1, 1, 0, 0, 1, 1], np.int64), mode="reflect")
    x = n.conv(x, 4, 3, pads=[0, 0, 0, 0])
    x = n.add("SpaceToDepth", [x], 16, blocksize=2)
    x = n.same("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    x = n.up(x, 4, 4, strides=[2, 2], pads=[1, 1, 1, 1])
    n.save("mixed.onnx", n.resize(x, mode="linear", coordinate_transformation_mode="half_pixel"))


def classes():
    n = Net(1)
    x = "x"
    for k in (5, 3, 3):
        x = n.same("Relu", n.conv(x, 4, k, strides=[2, 2]))
    n.save("classes.onnx", x)


for make in (edsr, unet, shuffle, mixed, classes):
    make()
