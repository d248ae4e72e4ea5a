"""What is found in pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    import numpy

    from . import _native

    Array = numpy.ndarray[Any, numpy.dtype[numpy.float32]]


def array(values: "_native.Values") -> "Array":
    """NumPy's view of numbers that stay where they are; nobody can write to it."""
    try:
        import numpy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "embeddings are arrays of NumPy: install it by `pip install numpy`", name="numpy"
        ) from error
    return numpy.asarray(values)


class Box(NamedTuple):
    """Where something is, in pixels of the picture: x2 and y2 are exclusive."""

    x1: float
    y1: float
    x2: float
    y2: float
    #: How sure the detector is, 0 to 1; 1 for a whole picture.
    score: float = 1.0


class Match(NamedTuple):
    """A class and how similar it is: a cosine, -1 to 1."""

    label: str
    similarity: float


@dataclass(frozen=True)
class Recognition:
    """A thing of a picture."""

    #: Where it is.
    box: Box
    #: The most similar classes, best first; none where the gallery is empty.
    matches: Tuple[Match, ...]
    #: Whether the best is similar enough to be the answer.
    known: bool
    #: How probable it is that the best is right, of a thing that the gallery has; None where that was not measured.
    probability: Optional[float]
    #: The similarity from which on the best would be the answer.
    least_similarity: float
    _values: "_native.Values" = field(repr=False, compare=False)

    @property
    def label(self) -> Optional[str]:
        """The answer; None where it is unknown."""
        return self.matches[0].label if self.known and self.matches else None

    @property
    def similarity(self) -> Optional[float]:
        """That of the best class; None where the gallery is empty."""
        return self.matches[0].similarity if self.matches else None

    @property
    def embedding(self) -> "Array":
        """Of the part of the picture, of unit length: float32, shape (dim,); read-only, not copied."""
        return array(self._values)


@dataclass(frozen=True)
class Result:
    """What is in a picture; it is iterated over, indexed and counted as its objects are."""

    #: The things, the most similar first.
    objects: Tuple[Recognition, ...]
    #: Milliseconds: detect, embed, search; and embedded, the number of parts that were embedded.
    timings: Dict[str, float] = field(compare=False)
    _json: str = field(repr=False, compare=False)

    def to_dict(self) -> Dict[str, Any]:
        """As `magpie recognize --json` prints it, embeddings included."""
        told: Dict[str, Any] = json.loads(self._json)
        return told

    def __iter__(self) -> Iterator[Recognition]:
        return iter(self.objects)

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, place: int) -> Recognition:
        return self.objects[place]


def result(told: Any) -> Result:
    """Of what the compiled part tells."""
    objects, (detect, embed, search, embedded), text = told
    return Result(
        tuple(
            Recognition(
                _box(edges, score),
                tuple(Match(*match) for match in matches),
                known,
                probability,
                least,
                values,
            )
            for edges, score, matches, known, probability, least, values in objects
        ),
        {"detect": detect, "embed": embed, "search": search, "embedded": embedded},
        text,
    )


def boxes(told: Any) -> List[Box]:
    """Of what the compiled part tells."""
    return [_box(edges, score) for edges, score in told]


def _box(edges: Tuple[float, float, float, float], score: float) -> Box:
    x1, y1, x2, y2 = edges
    return Box(x1, y1, x2, y2, score)
