"""The models of `benchmarks.workloads` as a user of PyTorch writes them, layer for layer.

Only the process of `benchmarks.torch_loop` imports this module: it needs PyTorch.
"""

from collections.abc import Callable

import torch
from torch import nn


def build(name: str, channels: int, size: int, classes: int) -> nn.Module:
    """Return a model by the name that the library gives it."""
    return MODELS[name](channels, size, classes)


def _mlp(channels: int, size: int, classes: int) -> nn.Module:
    pixels = size * size * channels
    return nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, 784), nn.ReLU(), nn.Linear(784, 784), nn.ReLU(),
        nn.Linear(784, classes),
    )  # fmt: skip


def _cnn(channels: int, size: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(64 * (size // 4) ** 2, 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, classes),
    )  # fmt: skip


def _conv(ins: int, outs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=False)


def _head(width: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]


class _Sum(nn.Module):
    """The sum of two paths, with a function behind it."""

    def __init__(self, path: nn.Module, shortcut: nn.Module, after: nn.Module):
        super().__init__()
        self.path, self.shortcut, self.after = path, shortcut, after

    def forward(self, x):
        return self.after(self.path(x) + self.shortcut(x))


def _basic(ins: int, outs: int, stride: int) -> nn.Module:
    path = nn.Sequential(
        _conv(ins, outs, 3, stride), nn.BatchNorm2d(outs), nn.ReLU(inplace=True),
        _conv(outs, outs, 3), nn.BatchNorm2d(outs),
    )  # fmt: skip
    same = stride == 1 and ins == outs
    project = nn.Sequential(_conv(ins, outs, 1, stride), nn.BatchNorm2d(outs))
    return _Sum(path, nn.Identity() if same else project, nn.ReLU(inplace=True))


def _cifar(blocks: int) -> Callable[[int, int, int], nn.Module]:
    """ResNet-8 or 32, four times as wide, for CIFAR."""

    def make(channels: int, size: int, classes: int) -> nn.Module:
        layers: list[nn.Module] = [
            _conv(channels, 32, 3), nn.BatchNorm2d(32), nn.ReLU(inplace=True)
        ]  # fmt: skip
        ins = 32
        for outs, stride in ((64, 1), (128, 2), (256, 2)):
            for number in range(blocks):
                layers.append(_basic(ins, outs, stride if number == 0 else 1))
                ins = outs
        return nn.Sequential(*layers, *_head(ins, classes))

    return make


def _inverted(ins: int, outs: int, stride: int, factor: int) -> nn.Module:
    wide = ins * factor
    widen = [_conv(ins, wide, 1), nn.BatchNorm2d(wide, 1e-3, 1e-3), nn.ReLU6(inplace=True)]
    path = nn.Sequential(
        *(widen if factor != 1 else []),
        _conv(wide, wide, 3, stride, groups=wide), nn.BatchNorm2d(wide, 1e-3, 1e-3),
        nn.ReLU6(inplace=True), _conv(wide, outs, 1), nn.BatchNorm2d(outs, 1e-3, 1e-3),
    )  # fmt: skip
    return _Sum(path, nn.Identity(), nn.Identity()) if stride == 1 and ins == outs else path


def _mobilenet(width: float) -> Callable[[int, int, int], nn.Module]:
    """MobileNetV2."""

    def even(filters: int) -> int:
        """Round to a multiple of eight, at most a tenth below."""
        rounded = max(8, int(filters * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * filters * width else rounded

    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip

    def make(channels: int, size: int, classes: int) -> nn.Module:
        ins, last = even(32), max(1280, even(1280))
        layers: list[nn.Module] = [
            _conv(channels, ins, 3, 2), nn.BatchNorm2d(ins, 1e-3, 1e-3), nn.ReLU6(inplace=True)
        ]  # fmt: skip
        for factor, filters, repeats, stride in plan:
            for number in range(repeats):
                layers.append(_inverted(ins, even(filters), stride if number == 0 else 1, factor))
                ins = even(filters)
        layers += [_conv(ins, last, 1), nn.BatchNorm2d(last, 1e-3, 1e-3), nn.ReLU6(inplace=True)]
        return nn.Sequential(*layers, *_head(last, classes))

    return make


class _Bottleneck(nn.Module):
    """A block of ResNet V2, whose shortcut begins behind the first activation."""

    def __init__(self, ins: int, width: int, stride: int, project: bool):
        super().__init__()
        outs = 4 * width
        self.before = nn.Sequential(nn.BatchNorm2d(ins, 1.001e-5), nn.ReLU(inplace=True))
        self.path = nn.Sequential(
            _conv(ins, width, 1), nn.BatchNorm2d(width, 1.001e-5), nn.ReLU(inplace=True),
            _conv(width, width, 3, stride), nn.BatchNorm2d(width, 1.001e-5), nn.ReLU(inplace=True),
            nn.Conv2d(width, outs, 1),
        )  # fmt: skip
        self.project = nn.Conv2d(ins, outs, 1, stride) if project else None
        self.shrink = nn.MaxPool2d(1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.before(x.clone())
        return self.path(y) + (self.shrink(x) if self.project is None else self.project(y))


def _resnet50v2(channels: int, size: int, classes: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(channels, 64, 7, 2, 3), nn.MaxPool2d(3, 2, 1)]
    ins = 64
    for width, repeats, last in ((64, 3, 2), (128, 4, 2), (256, 6, 2), (512, 3, 1)):
        for number in range(repeats):
            stride = last if number == repeats - 1 else 1
            layers.append(_Bottleneck(ins, width, stride, number == 0))
            ins = 4 * width
    layers += [nn.BatchNorm2d(ins, 1.001e-5), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *_head(ins, classes))


MODELS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "resnet8x4": _cifar(1),
    "resnet32x4": _cifar(5),
    "mobilenetv2-0.35": _mobilenet(0.35),
    "resnet50v2": _resnet50v2,
}


def parameters(model: nn.Module) -> int:
    """Return the number of weights, those that normalisation counts with included."""
    moving = sum(b.numel() for name, b in model.named_buffers() if "num_batches" not in name)
    return sum(p.numel() for p in model.parameters()) + moving


def optimizer_of(name: str, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of a workload, in PyTorch's fused form."""
    if name == "adam":
        return torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    return torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, fused=True)
