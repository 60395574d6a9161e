"""The journal: curve points and marks on disk, cumulative and never deltas.

`records.py` says what a record is, `write.py` puts records into a file. Back: `parse.py` makes a process (`process.py`)
of a file, whose states stand in `rows.py`, and `view.py` a report of it. Of several, `machine.py` says who tells which
device when, `quick.py` cuts a process at its marks without curves, `join.py` sums a run, and `read.py` does all of it
for paths: of the runs that `select.py` chooses, with the sums of `groups.py`. `former.py` tells a run that goes on what
was measured of it before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiocarbon.journal.read import Loaded, compare, load

__all__ = ["Loaded", "compare", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aiocarbon.journal import read

    return getattr(read, name)
