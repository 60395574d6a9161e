"""The command line's grammar, and its words turned into checked settings; nothing is done here."""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._version import __version__
from aiocarbon.settings import FIELDS, Settings, check, said

if TYPE_CHECKING:
    from aiocarbon.cli.clean_options import WaitOptions

__all__ = [
    "CommandLineError",
    "Options",
    "add_setting",
    "hours_of",
    "make_parser",
    "option_of",
    "run_options",
    "settings_of",
    "split",
]

SEPARATOR: Final = "--"

HELP: Final = {
    "epochs": "how many epochs there will be (a command marks none itself)",
    "name": "what you call the run",
    "budget": 'end the command beyond a limit: "co2eq_g=500,energy_kwh=2,duration_s=3600"; exit code 124',
    "location": 'ISO country ("DE") or state ("US-CA"), grid zone ("DK-DK1"), GB postcode ("GB:N1") or "LAT,LON"; '
    "else asked of the cloud or of two web services, else guessed from the time zone",
    "intensity": "carbon intensity: gCO2eq/kWh, 0 to 3000, a file or https URL of times and values, or a source's name "
    "(see doctor); else the sources of the location in their order, else its yearly average",
    "pue": "power usage effectiveness, 1 to 10; else found out",
    "interval_s": "seconds between two readings of counters, 0.02 to 60 (default 1)",
    "meters": 'names of meters, "nvml,rapl" or "simulated:250"; else all that this machine has',
    "scope": 'whose energy counts: "machine" (default), "process" (the command and what it starts), "cgroup"',
    "journal": "folder of the journal (default ./aiocarbon_runs)",
    "run_id": "id of the run; else that of the SLURM job or of torchrun, else made",
    "node": "name of this machine in reports; else SLURM's name of it, or its host name",
    "offline": "send no network packet: no location is asked for, and intensities come from the cache and the tables",
    "strict": "do not start the command if the instrument cannot start",
    "attribution": "how energy is split among spans (a command opens none itself)",
    "device_sync": '"torch", for marks of epochs (a command marks none itself)',
    "resume": "go on with a run that was broken off: its id or folder; alone: that of the job, else the newest run of "
    "--name that did not end by itself; where there is none, a new one begins",
    "predict_after": "epochs before which nothing is predicted (a command marks none itself)",
    "monitor_epochs": "only so many epochs count for predictions (a command marks none itself)",
    "on_prediction": "a function, so for Python only: refused here",
}
METAVARS: Final = {
    "budget": "LIMITS",
    "location": "ZONE",
    "intensity": "G|FILE|URL|SOURCE",
    "interval_s": "S",
    "journal": "DIR",
    "epochs": "N",
    "resume": "RUN",
}


PLACE: Final = ("location", "intensity", "offline")
"""Settings of what only looks at the grid."""

ALONE: Final = frozenset({"resume"})
"""Settings whose option may stand alone, for "true"."""

HOURS_OF: Final = {"m": 1.0 / 60.0, "h": 1.0, "d": 24.0}
MOST_HOURS: Final = 96.0
"""No source forecasts further ahead."""


class CommandLineError(Exception):
    """The command line is used wrongly; the message says how it is used rightly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `aiocarbon run` was asked for.

    Attributes:
        command: The command and its arguments, at least one.
        settings: The settings that were given, checked.
        json: File for the report as JSON, "-" for stdout; None: none.
        no_journal: True if no journal is to be written whatever else says so.
        quiet: True if no report is to be printed; None: not by other ranks than the first.
        live: True if a live line is wanted.
        wait: How clean electricity is waited for first; None: not.
    """

    command: tuple[str, ...]
    settings: dict[str, Any]
    json: str | None = None
    no_journal: bool = False
    quiet: bool | None = None
    live: bool = False
    wait: WaitOptions | None = None


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and a hint, raised rather than printed."""

    def error(self, message: str) -> Any:
        """Refuse the command line.

        Raises:
            CommandLineError: Always.
        """
        raise CommandLineError(f"{message} (see {self.prog} --help)")


def make_parser() -> Parser:
    """The parser of everything before `--`."""
    parser = Parser(
        prog="aiocarbon",
        description="How much electricity a training uses, and what that emits.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"aiocarbon {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    _add_run(verbs)
    _add_verb(verbs, "demo", "train a small real model under the async tracker, in under a minute")
    doctor = _add_verb(verbs, "doctor", "each meter and source: state, why, and the exact line that mends it")
    for field in ("meters", *PLACE):
        add_setting(doctor, field)
    doctor.add_argument("--json", metavar="F", help='write what was found as JSON to F, "-" for stdout')
    _add_intensity(verbs)
    from aiocarbon.cli.clean_options import add_when
    from aiocarbon.cli.dash_cmd import add_dash
    from aiocarbon.cli.foresight_options import add_verbs
    from aiocarbon.cli.import_cmd import add_import
    from aiocarbon.cli.report_options import add_compare, add_report

    add_report(functools.partial(_add_verb, verbs))
    add_compare(functools.partial(_add_verb, verbs))
    add_dash(functools.partial(_add_verb, verbs))
    add_import(functools.partial(_add_verb, verbs))
    add_when(verbs)
    add_verbs(verbs)
    return parser


def _add_verb(verbs: Any, name: str, help_text: str, **more: Any) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = verbs.add_parser(
        name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".", allow_abbrev=False, **more
    )
    return added


def _add_run(verbs: Any) -> None:
    from aiocarbon.cli.budget_options import add_budget
    from aiocarbon.cli.clean_options import add_wait

    run = _add_verb(
        verbs,
        "run",
        "track any command; its exit code, signals, stdin and stdout are its own",
        usage="aiocarbon run [options] -- COMMAND...",
    )
    for field in FIELDS:
        add_setting(run, field)
    add_budget(run)
    add_wait(run)
    run.add_argument("--no-journal", action="store_true", help="write no journal")
    run.add_argument("--json", metavar="F", help='write the report as JSON to F, "-" for stdout')
    run.add_argument(
        "--quiet",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="print no report; --no-quiet: every rank of a job reports, not the first alone",
    )
    run.add_argument("--live", action="store_true", help="a live line on the terminal (it disturbs progress bars)")


def _add_intensity(verbs: Any) -> None:
    verb = _add_verb(verbs, "intensity", "carbon intensity now, its source, its forecast, and what each source said")
    for field in PLACE:
        add_setting(verb, field)
    verb.add_argument(
        "--forecast", metavar="TIME", default="24h", help="how far ahead: 30m, 6h, 24h, 2d; at most 96h (default 24h)"
    )
    verb.add_argument(
        "--json", metavar="F", nargs="?", const="-", help='write all of it as JSON to F; "-" or nothing for stdout'
    )


def add_setting(parser: argparse.ArgumentParser, field: str) -> None:
    """Add the option of one field of `Settings`."""
    option, help_text = option_of(field), HELP.get(field, "as in Settings")
    if isinstance(Settings.__dataclass_fields__[field].default, bool):
        parser.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=help_text)
    else:
        bare: dict[str, Any] = {"nargs": "?", "const": "true"} if field in ALONE else {}
        parser.add_argument(option, metavar=METAVARS.get(field, "X"), help=help_text, **bare)


def hours_of(text: str) -> float:
    """Hours of a text such as "30m", "6h" or "2d".

    Raises:
        CommandLineError: It is none, or not above 0 and at most 96 hours.
    """
    found = re.fullmatch(r"([0-9]{1,4}(?:\.[0-9]{1,3})?)([mhd])", text.strip().lower())
    hours = float(found[1]) * HOURS_OF[found[2]] if found else 0.0
    if not 0.0 < hours <= MOST_HOURS:
        raise CommandLineError(f"--forecast {text!r} is no time such as 30m, 6h or 2d, above 0 and at most 96h")
    return hours


def split(argv: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Our own words, and those behind the first `--`; None where there is no `--`."""
    words = list(argv)
    if SEPARATOR not in words:
        return words, None
    at = words.index(SEPARATOR)
    return words[:at], words[at + 1 :]


def run_options(parsed: argparse.Namespace, command: Sequence[str]) -> Options:
    """The options of `run` out of what was parsed.

    Raises:
        CommandLineError: An option is not accepted.
        ConfigError: A setting's value is not accepted.
    """
    from aiocarbon.cli.budget_options import budget_of
    from aiocarbon.cli.clean_options import wait_options

    budget = budget_of(parsed)
    return Options(
        command=tuple(command),
        settings=settings_of(parsed) | ({} if budget is None else {"budget": budget}),
        json=parsed.json,
        no_journal=parsed.no_journal,
        quiet=parsed.quiet,
        live=parsed.live,
        wait=wait_options(parsed),
    )


def settings_of(parsed: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given, checked; "none" stands for None, as it does in the environment.

    Raises:
        ConfigError: A value is not accepted.
    """
    given = {field: getattr(parsed, field) for field in FIELDS if getattr(parsed, field, None) is not None}
    return {
        field: check(field, said(field, text) if isinstance(text, str) else text, origin=option_of(field))
        for field, text in given.items()
    }


def option_of(field: str) -> str:
    """The option of a field of `Settings`."""
    return f"--{field.replace('_', '-')}"
