"""Forward and backward of four backbones in PyTorch, two threads: images per second as JSON.

python training_speed.py BATCH SIDE STEPS
"""

import json
import sys
import time

import timm
import torch
from torch import nn

batch, side, steps = map(int, sys.argv[1:4])
torch.set_num_threads(2)


def conv_bn(inputs, outputs, kernel, stride=1, groups=1, relu=True):
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


def mobilenet_v1():
    widths = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    widths += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    layers, inputs = [conv_bn(3, 32, 3, 2)], 32
    for outputs, stride in widths:
        layers += [conv_bn(inputs, inputs, 3, stride, inputs), conv_bn(inputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class SqueezeExcite(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // 4, 1),
            nn.ReLU(),
            nn.Conv2d(width // 4, width, 1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        return x * self.gate(x)


class RepBlock(nn.Module):
    """A block of PP-LCNetV2 as it is trained."""

    def __init__(self, inputs, outputs, kernel, stride, rep=False, split=False, se=False, add=False):
        super().__init__()
        kernels = [k for k in (5, 3, 1) if k <= kernel and (k > 1 or stride == 1)] if rep else [kernel]
        self.branches = nn.ModuleList(
            conv_bn(inputs, inputs, k, stride, inputs, relu=False) for k in kernels
        )
        self.se = SqueezeExcite(inputs) if se else nn.Identity()
        half = outputs // 2
        points = [(inputs, half), (half, outputs)] if split else [(inputs, outputs)]
        self.points = nn.Sequential(*(conv_bn(a, b, 1) for a, b in points))
        self.add = add and stride == 1 and inputs == outputs

    def forward(self, x):
        y = torch.relu(sum(branch(x) for branch in self.branches))
        y = self.points(self.se(y))
        return x + y if self.add else y


def pp_lcnet_v2_base():
    stages = [
        (64, 3, 2, {}),
        (128, 3, 2, {}),
        (256, 5, 6, {"rep": True, "split": True, "se": True}),
        (512, 5, 2, {"rep": True, "add": True}),
    ]
    layers = [conv_bn(3, 32, 3, 2), RepBlock(32, 64, 3, 1)]
    for inputs, kernel, depth, options in stages:
        for block in range(depth):
            first = block == 0
            layers.append(
                RepBlock(inputs if first else 2 * inputs, 2 * inputs, kernel, 2 if first else 1, **options)
            )
    layers += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(1024, 1280, 1, bias=False), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers)


networks = {
    "PP-LCNet x1.0": lambda: timm.create_model("lcnet_100", num_classes=0),
    "PP-LCNetV2 base": pp_lcnet_v2_base,
    "MobileNetV1": mobilenet_v1,
    "ResNet50": lambda: timm.create_model("resnet50", num_classes=0),
}

for name, build in networks.items():
    network = build().train()
    x = torch.randn(batch, 3, side, side)
    best = float("inf")
    for _ in range(steps + 1):
        start = time.perf_counter()
        network.zero_grad()
        network(x).square().mean().backward()
        best = min(best, time.perf_counter() - start)
    print(json.dumps({"network": name, "images_per_second": batch / best}), flush=True)
