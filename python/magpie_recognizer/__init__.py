"""Image recognition that ships as static files: the magpie command's networks and galleries, for Python.

    from magpie_recognizer import Recognizer, site

    site("photos", "site")
    recognizer = Recognizer.open("site")
    for thing in recognizer.recognize("shelf.jpg"):
        print(thing.box, thing.label or "unknown")

What is computed has the same bits as what the command prints and writes. docs/python.md has it all.
"""

from ._gallery import Answer, ClassInfo, Gallery
from ._making import Run, Stopped, Trainer, site
from ._native import __version__
from ._pictures import Picture
from ._recognizer import Detector, Extractor, Recognizer
from ._results import Box, Match, Recognition, Result

__all__ = [
    "Answer",
    "Box",
    "ClassInfo",
    "Detector",
    "Extractor",
    "Gallery",
    "Match",
    "Picture",
    "Recognition",
    "Recognizer",
    "Result",
    "Run",
    "Stopped",
    "Trainer",
    "__version__",
    "site",
]
