"""Makes the small classifiers of heads/, as PyTorch exports them: run it beside
itself with PyTorch 1.13.

gemm.onnx      a residual block, AdaptiveAvgPool2d, Flatten, Linear, Sigmoid
mean.onnx      mean over space, Linear; its scores are logits
matmul.onnx    mean over space, a product and a sum, Sigmoid
heatmap.onnx   gemm.onnx with the class activation map as its output `map`
xray.onnx      the network of examples/xray, which gives its map as `heatmap`
hidden.onnx    two linear layers: no class activation map
max.onnx       greatest value instead of the mean: none
softmax.onnx   scores that depend on each other: none

golden.json holds each one's scores, as PyTorch computes them, for the picture of
16 x 16 pixels whose levels are 0, 1, 2 ... 255, divided by 255.
"""
import json
import sys

import torch
from torch import nn

sys.dont_write_bytecode = True
sys.path.insert(0, "../../../examples/xray")
from network import Network


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(1, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(6, 6, 3, 1, 1), nn.BatchNorm2d(6))

    def forward(self, x):
        x = self.one(x)
        return torch.relu(x + self.two(x))


class Head(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.body, self.head, self.hidden = kind, Body(), nn.Linear(6, 3), nn.Linear(6, 6)

    def forward(self, x):
        x = self.body(x)
        if self.kind in ("gemm", "heatmap", "softmax"):
            y = self.head(torch.flatten(nn.AdaptiveAvgPool2d(1)(x), 1))
        elif self.kind == "max":
            y = self.head(torch.flatten(nn.AdaptiveMaxPool2d(1)(x), 1))
        elif self.kind == "hidden":
            y = self.head(torch.relu(self.hidden(x.mean((2, 3)))))
        elif self.kind == "matmul":
            y = x.mean((2, 3)) @ self.head.weight.T.contiguous() + self.head.bias
        else:
            y = self.head(x.mean((2, 3)))
        if self.kind == "heatmap":
            return torch.sigmoid(y), torch.conv2d(x, self.head.weight[:, :, None, None])
        if self.kind == "softmax":
            return torch.softmax(y, 1)
        return y if self.kind == "mean" else torch.sigmoid(y)


golden = {}
picture = torch.arange(256).reshape(1, 1, 16, 16) / 255
for kind in ("gemm", "mean", "matmul", "heatmap", "xray", "hidden", "max", "softmax"):
    torch.manual_seed(7)
    outputs = {"heatmap": ["scores", "map"], "xray": ["scores", "heatmap", "features"]}.get(kind, ["scores"])
    head = (Network(1, 3, 3) if kind == "xray" else Head(kind)).eval()
    with torch.no_grad():
        scores = head(picture)
    golden[kind] = (scores[0] if len(outputs) > 1 else scores).flatten().tolist()
    torch.onnx.export(
        head, torch.zeros(2, 1, 16, 16), f"heads/{kind}.onnx", opset_version=16, input_names=["image"],
        output_names=outputs, dynamic_axes={name: {0: "batch"} for name in ["image"] + outputs})

with open("heads/golden.json", "w") as f:
    json.dump(golden, f, indent=1)
    f.write("\n")
