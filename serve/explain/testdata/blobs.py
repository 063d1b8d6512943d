"""Trains the small network of blobs.onnx: run it beside itself with PyTorch 1.13,
about half a minute on two cores.

Pictures of 48 x 48 grey pixels hold noise, and each in half of them a bright
round blob and a bright horizontal bar, anywhere. The network says which. It ends
in global average pooling and one linear layer, and has no heat map: the tests
add it. The tests draw their own pictures by the same rules.

blobs.json holds its scores for the picture whose pixel i is 100 + (7 i) mod 23.
"""
import json

import torch
from torch import nn

SIDE = 48


def draw(random, n):
    """Pictures [n, 1, 48, 48] from 0 to 1, labels [n, 2]."""
    def uniform(low, high):
        return low + (high - low) * torch.rand(n, 1, 1, generator=random)

    labels = (torch.rand(n, 2, generator=random) < 0.5).float()
    y, x = torch.arange(SIDE).reshape(1, SIDE, 1), torch.arange(SIDE).reshape(1, 1, SIDE)
    level = uniform(60, 140) + uniform(-0.5, 0.5) * (y - 24) + uniform(-0.5, 0.5) * (x - 24)
    pictures = level + 12 * torch.randn(n, SIDE, SIDE, generator=random)
    r2 = (y - uniform(6, 42)) ** 2 + (x - uniform(6, 42)) ** 2
    pictures += labels[:, :1, None] * uniform(60, 110) * torch.exp(-r2 / (2 * uniform(2.5, 4) ** 2))
    bar = ((y - uniform(4, 44)).abs() < 1.5) & ((x - uniform(10, 38)).abs() < 9)
    pictures += labels[:, 1:, None] * uniform(60, 110) * bar
    return pictures.round().clamp(0, 255)[:, None] / 255, labels


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(16, 24, 3, 1, 1), nn.ReLU())
        self.head = nn.Linear(24, 2)

    def forward(self, x):
        return torch.sigmoid(self.head(self.body((x - 0.5) / 0.25).mean((2, 3))))


def main():
    torch.manual_seed(1)
    torch.set_num_threads(2)
    random = torch.Generator().manual_seed(1)
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003, weight_decay=0.05)
    steps = 900
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.003 * (1 - step / steps)
        pictures, labels = draw(random, 64)
        # Smoothed labels keep evidence from growing and cancelling out.
        loss = nn.functional.binary_cross_entropy(network(pictures), 0.05 + 0.9 * labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    pictures, labels = draw(random, 1000)
    right = ((network(pictures) > 0.5) == (labels > 0.5)).float().mean(0)
    print(f"loss {loss.item():.4f}, right {right.tolist()}")
    fixed = (100 + 7 * torch.arange(SIDE * SIDE) % 23).reshape(1, 1, SIDE, SIDE) / 255
    with torch.no_grad():
        scores = network(fixed)[0].tolist()
    with open("blobs.json", "w") as f:
        json.dump(scores, f)
        f.write("\n")
    torch.onnx.export(
        network, fixed, "blobs.onnx", opset_version=16, input_names=["image"], output_names=["scores"],
        dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}})


main()
