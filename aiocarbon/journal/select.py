"""Which runs of many are meant, told from first lines alone."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from aiocarbon.journal.parse import Heading

__all__ = ["ALL", "Selection", "selected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which runs are meant; a run is meant as a whole or not at all.

    Attributes:
        names: Names that count, with `*`, `?` and `[...]` as in file names; empty: any.
        since_s: Runs that began at this instant or later, UTC seconds; None: any.
        until_s: Runs that began before this instant; None: any.
    """

    names: tuple[str, ...] = ()
    since_s: float | None = None
    until_s: float | None = None

    def takes(self, name: str, began_s: float) -> bool:
        """Whether a run is meant.

        Args:
            name: Its name.
            began_s: Its begin, UTC seconds.
        """
        if self.names and not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names):
            return False
        return (self.since_s is None or began_s >= self.since_s) and (self.until_s is None or began_s < self.until_s)


ALL = Selection()


def selected(headings: Sequence[Heading], selection: Selection) -> list[Heading]:
    """The journals of the runs that are meant; a run began when the first of its processes did.

    Args:
        headings: All journals.
        selection: Which runs.
    """
    if selection == ALL:
        return list(headings)
    names: dict[str, str] = {}
    began_s: dict[str, float] = {}
    for heading in headings:
        names[heading.run_id] = names.get(heading.run_id) or heading.name
        began_s[heading.run_id] = min(began_s.get(heading.run_id, heading.began_s), heading.began_s)
    taken = {run_id for run_id, name in names.items() if selection.takes(name, began_s[run_id])}
    return [heading for heading in headings if heading.run_id in taken]
