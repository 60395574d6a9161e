"""What `aiocarbon report` can write beside its text: one row an output, each a function from what was read to a text.

An output's renderer is imported inside its function, so that one that is not asked for costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from aiocarbon.cli.statement_options import csv_form, latex_form, markdown_form, statement_of, text_form

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
    stated = statement_of(loaded, options.statement)
    return json.dumps({**loaded.to_dict(), "statement": stated.to_dict()}, indent=2, ensure_ascii=False)


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
