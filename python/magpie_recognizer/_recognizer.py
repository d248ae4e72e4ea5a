"""Recognizers, and networks alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, List, Optional, Union, overload

from . import _native
from ._gallery import Gallery
from ._pictures import Picture, Pictures, given, is_one
from ._results import Box, Result, array, boxes, result

if TYPE_CHECKING:
    from ._results import Array

    Path = Union[str, "os.PathLike[str]"]


class Extractor:
    """A network that makes embeddings of pictures."""

    def __init__(self, native: _native.Extractor) -> None:
        self._native = native

    @classmethod
    def open(cls, model: "Path" = "general") -> "Extractor":
        """Opens a model file, as `magpie train`, `export` and `import` write it; `general` comes along."""
        return cls(_native.Extractor.open(os.fspath(model)))

    def embed(self, pictures: "Union[Picture, Pictures]") -> "Array":
        """Embeddings of whole pictures, of unit length: float32, shape (dim,) of one, (number, dim) of several."""
        return _embedded(self._native, pictures)

    @property
    def dim(self) -> int:
        """Values of an embedding."""
        return self._native.dim

    @property
    def id(self) -> str:
        """Short name of its file, which the galleries of its embeddings carry."""
        return self._native.id

    def __repr__(self) -> str:
        return f"Extractor(id={self.id!r}, dim={self.dim})"


class Detector:
    """A network that finds the objects of pictures, without naming them."""

    def __init__(self, native: _native.Detector) -> None:
        self._native = native

    @classmethod
    def open(cls, model: "Path") -> "Detector":
        """Opens a model file."""
        return cls(_native.Detector.open(os.fspath(model)))

    @overload
    def detect(self, pictures: Picture, *, score: float = 0.3, max: int = 100) -> List[Box]: ...
    @overload
    def detect(self, pictures: Pictures, *, score: float = 0.3, max: int = 100) -> List[List[Box]]: ...
    def detect(self, pictures, *, score=0.3, max=100):  # type: ignore[no-untyped-def]
        """Objects of a picture, best first, as `magpie detect` finds them; a list each of several pictures."""
        if not 0 <= score <= 1:
            raise ValueError(f"score: {score}; give 0 to 1")
        if max < 1:
            raise ValueError(f"max: {max}; give 1 or more")
        found = [boxes(told) for told in self._native.detect(given(pictures), score, max)]
        return found[0] if is_one(pictures) else found


class Recognizer:
    """Says what is in pictures: finds objects, embeds them, searches them in a gallery.

    Several threads may call one at once; each call lets the others run.
    """

    def __init__(self, native: _native.Recognizer) -> None:
        self._native = native

    @classmethod
    def open(cls, site: "Path") -> "Recognizer":
        """Opens a published site, or its folder with manifest.json."""
        return cls(_native.Recognizer.open(os.fspath(site)))

    @classmethod
    def of(
        cls, gallery: "Union[Gallery, Path]", *, extractor: "Path" = "general", detector: "Optional[Path]" = None
    ) -> "Recognizer":
        """Puts networks and a gallery together, without a site; the gallery is copied.

        `extractor` and `detector` are model files (`general` comes along): a recognizer opens networks of its own.
        """
        if not isinstance(gallery, Gallery):
            gallery = Gallery.open(gallery)
        found = None if detector is None else os.fspath(detector)
        return cls(_native.Recognizer.of_parts(os.fspath(extractor), found, gallery._native))

    @overload
    def recognize(self, pictures: Picture) -> Result: ...
    @overload
    def recognize(self, pictures: Pictures) -> List[Result]: ...
    def recognize(self, pictures):  # type: ignore[no-untyped-def]
        """What is in a picture, as `magpie recognize` says it; a list of results of several pictures."""
        found = [result(told) for told in self._native.recognize(given(pictures))]
        return found[0] if is_one(pictures) else found

    @overload
    def detect(self, pictures: Picture) -> List[Box]: ...
    @overload
    def detect(self, pictures: Pictures) -> List[List[Box]]: ...
    def detect(self, pictures):  # type: ignore[no-untyped-def]
        """Where objects are, best first; none where it has no detector. A list each of several pictures."""
        found = [boxes(told) for told in self._native.detect(given(pictures))]
        return found[0] if is_one(pictures) else found

    def embed(self, pictures: "Union[Picture, Pictures]") -> "Array":
        """Embeddings of whole pictures, of unit length: float32, shape (dim,) of one, (number, dim) of several."""
        return _embedded(self._native, pictures)

    @property
    def gallery(self) -> Gallery:
        """A copy of the gallery, to be changed; `use_gallery` takes it back."""
        return Gallery(self._native.gallery())

    def use_gallery(self, gallery: Gallery) -> None:
        """Answers from a copy of this gallery from now on, by the threshold and rule that it has measured."""
        self._native.use_gallery(gallery._native)

    @property
    def title(self) -> str:
        """Title of the site; empty of one that is not published."""
        return self._native.title

    @property
    def has_detector(self) -> bool:
        """Whether it finds objects; else every picture is one object."""
        return self._native.has_detector

    def __repr__(self) -> str:
        return f"Recognizer(title={self.title!r}, has_detector={self.has_detector})"


def _embedded(native: "Union[_native.Extractor, _native.Recognizer]", pictures: "Union[Picture, Pictures]") -> "Array":
    embeddings = array(native.embed(given(pictures)))
    return embeddings[0] if is_one(pictures) else embeddings
