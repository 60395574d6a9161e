"""What `aiocarbon report` can write beside its text: one row an output, each a function from what was read to a text.

An output's renderer is imported inside its function, so that one that is not asked for costs nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiocarbon.cli.statement_options import csv_form, latex_form, markdown_form, statement_of, text_form

if TYPE_CHECKING:
    from aiocarbon.cli.report_options import ReportOptions
    from aiocarbon.journal.read import Loaded

__all__ = ["OUTPUTS", "Output"]


NO_RUNS: Final = '"runs": []'
"""How no runs stand in JSON; the first such place is theirs, since only the schema stands before them."""


class Output(NamedTuple):
    """A form that a report can be written in.

    Attributes:
        help: Its line in `aiocarbon report --help`.
        make: Makes its text of what was read and how it was asked for, as a whole or in pieces. `Loaded.files` are the
            journals, where their curves are wanted as well (`aiocarbon.journal.read.gather`).
    """

    help: str
    make: Callable[[Loaded, ReportOptions], str | Iterable[str]]


def _json(loaded: Loaded, options: ReportOptions) -> Iterator[str]:
    """Run by run: all of a thousand at once would take half a gigabyte."""
    stated = statement_of(loaded, options.statement)
    plain = {**dataclasses.replace(loaded, runs=()).to_dict(), "statement": stated.to_dict()}
    begin, behind = _plain(plain).split(NO_RUNS, 1)
    yield f'{begin}"runs": [\n'
    for n, run in enumerate(loaded.runs):
        # Not by textwrap.indent, which finds lines inside strings too: U+2028 is one of its breaks.
        yield ("    " if n == 0 else ",\n    ") + _plain(run.to_dict()).replace("\n", "\n    ")
    yield f"\n  ]{behind}"


def _plain(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _html(loaded: Loaded) -> str:
    from aiocarbon.page.html import html_form

    return html_form(loaded)


OUTPUTS: Final[dict[str, Output]] = {
    "json": Output('write the runs and their total as JSON to F, "-" for stdout', _json),
    "statement": Output(
        "write what a paper states of them to F: energy, CO2eq, an equivalent, the tool, what was measured",
        lambda loaded, options: text_form(loaded, options.statement),
    ),
    "markdown": Output(
        "write the statement to F as a section of a model card",
        lambda loaded, options: markdown_form(loaded, options.statement),
    ),
    "latex": Output(
        "write the statement to F as a table and a paragraph of LaTeX",
        lambda loaded, options: latex_form(loaded, options.statement),
    ),
    "csv": Output(
        "write a row a run to F in the columns of codecarbon's emissions.csv", lambda loaded, _: csv_form(loaded)
    ),
    "html": Output("write one page with charts to F, which opens offline and prints", lambda loaded, _: _html(loaded)),
}
"""By the name of its option, without the dashes."""
