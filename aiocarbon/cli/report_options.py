"""The grammar of `aiocarbon report` and `aiocarbon compare`, and their words turned into checked values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiocarbon.cli.options import CommandLineError, option_of
from aiocarbon.cli.output import STDOUT, folder_problem
from aiocarbon.cli.report_outputs import OUTPUTS
from aiocarbon.cli.statement_options import StatementOptions, add_statement, statement_options

__all__ = ["ReportOptions", "add_report", "report_options"]

DEFAULT_FOLDER: Final = "aiocarbon_runs"
"""Where `aiocarbon run` writes and `aiocarbon report` reads if nobody names a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What `aiocarbon report` was asked for.

    Attributes:
        paths: Journals' files, runs' folders or folders of runs.
        outputs: File by output, in the order of `OUTPUTS`; "-" is stdout. Empty: text for people.
        is_refresh: True to ask sources for intensity that was missing or a guess, and to keep what they say.
        statement: What of a paper's statement was asked for.
    """

    paths: tuple[str, ...]
    outputs: Mapping[str, str] = field(default_factory=dict)
    is_refresh: bool = False
    statement: StatementOptions = field(default_factory=StatementOptions)


def add_report(add_verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the verbs."""
    report = add_verb("report", "show one run or several out of their journals, and their sum")
    report.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help=f"a journal's file, a run's folder, or a folder of runs (default ./{DEFAULT_FOLDER})",
    )
    for name, output in OUTPUTS.items():
        report.add_argument(option_of(name), metavar="F", help=output.help)
    add_statement(report)
    report.add_argument(
        "--refresh",
        action="store_true",
        help="ask sources for intensity that was missing or a guess, and keep it beside the journals",
    )


def report_options(parsed: argparse.Namespace) -> ReportOptions:
    """The options of `report` out of what was parsed.

    Raises:
        CommandLineError: An option is not accepted.
    """
    outputs = _outputs(parsed)
    return ReportOptions(
        paths=tuple(parsed.paths) or (DEFAULT_FOLDER,),
        outputs=outputs,
        is_refresh=parsed.refresh,
        statement=statement_options(parsed),
    )


def _outputs(parsed: Any) -> dict[str, str]:
    outputs = {name: target for name in OUTPUTS if (target := getattr(parsed, name)) is not None}
    for name, target in outputs.items():
        if problem := folder_problem(target):
            raise CommandLineError(f"{option_of(name)} {problem}")
    if list(outputs.values()).count(STDOUT) > 1:
        raise CommandLineError('"-" is stdout, which holds one output: name a file for the others')
    return outputs
