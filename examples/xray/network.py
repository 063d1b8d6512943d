"""The network of the X-ray example, and what turns images into its input."""
import torch
from torch import nn
from torch.nn import functional as F


class Normalise(nn.Module):
    """Raw 0..255 to what the network sees; the server does the same."""

    def __init__(self, want):
        super().__init__()
        shape = (1, want["channels"], 1, 1)
        self.scale = want["scale"]
        self.register_buffer("mean", torch.tensor(want["mean"]).reshape(shape))
        self.register_buffer("std", torch.tensor(want["std"]).reshape(shape))

    def forward(self, images):
        return (images.float() * self.scale - self.mean) / self.std


class Residual(nn.Module):
    def __init__(self, inner, outer, stride):
        super().__init__()
        self.one = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.norm_one = nn.BatchNorm2d(outer)
        self.two = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norm_two = nn.BatchNorm2d(outer)
        self.skip = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x):
        y = F.relu(self.norm_one(self.one(x)))
        return F.relu(self.norm_two(self.two(y)) + self.skip(x))


class Network(nn.Module):
    """Global average pooling and one linear layer, so that the class activation
    map is exact: the mean of a label's map plus its bias is its logit."""

    def __init__(self, channels, labels, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            Residual(width, width, 1), Residual(width, 2 * width, 2), Residual(2 * width, 4 * width, 2))
        self.head = nn.Linear(4 * width, labels)

    def logits(self, x):
        return self.head(self.body(x).mean((2, 3)))

    def forward(self, x):
        planes = self.body(x)
        features = planes.mean((2, 3))
        scores = torch.sigmoid(self.head(features))
        heatmap = F.conv2d(planes, self.head.weight[:, :, None, None])
        return scores, heatmap, features


def weights_of_positives(targets):
    """How much more a positive counts: the square root of the odds against it,
    which balances rare findings without letting them shout."""
    positive = targets.sum(0)
    return torch.sqrt((len(targets) - positive) / positive.clamp(min=1)).clamp(1, 10)


def augment(images, shift, generator):
    """Shift each image by up to so many pixels, edges repeated."""
    if not shift:
        return images
    n, _, h, w = images.shape
    padded = F.pad(images.float(), (shift,) * 4, mode="replicate")
    at = torch.randint(0, 2 * shift + 1, (n, 2), generator=generator).tolist()
    return torch.stack([padded[i, :, y:y + h, x:x + w] for i, (y, x) in enumerate(at)])
