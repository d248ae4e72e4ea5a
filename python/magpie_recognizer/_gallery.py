"""Galleries: classes, and the embeddings that show them."""

from __future__ import annotations

import functools
import os
import tempfile
import threading
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
    cast,
    overload,
)

from . import _native
from ._commands import call, last_object, option
from ._pictures import Picture, Pictures, given
from ._results import Match, array

if TYPE_CHECKING:
    import numpy

    from ._commands import Progress
    from ._recognizer import Detector, Extractor
    from ._results import Array

    Path = Union[str, "os.PathLike[str]"]

# Rows that are handed over at once.
_ROWS = 4096


_Method = TypeVar("_Method", bound=Callable[..., Any])


def _alone(method: _Method) -> _Method:
    """A change that may have several steps: no other one comes between them, of another thread or of a signal's
    handler in this one."""

    @functools.wraps(method)
    def changes(self: "Gallery", *given: Any, **named: Any) -> Any:
        if self._changer == threading.get_ident():
            raise RuntimeError(
                "this thread is changing the gallery already, and a signal's handler came between; change it there after "
                "that call has returned, and only read it before"
            )
        with self._changing:
            self._changer = threading.get_ident()
            try:
                return method(self, *given, **named)
            finally:
                self._changer = None

    return cast(_Method, changes)


class Answer(NamedTuple):
    """What a gallery says of an embedding."""

    #: The most similar classes, best first.
    matches: Tuple[Match, ...]
    #: Similarity of the best class less that of the second.
    lead: float
    #: How probable it is that the best is right, of a thing that the gallery has; None where that was not measured, or
    #: the best is not the answer.
    probability: Optional[float]
    #: Whether the best is similar enough to be the answer; always, where the gallery has no threshold.
    known: bool

    @property
    def label(self) -> Optional[str]:
        """The answer; None where it is unknown."""
        return self.matches[0].label if self.known and self.matches else None


class ClassInfo(NamedTuple):
    """A class of a gallery."""

    label: str
    #: Texts that are shown with it, by name.
    metadata: Dict[str, str]
    #: A threshold of its own.
    min_similarity: Optional[float]
    #: Number of its entries.
    entries: int


class Gallery:
    """Classes and their entries, in memory until it is saved.

    Several threads may search one at once; changes wait for them. An error leaves it as it was.
    """

    def __init__(self, native: _native.Gallery) -> None:
        self._native = native
        # Taken twice by a thread only where a handler comes before the first change has begun, or after it.
        self._changing = threading.RLock()
        self._changer: Optional[int] = None

    @classmethod
    def new(cls, extractor: "Extractor", *, values: str = "f16", crop: str = "never") -> "Gallery":
        """One without entries, for the embeddings of an extractor.

        `values`: f16, f32, or i8 for half of f16's bytes. `crop`: the part of a picture that becomes an entry: never
        (the whole), middle, main (the main body), both.
        """
        return cls(_native.Gallery(extractor.dim, extractor.id, values, crop))

    @classmethod
    def open(cls, path: "Path") -> "Gallery":
        """Reads a file."""
        return cls(_native.Gallery.open(os.fspath(path)))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Gallery":
        """Reads the bytes of a file."""
        return cls(_native.Gallery.from_bytes(bytes(data)))

    @classmethod
    def build(
        cls,
        photos: "Path",
        out: "Optional[Path]" = None,
        *,
        extractor: "Path" = "general",
        detector: "Optional[Path]" = None,
        crop: str = "auto",
        index: str = "auto",
        values: str = "f16",
        adapt: bool = True,
        calibrate: bool = True,
        metadata: "Optional[Path]" = None,
        strict: bool = False,
        progress: "Optional[Progress]" = None,
    ) -> "Gallery":
        """Makes a gallery of a folder with one sub-folder per class, a zip file of one, or a list file.

        It is the file of `magpie gallery build` with the same options; `out` keeps it. Pictures that cannot be used are
        named in the log of `magpie_recognizer` and left out; `strict` makes them an error.
        """
        with tempfile.TemporaryDirectory(prefix="magpie-") as folder:
            path = os.path.join(folder, "gallery.bin") if out is None else os.fspath(out)
            words = ["gallery", "build", option("images", photos), option("out", path), option("extractor", extractor)]
            words += [option("crop", crop), option("index", index), option("values", values)]
            words += [] if detector is None else [option("detector", detector)]
            words += [] if adapt else ["--adapt=never"]
            words += [] if calibrate else ["--calibrate=never"]
            words += [] if metadata is None else [option("metadata", metadata)]
            words += ["--strict"] if strict else []
            call(words, progress=progress)
            return cls.open(path)

    @classmethod
    def from_numpy(
        cls,
        embeddings: "numpy.ndarray[Any, Any]",
        labels: Sequence[str],
        *,
        extractor: "Optional[Extractor]" = None,
        model: str = "",
        values: str = "f16",
        index: str = "auto",
        contents: Optional[Sequence[bytes]] = None,
        like: "Optional[Gallery]" = None,
    ) -> "Gallery":
        """Makes a gallery of embeddings, shape (number, dim), with a label each; they are brought to unit length.

        `extractor` made them; of another program's give a name of your own as `model`. `contents` are the first 16 bytes
        of the SHA-256 of each picture's file, by which a picture is known again. It learns nothing: `adapt` and
        `calibrate` do.

        Rows and labels hold no crop, threshold, metadata, pictures of classes, or map. `like`, the gallery that they came
        from, gives the extractor's name, the crop, and metadata and thresholds of the classes that are there; its own
        threshold only where neither gallery has a map, behind which similarities are others. Maps and calibrations are
        learned from entries: call `adapt` or `calibrate`. Pictures of classes are lost.
        """
        rows = _rows(embeddings)
        if extractor is not None:
            model = extractor.id
        elif like is not None and not model:
            model = like.model
        crop = "never" if like is None else like.crop
        gallery = cls(_native.Gallery(int(rows.shape[1]), model, values, crop))
        gallery.add_embeddings(rows, labels, contents=contents)
        gallery._native.index(index)
        if like is not None:
            for known in like.classes:
                least = known.min_similarity if like.map is None else None
                if known.label in gallery and (known.metadata or least is not None):
                    gallery.describe(known.label, known.metadata, min_similarity=least)
            if like.map is None and like.min_similarity is not None:
                gallery.min_similarity = like.min_similarity
        return gallery

    def to_numpy(self) -> "Tuple[Array, List[str]]":
        """Embeddings of all entries as the extractor gave them, float32, shape (entries, dim), and the label of each.

        `from_numpy(..., like=gallery)` makes a gallery of them again, with what is not in rows.
        """
        embeddings, labels = self._native.entries()
        return array(embeddings), labels

    def contents(self) -> List[bytes]:
        """Of each entry the first 16 bytes of the SHA-256 of its picture's file; zeros where that is not known."""
        return self._native.contents()

    def save(self, path: "Path") -> None:
        """Writes a file whole, in the place of a gallery of before."""
        self._native.save(os.fspath(path))

    def to_bytes(self) -> bytes:
        """The bytes of its file."""
        return self._native.to_bytes()

    @_alone
    def add(
        self,
        label: str,
        pictures: "Union[Picture, Pictures]",
        extractor: "Extractor",
        *,
        detector: "Optional[Detector]" = None,
        learn: bool = True,
    ) -> List[str]:
        """Adds pictures to a class, which is made if it is not there; sentences about those that were left out.

        As `magpie gallery add`: pictures that the class has already are not added again. A gallery that has grown by a
        quarter since it learned from its entries learns anew, unless `learn` is false.
        """
        several = given(pictures)
        found = None if detector is None else detector._native
        labels = [label] * len(several)
        return self._native.add_pictures(labels, several, extractor._native, found, learn)[2]

    @_alone
    def add_embeddings(
        self,
        embeddings: "numpy.ndarray[Any, Any]",
        labels: Sequence[str],
        *,
        contents: Optional[Sequence[bytes]] = None,
    ) -> None:
        """Adds embeddings, shape (number, dim), with a label each; they are brought to unit length."""
        rows, labels = _rows(embeddings), [labels] if isinstance(labels, str) else list(labels)
        if len(rows) != len(labels):
            raise ValueError(f"{len(rows)} embeddings have {len(labels)} labels; give one each")
        if contents is not None and len(contents) != len(labels):
            raise ValueError(f"{len(labels)} embeddings have {len(contents)} contents; give one each")
        if rows.shape[1] != self.dim:
            raise ValueError(f"the embeddings have {rows.shape[1]} values, the gallery holds {self.dim}")
        before = self._native.to_bytes() if len(rows) > _ROWS else None
        try:
            for start in range(0, len(rows), _ROWS):
                part = slice(start, start + _ROWS)
                of = [] if contents is None else [bytes(content) for content in contents[part]]
                self._native.add_embeddings(labels[part], rows[part].tobytes(), of)
        except BaseException:
            # What came before the part with the fault goes.
            if before is not None:
                self._native.take(_native.Gallery.from_bytes(before))
            raise
        self._native.index(None)

    @_alone
    def remove(self, label: str) -> int:
        """Takes a class out; the number of its entries."""
        return self._native.remove_class(label)

    @_alone
    def remove_pictures(self, pictures: "Union[Picture, Pictures]") -> int:
        """Takes the entries out that were made of these files; their number."""
        return self._native.remove_pictures(given(pictures))

    @_alone
    def remove_entries(self, places: Sequence[int]) -> None:
        """Takes entries out by their places in `to_numpy`, all by those before it; places change with every removal."""
        self._native.remove_entries([int(place) for place in places])

    @_alone
    def rename(self, label: str, to: str) -> None:
        """Gives a class another label; with that of another class, both become one."""
        self._native.rename(label, to)

    @_alone
    def describe(self, label: str, metadata: Mapping[str, str], *, min_similarity: Optional[float] = None) -> None:
        """Gives a class these texts, and a threshold of its own or none, in the place of those of before."""
        self._native.describe(label, list(metadata.items()), _cosine(min_similarity))

    @_alone
    def merge(self, other: "Gallery") -> int:
        """Takes in the classes and entries of another gallery of the same extractor; how many entries came."""
        return self._native.merge(other._native)

    @overload
    def search(self, embeddings: "numpy.ndarray[Any, Any]", k: int = 5, *, ef_search: Optional[int] = None) -> Any: ...
    @overload
    def search(self, embeddings: Sequence[float], k: int = 5, *, ef_search: Optional[int] = None) -> Answer: ...
    def search(self, embeddings, k=5, *, ef_search=None):  # type: ignore[no-untyped-def]
        """The k best classes of an embedding, shape (dim,), by the rule that the gallery has measured, else by the
        nearest entry; of several, shape (number, dim), a list of answers.

        `ef_search`: how much of an index is searched: entries in view (hnsw), lists (ivf), entries compared again (binary).
        """
        import numpy

        if k < 1:
            raise ValueError(f"k: {k}; give 1 or more")
        if ef_search is not None and ef_search < 1:
            raise ValueError(f"ef_search: {ef_search}; give 1 or more")
        rows = numpy.asarray(embeddings)
        is_single = rows.ndim == 1
        rows = _rows(rows[None] if is_single else rows)
        if rows.shape[1] != self.dim:
            raise ValueError(
                f"the embeddings have {rows.shape[1]} values, the gallery holds {self.dim}; embed with the extractor that "
                "made the gallery"
            )
        found = [
            Answer(tuple(Match(*match) for match in matches), lead, probability, known)
            for matches, lead, probability, known in self._native.search(rows.tobytes(), k, ef_search)
        ]
        return found[0] if is_single else found

    def adapt(
        self, *, kind: str = "auto", strength: Optional[float] = None, calibrate: bool = True, remove: bool = False
    ) -> Dict[str, Any]:
        """Learns from the entries which directions of embeddings matter, and keeps that if it helps.

        What `magpie gallery adapt --json` answers. `kind`: auto, whitening, lda. `remove` takes the map away.
        """
        words = ["--none"] if remove else [option("kind", kind)]
        words += [] if strength is None else [option("strength", repr(float(strength)))]
        words += [] if calibrate else ["--calibrate=never"]
        return self._change("adapt", words)

    def calibrate(
        self,
        query: "Optional[Path]" = None,
        *,
        extractor: "Path" = "general",
        false_accept: Optional[float] = None,
        rule: Optional[str] = None,
        even_if_poor: bool = False,
        write: bool = True,
    ) -> Dict[str, Any]:
        """Measures when an answer is believed, on the entries or on the pictures of a folder of classes, and keeps it.

        What `magpie gallery calibrate --json` answers. `false_accept`: the largest share of unknown things that may be
        named. `rule`: nearest, vote, class-mean. ValueError where the threshold is not worth keeping.
        """
        words = ["--write"] if write else []
        words += [] if query is None else [option("query", query), option("extractor", extractor)]
        words += [] if false_accept is None else [option("false-accept", repr(float(false_accept)))]
        words += [] if rule is None else [option("rule", rule)]
        words += ["--even-if-poor"] if even_if_poor else []
        return self._change("calibrate", words)

    @_alone
    def index(self, kind: str = "auto") -> None:
        """Builds what entries are found by: auto, flat, hnsw, ivf, binary."""
        self._native.index(kind)

    def to_dict(self) -> Dict[str, Any]:
        """As `magpie gallery list --json` prints it: model, dim, entries, classes, threshold, rule, map."""
        return self._told("list", [], writes=False)

    @_alone
    def _change(self, name: str, words: List[str]) -> Dict[str, Any]:
        """Has a command change a copy on the disk, and becomes that."""
        return self._told(name, words, writes=True)

    def _told(self, name: str, words: List[str], *, writes: bool) -> Dict[str, Any]:
        """What a command answers of a copy on the disk."""
        with tempfile.TemporaryDirectory(prefix="magpie-") as folder:
            path = os.path.join(folder, "gallery.bin")
            self.save(path)
            try:
                told: Dict[str, Any] = last_object(call(["gallery", name, *words, "--json", "--", path]))
            except ValueError as error:
                # Nobody knows the copy.
                raise type(error)(str(error).replace(f"{path}: ", "")) from None
            if writes:
                self._native.take(_native.Gallery.open(path))
        return told

    @property
    def classes(self) -> List[ClassInfo]:
        """Every class, in their order."""
        return [
            ClassInfo(label, dict(metadata), least, entries)
            for label, metadata, least, entries in self._native.classes()
        ]

    @property
    def dim(self) -> int:
        """Values of an embedding."""
        return self._native.about()[0]

    @property
    def model(self) -> str:
        """Short name of the extractor that made the embeddings."""
        return self._native.about()[1]

    @property
    def crop(self) -> str:
        """The part of a picture that becomes an entry: never (the whole), middle, main, both."""
        return self._native.about()[3]

    @property
    def min_similarity(self) -> Optional[float]:
        """The threshold that was measured or given; None without one."""
        return self._native.about()[4]

    @min_similarity.setter
    @_alone
    def min_similarity(self, least: Optional[float]) -> None:
        self._native.set_min_similarity(_cosine(least))

    @property
    def map(self) -> Optional[str]:
        """The kind of the map that an adapted gallery has: whitening or lda; None without one."""
        return self._native.about()[5]

    def __len__(self) -> int:
        return self._native.about()[2]

    def __contains__(self, label: object) -> bool:
        return any(known.label == label for known in self.classes)

    def __repr__(self) -> str:
        dim, model, entries, crop, _, kind = self._native.about()
        return f"Gallery(classes={len(self.classes)}, entries={entries}, dim={dim}, model={model!r}, crop={crop!r}, map={kind!r})"


def _cosine(least: Optional[float]) -> Optional[float]:
    """A threshold that a similarity can reach."""
    if least is not None and not -1 <= least <= 1:
        raise ValueError(f"min_similarity: {least}; give a cosine from -1 to 1")
    return least


def _rows(embeddings: Any) -> Any:
    """Rows of float32, one behind another."""
    import numpy

    rows = numpy.asarray(embeddings)
    if rows.ndim != 2:
        raise ValueError(f"embeddings of shape {rows.shape}; give rows: (number, dim)")
    if rows.dtype.kind not in "fiu":
        raise TypeError(f"embeddings of {rows.dtype}; give floats")
    return numpy.ascontiguousarray(rows, dtype=numpy.float32)
