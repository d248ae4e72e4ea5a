"""Pictures as users have them: paths, bytes, PIL images, NumPy arrays."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Iterator, List, Tuple, Union

if TYPE_CHECKING:
    import numpy
    from PIL import Image

    Picture = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, Image.Image, "numpy.ndarray[Any, Any]"]
    Pictures = Union[List[Picture], Tuple[Picture, ...], Iterator[Picture]]
else:
    Picture = Pictures = Any

# What the compiled part takes: see `Picture::of` there.
Given = Tuple[Any, ...]

_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def is_one(pictures: Any) -> bool:
    """Whether it is one picture, not several."""
    if isinstance(pictures, (str, bytes, bytearray, memoryview, os.PathLike)):
        return True
    if hasattr(pictures, "__array_interface__") and not _is_pil(pictures):
        return len(pictures.shape) != 4
    return not hasattr(pictures, "__iter__") or _is_pil(pictures)


def given(pictures: Any) -> List[Given]:
    """One picture or several, as the compiled part takes them."""
    if is_one(pictures):
        return [_one(pictures, "the picture")]
    several = list(pictures)
    return [_one(picture, f"picture {number} of {len(several)}") for number, picture in enumerate(several, 1)]


def _is_pil(picture: object) -> bool:
    return all(hasattr(picture, name) for name in ("mode", "size", "convert", "tobytes"))


def _one(picture: Any, name: str) -> Given:
    if isinstance(picture, (str, os.PathLike)):
        return ("path", os.fspath(picture))
    if isinstance(picture, bytes):
        return ("file", name, picture)
    if isinstance(picture, (bytearray, memoryview)):
        return ("file", name, bytes(picture))
    if _is_pil(picture):
        return _of_pil(picture, name)
    if hasattr(picture, "__array_interface__"):
        return _of_array(picture, name)
    raise TypeError(
        f"{name}: {type(picture).__name__} is no picture; give a path, the bytes of a file, an image of PIL or an "
        "array of NumPy"
    )


def _of_pil(picture: Any, name: str) -> Given:
    mode = picture.mode
    if mode in _DEEP:
        raise ValueError(f"{name}: pixels of mode {mode} have more than 8 bits; convert them to mode RGB first")
    # One color, or some of a palette, may be clear.
    has_clear = mode != "RGBA" and "transparency" in getattr(picture, "info", {})
    if mode not in _CHANNELS or has_clear:
        clear = has_clear or mode.upper() in ("LA", "PA", "RGBA")
        picture = picture.convert("RGBA" if clear else "RGB")
    width, height = picture.size
    return ("pixels", name, width, height, _CHANNELS[picture.mode], picture.tobytes())


def _of_array(picture: Any, name: str) -> Given:
    shape, dtype = tuple(picture.shape), picture.dtype
    if dtype.kind != "u" or dtype.itemsize != 1:
        raise TypeError(
            f"{name}: an array of {dtype}; give uint8, 0 to 255 (of floats from 0 to 1: "
            "(array * 255).round().astype('uint8'))"
        )
    channels = shape[-1] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(
            f"{name}: an array of shape {shape}; give height × width (gray), or height × width × 1, 3 (RGB) or 4 (RGBA)"
        )
    # Row after row, whatever lies where in memory.
    return ("pixels", name, shape[1], shape[0], channels, picture.tobytes())
