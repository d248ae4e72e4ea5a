"""The magpie command: `python -m magpie_recognizer site photos --out site` is `magpie site photos --out site`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Is the command, until its end."""
    # The allocator reads it while the module is loaded: memory that training gives back is kept for its next step.
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", "-1")
    from . import _native

    sys.exit(_native.run(sys.argv[1:]))


if __name__ == "__main__":
    main()
