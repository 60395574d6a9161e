"""The journal: curve points and marks on disk, cumulative and never deltas.

`write.py` puts records into a file, `read.py` makes runs of files, `records.py` says what a record is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiocarbon.journal.read import Loaded, load

__all__ = ["Loaded", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aiocarbon.journal import read

    return getattr(read, name)
