"""The grammar of `aiocarbon report` and `aiocarbon compare`, and their words turned into checked values."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiocarbon.cli.options import CommandLineError, option_of
from aiocarbon.cli.output import STDOUT, folder_problem
from aiocarbon.cli.report_outputs import OUTPUTS
from aiocarbon.cli.statement_options import StatementOptions, add_statement, statement_options

__all__ = ["DEFAULT_FOLDER", "ReportOptions", "add_compare", "add_report", "report_options"]

DEFAULT_FOLDER: Final = "aiocarbon_runs"
"""Where `aiocarbon run` writes and `aiocarbon report` reads if nobody names a folder."""


BY: Final = ("day", "week", "month", "name", "host")
AGO: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What `aiocarbon report` was asked for.

    Attributes:
        paths: Journals' files, runs' folders or folders of runs.
        outputs: File by output, in the order of `OUTPUTS`; "-" is stdout. Empty: text for people.
        is_refresh: True to ask sources for intensity that was missing or a guess, and to keep what they say.
        statement: What of a paper's statement was asked for.
        names: Names of runs that count; empty: any.
        since: Only runs that began then or later.
        until: Only runs that began before.
        by: By what their total is grouped; None: by nothing.
    """

    paths: tuple[str, ...]
    outputs: Mapping[str, str] = field(default_factory=dict)
    is_refresh: bool = False
    statement: StatementOptions = field(default_factory=StatementOptions)
    names: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    by: str | None = None


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
    report.add_argument(
        "--name", action="append", default=[], metavar="NAME", help='only runs called so ("bert*"); may be repeated'
    )
    report.add_argument(
        "--since",
        metavar="TIME",
        help='only runs that began since: "2026-11-01", "2026-11-01T12:00", or "7d" ago (UTC)',
    )
    report.add_argument("--until", metavar="TIME", help="only runs that began before")
    report.add_argument(
        "--by", choices=BY, help="their total by day, week or month (each joule in its own), name or host"
    )
    add_statement(report)
    report.add_argument(
        "--refresh",
        action="store_true",
        help="ask sources for intensity that was missing or a guess, and keep it beside the journals",
    )


def add_compare(add_verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the verb."""
    compare = add_verb("compare", "two runs, or sums of runs, side by side: energy, CO2eq, time, an epoch of each")
    what = f"a path as for report; else a run's id, or the name of runs, in ./{DEFAULT_FOLDER}"
    compare.add_argument("a", metavar="A", help=what)
    compare.add_argument("b", metavar="B", help="likewise, compared with it")
    compare.add_argument("--json", metavar="F", help='write it as JSON to F, "-" for stdout')


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
        names=tuple(parsed.name),
        since=_instant("--since", parsed.since),
        until=_instant("--until", parsed.until),
        by=parsed.by,
    )


def _instant(option: str, text: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> datetime | None:
    """An instant of a text: a date or time of ISO 8601, in UTC where it says no zone, or how long ago."""
    if text is None:
        return None
    ago = re.fullmatch(r"([0-9]{1,6})([mhdw])", text.strip().lower())
    try:
        if ago is not None:
            return now() - timedelta(**{AGO[ago[2]]: int(ago[1])})
        at = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError) as error:
        raise CommandLineError(
            f'{option} {text!r} is no time such as "2026-11-01", "2026-11-01T12:00" or "7d"'
        ) from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _outputs(parsed: Any) -> dict[str, str]:
    outputs = {name: target for name in OUTPUTS if (target := getattr(parsed, name)) is not None}
    for name, target in outputs.items():
        if problem := folder_problem(target):
            raise CommandLineError(f"{option_of(name)} {problem}")
    if list(outputs.values()).count(STDOUT) > 1:
        raise CommandLineError('"-" is stdout, which holds one output: name a file for the others')
    return outputs
