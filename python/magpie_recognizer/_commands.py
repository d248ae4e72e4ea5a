"""Commands inside this process: what they say is heard here, and Ctrl-C and errors of Python end them."""

from __future__ import annotations

import json
import logging
import os
from typing import Any, Callable, Iterable, List, Optional

from . import _native

LOG = logging.getLogger("magpie_recognizer")

Progress = Callable[[str, int, int], object]


def call(
    words: Iterable[Any],
    *,
    progress: Optional[Progress] = None,
    answer: Optional[Callable[[str], bool]] = None,
) -> List[str]:
    """Runs a command; the lines of its answer.

    `progress` is called with what is counted, how much of it is done, and all of it. `answer` is called with each line
    of the answer; true ends what can go on later. What either raises stops the command. Remarks go to the log.
    """
    lines: List[str] = []

    def hear(kind: str, text: str, done: int, of: int) -> bool:
        if kind == "remark":
            LOG.warning("%s", text)
        elif kind == "progress":
            if progress is not None:
                progress(text, done, of)
        else:
            lines.append(text)
            LOG.info("%s", text)
            if answer is not None:
                return answer(text)
        return False

    _native.call([word if isinstance(word, str) else os.fspath(word) for word in words], hear)
    return lines


def option(name: str, value: Any) -> str:
    """An option and its value as one word: a value with a hyphen before it stays a value."""
    return f"--{name}={os.fsdecode(value)}"


def last_object(lines: List[str]) -> Any:
    """The JSON that a command ends with."""
    for line in reversed(lines):
        if line.startswith("{"):
            return json.loads(line)
    raise RuntimeError("the command gave no answer")
