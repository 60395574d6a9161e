"""What `aiocarbon report` can write beside its text: one row an output, each a function from what was read to a text.

An output's renderer is imported inside its function, so that one that is not asked for costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from aiocarbon.cli.report_options import ReportOptions
    from aiocarbon.journal.read import Loaded

__all__ = ["OUTPUTS", "Output"]


class Output(NamedTuple):
    """A form that a report can be written in.

    Attributes:
        help: Its line in `aiocarbon report --help`.
        make: Makes its text of what was read and how it was asked for. `Loaded.files` are the journals, where their
            curves are wanted as well (`aiocarbon.journal.read.gather`).
    """

    help: str
    make: Callable[[Loaded, ReportOptions], str]


def _json(loaded: Loaded, options: ReportOptions) -> str:
    return json.dumps(loaded.to_dict(), indent=2, ensure_ascii=False)


OUTPUTS: Final[dict[str, Output]] = {
    "json": Output('write the runs and their total as JSON to F, "-" for stdout', _json),
}
"""By the name of its option, without the dashes."""
