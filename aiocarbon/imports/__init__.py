"""Other trackers' logs into journals: read as they are meant, with what they say and do not say of where it comes from.

`carbontracker.py` and `codecarbon.py` turn files into drafts, `draft.py` says what a draft is and makes records of it,
`put.py` writes it as a journal, once however often it is imported. A tool's faults are not carried over: what it did
not measure is a gap, what it left out of its own total is counted, and where the two differ the journal says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiocarbon.imports.put import FORMATS, Imported, import_logs

__all__ = ["FORMATS", "Imported", "import_logs"]


def __getattr__(name: str) -> Any:  # Any: what a module hands out by name has no narrower type
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aiocarbon.imports import put

    return getattr(put, name)
