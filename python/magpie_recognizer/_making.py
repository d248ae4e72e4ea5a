"""Sites and networks: what takes minutes, with callbacks."""

from __future__ import annotations

import json
import numbers
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from ._commands import call, last_object, option

if TYPE_CHECKING:
    from ._commands import Progress

    Path = Union[str, "os.PathLike[str]"]

Metrics = Dict[str, Any]


class Stopped(Exception):
    """May be raised by a callback to stop the work at once; `train` and `site` let it through."""


def site(
    photos: "Path",
    out: "Path",
    *,
    title: Optional[str] = None,
    extractor: "Path" = "general",
    detector: "Optional[Path]" = None,
    crop: str = "auto",
    adapt: bool = True,
    calibrate: str = "auto",
    report: bool = True,
    page: "Optional[Path]" = None,
    samples: "Union[int, Path, Sequence[Path]]" = 0,
    progress: "Optional[Progress]" = None,
) -> Dict[str, Any]:
    """Makes a site from photographs, as `magpie site` does with the same options; what that answers with --json.

    `photos`: a folder with one sub-folder per class, a zip file of one, or a list file. Run again after photographs have
    come or gone, it embeds the new ones alone. `calibrate`: auto, always, never. `samples`: so many of the photographs, or
    these files, are offered on the page. `page`: a built page in the place of the one inside the wheel.
    `progress(what, done, of)` is called as the work goes on; what it raises stops the work, and the same call goes on
    later. Photographs that are left out are named in the log of `magpie_recognizer`.
    """
    words: List[Any] = ["site", option("out", out), option("extractor", extractor), option("crop", crop)]
    words += [option("calibrate", calibrate), "--json"]
    words += [] if title is None else [option("title", title)]
    words += [] if detector is None else [option("detector", detector)]
    words += [] if adapt else ["--adapt=never"]
    words += [] if report else ["--report=never"]
    words += [] if page is None else [option("page", page)]
    if isinstance(samples, (int, numbers.Integral)):
        words += [option("samples", str(int(samples)))]
    else:
        several = [samples] if isinstance(samples, (str, os.PathLike)) else samples
        words += [option("sample", sample) for sample in several]
    words += ["--", photos]
    told: Dict[str, Any] = last_object(call(words, progress=progress))
    return told


@dataclass(frozen=True)
class Run:
    """What a training came to."""

    #: Folder of the run: log, checkpoints, report.html.
    folder: str
    #: The model file; None of a run that was stopped before its last epoch.
    model: Optional[str]
    #: The records of metrics.jsonl that this call made, in order: `kind` is train, epoch, eval, verdict, export.
    records: List[Metrics] = field(repr=False)

    @property
    def epochs(self) -> List[Metrics]:
        """Means of each epoch."""
        return [record for record in self.records if record["kind"] == "epoch"]

    @property
    def evaluations(self) -> List[Metrics]:
        """Figures of each evaluation."""
        return [record for record in self.records if record["kind"] == "eval"]


class Trainer:
    """Trains an extractor or a detector as a recipe says.

    `recipe`: a TOML file, or the name of one that comes along (`Trainer.recipes()`). `photos`: a folder of classes or a
    list file to train an extractor on, in the place of the recipe's. `overrides`: values of the recipe by their names, as
    {"epochs": 20, "schedule.learning_rate": 0.01}.
    """

    def __init__(
        self,
        recipe: "Optional[Path]" = None,
        *,
        photos: "Optional[Path]" = None,
        overrides: Optional[Mapping[str, Any]] = None,
    ) -> None:
        if recipe is None and photos is None:
            raise TypeError("give a recipe, or photos to train on by the recipe `photos`")
        self.recipe = "photos" if recipe is None else os.fspath(recipe)
        self.photos = None if photos is None else os.fspath(photos)
        self.overrides = dict(overrides or {})

    @staticmethod
    def recipes() -> Dict[str, str]:
        """The recipes that come along, with what they are for."""
        lines = (line.split(None, 1) for line in call(["train", "--list-recipes"]))
        return {name: about for name, about in lines}

    def train(
        self,
        out: "Path",
        *,
        on_epoch: Optional[Callable[[Metrics], Optional[bool]]] = None,
        on_step: Optional[Callable[[Metrics], Optional[bool]]] = None,
        on_evaluation: Optional[Callable[[Metrics], Optional[bool]]] = None,
        progress: "Optional[Progress]" = None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> Run:
        """Trains into a folder, as `magpie train` does.

        Callbacks get a record of metrics.jsonl: `on_epoch` the means of an epoch, `on_step` a step's figures,
        `on_evaluation` an evaluation's. One that returns False has enough: training ends after the epoch, whose
        checkpoint is kept, and `resume` goes on from there. What one raises stops at once; then `resume` goes on from the
        last checkpoint. `overwrite` replaces a run that is in the folder.
        """
        calls = {"epoch": on_epoch, "train": on_step, "eval": on_evaluation}
        records: List[Metrics] = []

        def hear(line: str) -> bool:
            if not line.startswith("{"):
                return False
            record: Metrics = json.loads(line)
            records.append(record)
            called = calls.get(record.get("kind", ""))
            return called is not None and called(record) is False

        words = ["train", option("config", self.recipe), option("out", out), "--json"]
        words += [option("override", f"{name}={_toml(value)}") for name, value in self.overrides.items()]
        words += ["--resume"] if resume else []
        words += ["--overwrite"] if overwrite else []
        words += [] if self.photos is None else ["--", self.photos]
        call(words, progress=progress, answer=hear)
        folder = os.fspath(out)
        is_whole = any(record.get("kind") == "export" for record in records)
        return Run(folder, os.path.join(folder, "model.safetensors") if is_whole else None, records)

    def __repr__(self) -> str:
        return f"Trainer(recipe={self.recipe!r}, photos={self.photos!r}, overrides={self.overrides!r})"


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if hasattr(value, "tolist"):
        # Numbers and arrays of NumPy, which writes their type beside them.
        value = value.tolist()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        return repr(float(value))
    if isinstance(value, (str, os.PathLike)):
        return json.dumps(os.fspath(value), ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(of)}" for key, of in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_toml(of) for of in value) + "]"
    raise TypeError(f"{type(value).__name__} is no value of a recipe; give a text, a number, a list or a mapping")
