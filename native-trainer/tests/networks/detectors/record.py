"""Writes the detectors of this folder, and the boxes that they find: python record.py

With torch 2.15 and onnx 1.23. The networks are small ones of the kinds that YOLOX, NanoDet-Plus, PicoDet and RTMDet
consist of, written here, with drawn weights. `boxes.json` has what a plain decoding in NumPy makes of their last layers:
pictures, thresholds, and objects as [x1, y1, x2, y2, score, class] in pixels of the picture. Nothing of it is shared with
Magpie.
"""

import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent.parent / "onnx"))
from record import settle, without_traces  # noqa: E402

HEIGHT, WIDTH = 64, 96
CLASSES = 3


class Block(nn.Module):
    """Convolution, normalization, activation."""

    def __init__(self, before, behind, kernel=3, stride=1, groups=1, activation=nn.SiLU):
        super().__init__()
        self.conv = nn.Conv2d(before, behind, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm, self.activation = nn.BatchNorm2d(behind), activation()

    def forward(self, x):
        return self.activation(self.norm(self.conv(x)))


class Split(nn.Module):
    """Two halves, of which one goes through bottlenecks: CSP."""

    def __init__(self, before, behind, adds=True):
        super().__init__()
        half = behind // 2
        self.main, self.short, self.last = Block(before, half, 1), Block(before, half, 1), Block(2 * half, behind, 1)
        self.inner, self.adds = nn.Sequential(Block(half, half, 1), Block(half, half)), adds

    def forward(self, x):
        main = self.main(x)
        main = main + self.inner(main) if self.adds else self.inner(main)
        return self.last(torch.cat([main, self.short(x)], 1))


class Pyramid(nn.Module):
    """Maps of three strides, joined top-down and bottom-up: PAFPN."""

    def __init__(self, widths, width, join):
        super().__init__()
        self.narrow = nn.ModuleList(Block(before, width, 1) for before in widths)
        self.down = nn.ModuleList(join(2 * width, width) for _ in range(2))
        self.up = nn.ModuleList(join(2 * width, width) for _ in range(2))
        self.smaller = nn.ModuleList(Block(width, width, 3, 2) for _ in range(2))

    def forward(self, maps):
        c3, c4, c5 = [narrow(x) for narrow, x in zip(self.narrow, maps)]
        p4 = self.down[0](torch.cat([F.interpolate(c5, scale_factor=2, mode="nearest"), c4], 1))
        p3 = self.down[1](torch.cat([F.interpolate(p4, scale_factor=2, mode="nearest"), c3], 1))
        n4 = self.up[0](torch.cat([self.smaller[0](p3), p4], 1))
        return p3, n4, self.up[1](torch.cat([self.smaller[1](n4), c5], 1))


class Yolox(nn.Module):
    """Every other pixel as channels, CSP, pools of several sizes, decoupled heads: YOLOX."""

    def __init__(self):
        super().__init__()
        self.decodes = None
        self.stem = Block(12, 8)
        self.stages = nn.ModuleList(nn.Sequential(Block(a, b, 3, 2), Split(b, b)) for a, b in [(8, 12), (12, 16), (16, 20), (20, 24)])
        self.pooled, self.joined = Block(24, 12, 1), Block(48, 24, 1)
        self.pyramid = Pyramid([16, 20, 24], 8, lambda a, b: Split(a, b, adds=False))
        heads = lambda: nn.ModuleList(nn.Sequential(Block(8, 8), Block(8, 8, 3, 1, 8)) for _ in range(3))
        last = lambda values: nn.ModuleList(nn.Conv2d(8, values, 1) for _ in range(3))
        self.first = nn.ModuleList(Block(8, 8, 1) for _ in range(3))
        self.of_classes, self.of_boxes = heads(), heads()
        self.classes, self.boxes, self.objects = last(CLASSES), last(4), last(1)

    def forward(self, x):
        x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        x = self.pooled(x)
        x = self.joined(torch.cat([x] + [F.max_pool2d(x, side, 1, side // 2) for side in (5, 9, 13)], 1))
        outputs = []
        for level, x in enumerate(self.pyramid([maps[1], maps[2], x])):
            x = self.first[level](x)
            classes, boxes = self.of_classes[level](x), self.of_boxes[level](x)
            classes, objects = self.classes[level](classes), self.objects[level](boxes)
            outputs.append(torch.cat([self.boxes[level](boxes), objects.sigmoid(), classes.sigmoid()], 1))
        sides = [output.shape[-2:] for output in outputs]
        outputs = torch.cat([output.flatten(start_dim=2) for output in outputs], 2).permute(0, 2, 1)
        if self.decodes is None:
            return outputs
        grids, strides = [], []
        for (rows, columns), stride in zip(sides, (8, 16, 32)):
            y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            grids.append(torch.stack((x, y), 2).view(1, -1, 2))
            strides.append(torch.full((1, rows * columns, 1), stride))
        grids, strides = torch.cat(grids, 1).float(), torch.cat(strides, 1).float()
        if self.decodes == "in place":
            # As releases up to 0.2 do it.
            outputs[..., :2] = (outputs[..., :2] + grids) * strides
            outputs[..., 2:4] = torch.exp(outputs[..., 2:4]) * strides
            return outputs
        places = (outputs[..., 0:2] + grids) * strides
        return torch.cat([places, torch.exp(outputs[..., 2:4]) * strides, outputs[..., 4:]], -1)


class Shuffle(nn.Module):
    """One half stays, channels are shuffled: ShuffleNetV2."""

    def __init__(self, width):
        super().__init__()
        leaky = lambda: nn.LeakyReLU(0.1)
        half = width // 2
        self.inner = nn.Sequential(
            Block(half, half, 1, activation=leaky), Block(half, half, 3, 1, half, nn.Identity), Block(half, half, 1, activation=leaky)
        )

    def forward(self, x):
        a, b = x.chunk(2, 1)
        x = torch.cat([a, self.inner(b)], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Nanodet(nn.Module):
    """ShuffleNetV2, a pyramid that is enlarged between pixels, one head a stride: NanoDet-Plus."""

    def __init__(self):
        super().__init__()
        leaky = lambda: nn.LeakyReLU(0.1)
        self.stem = Block(3, 12, 3, 2, activation=leaky)
        self.stages = nn.ModuleList(nn.Sequential(Block(a, b, 3, 2, activation=leaky), Shuffle(b)) for a, b in [(12, 12), (12, 16), (16, 20), (20, 24)])
        self.narrow = nn.ModuleList(Block(width, 16, 1, activation=leaky) for width in (16, 20, 24))
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.down = nn.ModuleList(Block(32, 16, 3, activation=leaky) for _ in range(2))
        self.extra = Block(16, 16, 5, 2, 16, leaky)
        self.heads = nn.ModuleList(nn.Sequential(Block(16, 16, 5, 1, 16, leaky), Block(16, 16, 1, activation=leaky)) for _ in range(4))
        self.last = nn.ModuleList(nn.Conv2d(16, CLASSES + 32, 1) for _ in range(4))

    def forward(self, x):
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        c3, c4, c5 = [narrow(x) for narrow, x in zip(self.narrow, maps[1:])]
        c4 = self.down[0](torch.cat([self.upsample(c5), c4], 1))
        c3 = self.down[1](torch.cat([self.upsample(c4), c3], 1))
        outputs = []
        for level, x in enumerate((c3, c4, c5, self.extra(c5))):
            classes, boxes = self.last[level](self.heads[level](x)).split([CLASSES, 32], 1)
            outputs.append(torch.cat([classes.sigmoid(), boxes], 1).flatten(start_dim=2))
        return torch.cat(outputs, 2).permute(0, 2, 1)


class Separable(nn.Module):
    """Depthwise, with a gate a channel, then pointwise: PP-LCNet."""

    def __init__(self, before, behind, stride):
        super().__init__()
        self.depthwise = Block(before, before, 5, stride, before, nn.Hardswish)
        self.squeeze, self.excite = nn.Conv2d(before, 4, 1), nn.Conv2d(4, before, 1)
        self.pointwise = Block(before, behind, 1, activation=nn.Hardswish)

    def forward(self, x):
        x = self.depthwise(x)
        gate = F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return self.pointwise(x * F.hardsigmoid(self.excite(gate)))


class Picodet(nn.Module):
    """PP-LCNet, and a head that aligns classes and boxes, without what picks boxes: PicoDet of PaddleDetection."""

    def __init__(self):
        super().__init__()
        self.stem = Block(3, 8, 3, 2, activation=nn.Hardswish)
        self.stages = nn.ModuleList(Separable(a, b, 2) for a, b in [(8, 12), (12, 16), (16, 20), (20, 24), (24, 24)])
        self.narrow = nn.ModuleList(Block(width, 16, 1, activation=nn.Hardswish) for width in (16, 20, 24, 24))
        self.blocks = nn.ModuleList(Block(16, 16, 5, 1, 16, nn.Hardswish) for _ in range(4))
        self.gates = nn.ModuleList(nn.Conv2d(16, 16, 1) for _ in range(4))
        last = lambda values: nn.ModuleList(nn.Conv2d(16, values, 1) for _ in range(4))
        self.classes, self.boxes, self.aligned = last(CLASSES), last(32), last(1)

    def forward(self, x):
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        scores, boxes = [], []
        for level, (narrow, x) in enumerate(zip(self.narrow, maps[1:])):
            x = self.blocks[level](narrow(x))
            gated = x * self.gates[level](F.adaptive_avg_pool2d(x, 1)).sigmoid()
            aligned = self.aligned[level](x).sigmoid()
            score = (self.classes[level](gated).sigmoid() * aligned + 1e-9).sqrt()
            scores.append(score.reshape(1, CLASSES, -1).permute(0, 2, 1))
            boxes.append(self.boxes[level](gated).reshape(1, 32, -1).permute(0, 2, 1))
        return (*scores, *boxes)


class Rtmdet(nn.Module):
    """CSP with large depthwise kernels and gates, heads whose layers are shared by strides: RTMDet."""

    def __init__(self, exponent, in_pixels):
        super().__init__()
        self.exponent, self.in_pixels = exponent, in_pixels
        self.stem = Block(3, 8, 3, 2)
        self.stages = nn.ModuleList(nn.Sequential(Block(a, b, 3, 2), Block(b, b, 5, 1, b), Split(b, b)) for a, b in [(8, 12), (12, 16), (16, 20), (20, 24)])
        self.gate = nn.Conv2d(24, 24, 1)
        self.pyramid = Pyramid([16, 20, 24], 8, lambda a, b: Split(a, b, adds=False))
        self.shared = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2)) for _ in range(3))
        last = lambda values: nn.ModuleList(nn.Conv2d(8, values, 1) for _ in range(3))
        self.classes, self.boxes = last(CLASSES), last(4)

    def forward(self, x):
        x, maps = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        x = x * F.hardsigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)))
        scores, boxes = [], []
        for level, x in enumerate(self.pyramid([maps[1], maps[2], x])):
            classes, sides = [F.silu(norm(shared(x))) for norm, shared in zip(self.norms[level], self.shared)]
            sides = self.boxes[level](sides)
            sides = sides.exp() if self.exponent else sides
            boxes.append(sides * (8, 16, 32)[level] if self.in_pixels else sides)
            scores.append(self.classes[level](classes))
        return (*scores, *boxes)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def spread(logits):
    """The mean of each distribution over bins, the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True) * np.arange(logits.shape[-1])).sum(-1)


def decoded(levels, offset):
    """Boxes and scores of points: `levels` has stride, columns, and of each point box values and scores."""
    boxes, scores = [], []
    for stride, columns, kind, sides, of_classes in levels:
        for point in range(len(sides)):
            x, y = ((place + offset) * stride for place in (point % columns, point // columns))
            values = sides[point].astype(np.float64)
            if kind == "center":
                x, y = x + values[0] * stride, y + values[1] * stride
                wide, high = np.exp(values[2]) * stride, np.exp(values[3]) * stride
                boxes.append([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2])
            else:
                left, top, right, bottom = spread(values.reshape(4, -1)) * stride if kind == "bins" else values
                boxes.append([x - left, y - top, x + right, y + bottom])
            scores.append(of_classes[point].astype(np.float64))
    return np.array(boxes), np.array(scores)


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    area = lambda box: max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
    return both / (area(a) + area(b) - both) if both > 0 else 0


def picked(boxes, scores, threshold):
    """The best boxes of each class; nothing may hang on a rounding."""
    classes, best = scores.argmax(1), scores.max(1)
    assert np.abs(best - threshold).min() > 2e-4
    order = [at for at in np.argsort(-best) if best[at] > threshold]
    kept = []
    for at in order:
        others = [overlap(boxes[at], boxes[other]) for other in kept if classes[other] == classes[at]]
        assert all(abs(other - 0.5) > 1e-4 for other in others)
        if all(other <= 0.5 for other in others):
            kept.append(at)
    return [[*boxes[at], best[at], int(classes[at])] for at in kept]


def png(path, picture):
    """A picture of bytes, rows by columns by colors."""
    rows, columns, _ = picture.shape
    part = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    lines = b"".join(b"\0" + line.tobytes() for line in picture)
    head = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(lines, 9)) + part(b"IEND", b""))


def given(picture, fit, colors, mean, std):
    """The input of a network, and how boxes come back: factor, left, top."""
    rows, columns, _ = picture.shape
    scale = min(HEIGHT / rows, WIDTH / columns)
    assert scale in (1, 2), "a factor at which each way of mixing pixels gives the same"
    pixels = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
    if scale == 2:
        pixels = torch.floor(F.interpolate(pixels, scale_factor=2, mode="bilinear", align_corners=False) + 0.5)
    pixels = pixels[0].permute(1, 2, 0).numpy()
    high, wide, _ = pixels.shape
    top, left = ((HEIGHT - high) // 2, (WIDTH - wide) // 2) if fit == "centered" else (0, 0)
    assert fit != "stretched" or (high, wide) == (HEIGHT, WIDTH)
    whole = np.full((HEIGHT, WIDTH, 3), 114, np.float32)
    whole[top : top + high, left : left + wide] = pixels
    whole = whole[..., ::-1] if colors == "bgr" else whole
    whole = (whole - np.array(mean, np.float32)) / np.array(std, np.float32)
    return torch.from_numpy(whole.copy()).permute(2, 0, 1)[None], (scale, left, top)


def in_picture(objects, picture, back):
    rows, columns, _ = picture.shape
    scale, left, top = back
    found = []
    for x1, y1, x2, y2, score, of_class in objects:
        xs = [min(max((x - left) / scale, 0), columns) for x in (x1, x2)]
        ys = [min(max((y - top) / scale, 0), rows) for y in (y1, y2)]
        if xs[1] - xs[0] >= 1 and ys[1] - ys[0] >= 1:
            found.append([round(float(value), 5) for value in (xs[0], ys[0], xs[1], ys[1])] + [round(float(score), 7), of_class])
    return found


def maps_of(network, name, x):
    """What the network's last layers make of an input, as `decoded` takes it."""
    with torch.no_grad():
        outputs = network(x)
    if name.startswith("yolox") or name == "nanodet":
        rows, start = outputs[0].numpy(), 0
        for stride in (8, 16, 32) if name.startswith("yolox") else (8, 16, 32, 64):
            columns, count = -(-WIDTH // stride), -(-WIDTH // stride) * -(-HEIGHT // stride)
            part = rows[start : start + count]
            start += count
            if name == "nanodet":
                yield stride, columns, "bins", part[:, CLASSES:], part[:, :CLASSES]
            else:
                yield stride, columns, "center", part[:, :4], part[:, 4:5] * part[:, 5:]
        assert start == len(rows)
        return
    half = len(outputs) // 2
    for level, (scores, sides) in enumerate(zip(outputs[:half], outputs[half:])):
        stride = 8 << level
        if name == "picodet":
            yield stride, -(-WIDTH // stride), "bins", sides[0].numpy(), scores[0].numpy()
            continue
        points = lambda x: x[0].flatten(1).T.numpy()
        factor = 1 if network.in_pixels else stride
        yield stride, scores.shape[-1], "sides", points(sides) * factor, sigmoid(points(scores))


def calibrated(network, x):
    """Last layers whose values are of the size that trained ones have."""
    network = settle(network)
    seen = {}
    last = [module for name, module in network.named_modules() if isinstance(module, nn.Conv2d) and module.bias is not None]
    hooks = [module.register_forward_hook(lambda m, _, y: seen.__setitem__(m, y.detach())) for module in last]
    for _ in range(2):
        with torch.no_grad():
            network(x)
            for module in last:
                y = seen[module]
                if y.shape[-1] * y.shape[-2] > 1:
                    module.weight.mul_(0.8 / y.std().clamp(min=1e-3))
                    # Sides of a stride and a half, and few points that are sure.
                    if y.shape[1] == CLASSES:
                        module.bias.sub_(0.5)
                    if y.shape[1] == 4 and not getattr(network, "exponent", True):
                        module.bias.add_(0.75)
    for hook in hooks:
        hook.remove()
    return network


def main():
    here = Path(__file__).parent
    imagenet = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]
    plain, of_rgb = ([0, 0, 0], [1, 1, 1]), ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    cases = [
        ("yolox", Yolox, (24, 48), "letterbox", "bgr", plain, 0, 11),
        ("nanodet", Nanodet, (32, 48), "stretched", "bgr", imagenet, 0, 13),
        ("picodet", Picodet, (64, 96), "stretched", "rgb", of_rgb, 0.5, 16),
        ("rtmdet", lambda: Rtmdet(True, True), (32, 32), "letterbox", "bgr", imagenet, 0, 17),
        ("rtmdet_tiny", lambda: Rtmdet(False, True), (24, 48), "letterbox", "bgr", imagenet, 0, 17),
        ("own", lambda: Rtmdet(False, False), (32, 32), "centered", "rgb", ([0, 0, 0], [255, 255, 255]), 0.5, 17),
    ]
    recorded = {}
    for seed, (name, make, (rows, columns), fit, colors, (mean, std), offset, operators) in enumerate(cases):
        torch.manual_seed(seed)
        random = np.random.default_rng(seed)
        # Blobs, so that neighbors are alike.
        picture = torch.from_numpy(random.random((1, 3, 6, 9), np.float32) * 255)
        picture = F.interpolate(picture, (rows, columns), mode="bicubic").clamp(0, 255)
        picture = picture[0].permute(1, 2, 0).numpy().astype(np.uint8)
        x, back = given(picture, fit, colors, mean, std)
        network = calibrated(make(), x)
        boxes, scores = decoded(list(maps_of(network, name, x)), offset)
        best = np.sort(scores.max(1))[::-1]
        # Half of a step that is large enough, near the 25th point.
        at = next(at for at in range(25, len(best) - 1) if best[at] - best[at + 1] > 1e-3)
        threshold = float((best[at] + best[at + 1]) / 2)
        found = in_picture(picked(boxes, scores, threshold), picture, back)
        assert len(found) >= 5, (name, len(found))
        png(here / f"{name}.png", picture)
        recorded[name] = {"threshold": threshold, "objects": found}
        print(name, len(found), "objects above", round(threshold, 4))
        if name == "yolox":
            for decodes, file in [("joined", "yolox_decoded"), ("in place", "yolox_in_place")]:
                network.decodes = decodes
                export(network, x, here / f"{file}.onnx", operators)
            network.decodes = None
        export(network, x, here / f"{name}.onnx", operators)
    (here / "boxes.json").write_text(json.dumps(recorded, indent=1) + "\n")


def export(network, x, path, operators):
    with torch.no_grad():
        torch.onnx.export(network, x, path, opset_version=operators, input_names=["images"], dynamo=False)
    without_traces(path)


if __name__ == "__main__":
    main()
