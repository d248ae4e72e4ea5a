"""Writes the graphs of this folder, and what PyTorch answers: python record.py

With torch 2.15, onnx 1.23 and onnxscript. Each network is as small as it can be and holds what many of timm's hold;
weights are drawn. `x.npy` is the input of all, `NAME.npy` the output of `NAME.onnx`.
"""

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional as F


class Shuffled(nn.Module):
    """Halves, grouped and dilated convolutions, a shuffle: ShuffleNetV2, ResNeXt."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.dilated = nn.Conv2d(16, 12, 3, padding=2, dilation=2)
        self.wide = nn.Conv2d(12, 12, (1, 7), padding=(0, 3))
        self.even = nn.Conv2d(12, 10, 2)
        self.classifier = nn.Linear(10, 7)

    def forward(self, x):
        x = self.stem(x)
        a, b = x.chunk(2, 1)
        x = torch.cat([a, F.leaky_relu(self.grouped(b), 0.1)], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = self.wide(F.relu(self.dilated(x)))
        x = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) + F.avg_pool2d(x, 3, 1, 1)
        x = self.even(x).mean((2, 3))
        return self.classifier(x)


class Gated(nn.Module):
    """Gates by channels, smooth activations, pre-activation and dense connections: EfficientNet, MobileNetV3, ECA."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, 2, 1)
        self.depthwise = nn.Conv2d(12, 12, 5, padding=2, groups=12)
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.line = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.more = nn.Conv2d(12, 6, 1)
        self.last = nn.BatchNorm2d(30)
        self.slope = nn.PReLU(30)
        self.whole = nn.Linear(30 * 2 * 2, 9)

    def forward(self, x):
        x = (x - torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)) / torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1)
        x = F.silu(self.stem(x))
        y = F.hardswish(self.depthwise(x))
        gate = y.mean((2, 3), keepdim=True)
        y = y * F.hardsigmoid(self.excite(F.relu(self.squeeze(gate))))
        line = self.line(y.mean((2, 3)).unsqueeze(1)).sigmoid()
        y = y * line.view(-1, 12, 1, 1).expand_as(y) + x
        y = y - F.avg_pool2d(y, 3, 1, 1, count_include_pad=False)
        a = self.more(F.relu(self.norm(y)))
        b = self.more(F.relu(self.norm(y)) * 0.5)
        x = self.slope(self.last(torch.cat([y, a, b, torch.cat([a], 1)], 1)))
        x = F.adaptive_avg_pool2d(x, 4)
        x = F.interpolate(F.max_pool2d(x, 2), scale_factor=2.0, mode="nearest") * x
        return self.whole(F.max_pool2d(x, 2).flatten(1))


class Normalized(nn.Module):
    """Patches, normalization over channels, layers between them: ConvNeXt."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.depthwise = nn.Conv2d(16, 16, 7, padding=3, groups=16)
        self.norm = nn.LayerNorm(16, eps=1e-6)
        self.widen, self.narrow = nn.Linear(16, 64), nn.Linear(64, 16)
        self.scale = nn.Parameter(torch.rand(16))

    def forward(self, x):
        x = self.patches(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.narrow(F.gelu(self.widen(y))) * self.scale
        x = x + y.permute(0, 3, 1, 2)
        return F.normalize(x.mean((2, 3)))


class Attended(nn.Module):
    """Tokens, positions, attention in two spellings, approximations of GELU: vision transformers, CLIP."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.positions = nn.Parameter(torch.randn(1, 16, 32))
        self.tokens = nn.Parameter(torch.randn(1, 2, 32))
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(4))
        self.together, self.back = nn.Linear(32, 96), nn.Linear(32, 32)
        self.query, self.key, self.value = nn.Linear(32, 32), nn.Linear(32, 32, bias=False), nn.Linear(32, 32)
        self.widen, self.narrow = nn.Linear(32, 48), nn.Linear(48, 32)
        self.scale = nn.Parameter(torch.rand(32))
        self.last = nn.Linear(64, 11)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        x = torch.cat([self.tokens.expand(x.shape[0], -1, -1), x], 1)
        n, pixels, channels = x.shape
        q, k, v = self.together(self.norms[0](x)).reshape(n, pixels, 3, 4, 8).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, pixels, channels)
        x = x + self.scale * self.back(y)
        y = self.narrow(F.gelu(self.widen(self.norms[1](x)), approximate="tanh"))
        x = x + y
        y = self.norms[2](x)
        # Heads beside each other in one axis with the batch.
        heads = [f(y).view(n, pixels, 2, 16).transpose(1, 2).reshape(n * 2, pixels, 16) for f in (self.query, self.key, self.value)]
        y = torch.bmm((torch.bmm(heads[0], heads[1].transpose(1, 2)) / 4).softmax(-1), heads[2])
        x = x + y.view(n, 2, pixels, 16).transpose(1, 2).reshape(n, pixels, channels)
        x = x * torch.sigmoid(1.702 * x)
        x = self.norms[3](x)
        return self.last(torch.cat([x[:, 0], x[:, 2:].mean(1)], 1))


class Refused(nn.Module):
    """What no step does: attention between channels, and a normalization over pixels."""

    def forward(self, x):
        x = F.instance_norm(x)
        q = x.flatten(2)
        y = (q @ q.transpose(1, 2)).softmax(-1) @ q
        return y.mean(2) + F.instance_norm(x * 2).mean((2, 3))


def settle(network):
    """Statistics and parameters that are not 0 and 1."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.uniform_(module.bias, -0.2, 0.2)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
    return network.eval()


def without_traces(path):
    """Without what exporters note of the program that made a graph."""
    model = onnx.load(path)
    del model.metadata_props[:], model.graph.metadata_props[:]
    for part in [*model.graph.node, *model.graph.value_info, *model.graph.initializer, *model.graph.input]:
        del part.metadata_props[:]
        part.doc_string = ""
    for part in [*model.graph.output, *model.functions]:
        del part.metadata_props[:]
    onnx.save(model, path)


def main():
    torch.manual_seed(3)
    x = torch.rand(1, 3, 32, 32)
    np.save("x.npy", x.numpy())
    for name, network in [
        ("shuffled", Shuffled()),
        ("gated", Gated()),
        ("normalized", Normalized()),
        ("refused", Refused()),
        ("attended", Attended()),
    ]:
        with torch.no_grad():
            np.save(f"{name}.npy", settle(network)(x).numpy())
            free = {"x": {0: "n", 2: "h", 3: "w"}} if name == "normalized" else None
            options = {"input_names": ["x"], "output_names": ["y"], "dynamo": False}
            sets = {"shuffled": 11, "gated": 14, "normalized": 16, "refused": 17, "attended": 17}
            torch.onnx.export(
                network, x, f"{name}.onnx", opset_version=sets[name], dynamic_axes=free, **options
            )
            without_traces(f"{name}.onnx")
    for name, network in [("normalized", Normalized()), ("shuffled", Shuffled()), ("attended", Attended())]:
        with torch.no_grad():
            np.save(f"{name}_18.npy", settle(network)(x).numpy())
            program = torch.onnx.export(network, (x,), dynamo=True, opset_version=18)
            program.save(f"{name}_18.onnx", external_data=False)
            without_traces(f"{name}_18.onnx")


if __name__ == "__main__":
    main()
