"""A small world: photographs of colored things, networks with drawn weights, an empty page, the command."""

import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy
from PIL import Image

# Who starts the tests behind a shell has them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(os.environ["MAGPIE_ROOT"])
NETWORKS = Path(os.environ["MAGPIE_NETWORKS"])
EXTRACTOR = NETWORKS / "extractor.safetensors"
DETECTOR = NETWORKS / "detector.safetensors"

# Trains in seconds.
RECIPE = """
seed = 3
epochs = 3
batch_size = 8
epoch_samples = 24
log_interval = 1
schedule = { learning_rate = 0.02, warmup_epochs = 0 }
optimizer = { kind = "momentum", momentum = 0.9, weight_decay = 0.0001 }

[preprocess]
width = 32
height = 32
filter = "antialiased"
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]

[extractor]
train = "unset"
query = "unset"
hold_out = 0.0
sampler = { kind = "pk", samples_per_class = 2 }
losses = [{ kind = "cross_entropy" }]
head = { kind = "fc" }

[extractor.model]
neck = { kind = "bn_neck" }

[extractor.model.backbone]
kind = "pp_lc_net_v2"
scale = 0.25
depths = [1, 1, 1, 1]
class_expand = 32
shitu = true
dropout = 0.0
"""


def thing(kind, number, side=72):
    """Pixels of one of several kinds of things."""
    draw = numpy.random.RandomState(31 * kind + number)
    y, x = numpy.mgrid[0:side, 0:side]
    center = side / 2 + draw.uniform(-4, 4, 2)
    far = numpy.hypot(x - center[0], y - center[1])
    shapes = [far < 24, (abs(x - center[0]) < 20) & (abs(y - center[1]) < 20), (far < 26) & (far > 12), x > y]
    colors = [(200, 40, 40), (40, 150, 60), (50, 80, 210), (220, 180, 40)]
    pixels = numpy.full((side, side, 3), 235, dtype=numpy.float64)
    pixels[shapes[kind]] = colors[kind]
    pixels += draw.normal(0, 9, pixels.shape)
    return pixels.clip(0, 255).astype(numpy.uint8)


def photos(folder, kinds=4, each=5):
    """A folder of classes."""
    for kind in range(kinds):
        place = Path(folder) / f"thing {kind} 类"
        place.mkdir(parents=True, exist_ok=True)
        for number in range(each):
            Image.fromarray(thing(kind, number)).save(place / f"{number}.png")
    return Path(folder)


def page(folder):
    """A built page, as far as publishing looks at it."""
    place = Path(folder) / "page"
    place.mkdir(exist_ok=True)
    (place / "index.html").write_text("<!doctype html>")
    return place


def command(*words, fails=False):
    """What the command prints."""
    words = [sys.executable, "-m", "magpie_recognizer", *map(str, words)]
    ended = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if fails:
        assert ended.returncode == 1, (ended.returncode, ended.stderr)
        return ended.stderr
    assert ended.returncode == 0, (words, ended.returncode, ended.stderr)
    return ended.stdout


def answers(*words):
    """The JSON lines that the command prints."""
    return [json.loads(line) for line in command(*words).splitlines() if line.startswith("{")]


@contextlib.contextmanager
def signals(handler):
    """A signal every hundredth of a second, in this thread. What hangs ends the process with the place where it hangs."""
    is_at_work = False

    def heard(number, frame):
        nonlocal is_at_work
        if not is_at_work:
            is_at_work = True
            try:
                handler()
            finally:
                is_at_work = False

    before = signal.signal(signal.SIGALRM, heard)
    faulthandler.dump_traceback_later(120, exit=True)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


class World(unittest.TestCase):
    """A folder that goes with the class of tests."""

    @classmethod
    def setUpClass(cls):
        cls._held = tempfile.TemporaryDirectory(prefix="magpie-test-")
        cls.folder = Path(cls._held.name)
        cls.addClassCleanup(cls._held.cleanup)

    def raises(self, kind, text):
        """Of exactly this kind, with these words."""
        return _Raises(self, kind, text)


class _Raises:
    def __init__(self, test, kind, text):
        self.test, self.kind, self.text = test, kind, text

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        self.test.assertIs(kind, self.kind, error)
        self.test.assertIn(self.text, str(error))
        return True
