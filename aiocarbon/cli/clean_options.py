"""The grammar of `aiocarbon when` and of `run --when-clean`, and their words turned into checked values."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, Final

from aiocarbon.cli.options import CommandLineError, add_setting, settings_of

__all__ = ["WaitOptions", "WhenOptions", "add_wait", "add_when", "wait_options", "when_options"]

DEFAULT_WITHIN: Final = "24h"
MOST_DAYS: Final = 14
"""Farther ahead, a profile of the last days says nothing."""

TIME_HELP: Final = 'in s, min, h or d: "90min", "8h", "1.5d"'


@dataclass(frozen=True, slots=True, kw_only=True)
class WhenOptions:
    """What `aiocarbon when` was asked for.

    Attributes:
        settings: Location, intensity, PUE and offline that were given, checked.
        duration_s: How long the work takes, seconds.
        within_s: By when it has to be done, seconds from now.
        power_w: Its power draw; None: not known.
        blocks: Into how many blocks it may be cut at most.
        least_s: The shortest block, seconds.
    """

    settings: dict[str, Any]
    duration_s: float
    within_s: float
    power_w: float | None = None
    blocks: int = 1
    least_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOptions:
    """How `aiocarbon run` waits before the command.

    Attributes:
        within_s: By when the command has to begin (with a duration: to be done), seconds from now.
        duration_s: How long the command takes; None: not known, and its first hour counts.
    """

    within_s: float
    duration_s: float | None = None


def add_when(verbs: Any) -> None:
    """Add `when` to the commands of a parser."""
    help_text = "the start, within a window, at which work emits least"
    verb = verbs.add_parser("when", help=help_text, description=f"{help_text.capitalize()}.", allow_abbrev=False)
    verb.add_argument("--duration", metavar="TIME", required=True, help=f"how long the work takes, {TIME_HELP}")
    verb.add_argument(
        "--within", metavar="TIME", default=DEFAULT_WITHIN, help="by when it has to be done, from now (default 24h)"
    )
    verb.add_argument("--power", metavar="P", help='its power draw, in W or kW: "300W", "1.2 kW"')
    verb.add_argument("--blocks", metavar="N", help="into how many blocks it may be cut at most, 1 to 24 (default 1)")
    verb.add_argument("--least", metavar="TIME", help="the shortest block (with --blocks)")
    for field in ("location", "intensity", "pue", "offline"):
        add_setting(verb, field)
    verb.add_argument("--json", metavar="F", help='write all of it as JSON to F, "-" for stdout')


def add_wait(run: argparse.ArgumentParser) -> None:
    """Add to `run` what it takes to wait for clean electricity."""
    run.add_argument(
        "--when-clean", action="store_true", help="wait for the cleanest start of the command within --within"
    )
    run.add_argument(
        "--within", metavar="TIME", help="by when it has to begin (with --duration: be done), from now (default 24h)"
    )
    run.add_argument(
        "--duration", metavar="TIME", help=f"how long the command takes, {TIME_HELP}; else its first hour counts"
    )


def when_options(parsed: argparse.Namespace) -> WhenOptions:
    """What was parsed, checked.

    Raises:
        CommandLineError: A value is not accepted, or the work does not fit into the window.
        ConfigError: A setting is not accepted.
    """
    from aiocarbon.cli.amounts import POWER, amount, count

    duration_s, within_s = _fitting(parsed.duration, parsed.within)
    blocks = 1 if parsed.blocks is None else count("--blocks", parsed.blocks, most=24)
    if parsed.least is not None and blocks == 1:
        raise CommandLineError("--least goes with --blocks N, N at least 2")
    least_s = 0.0 if parsed.least is None else _time("--least", parsed.least)
    if least_s > duration_s:
        raise CommandLineError(f"--least {parsed.least} is longer than --duration {parsed.duration}")
    if parsed.power is not None and parsed.power.strip()[-1:].isdigit():
        raise CommandLineError(f'--power {parsed.power!r} is not accepted: expected a unit, W or kW, as in "300W"')
    return WhenOptions(
        settings=settings_of(parsed),
        duration_s=duration_s,
        within_s=within_s,
        power_w=None if parsed.power is None else float(amount("--power", parsed.power, POWER)),
        blocks=blocks,
        least_s=least_s,
    )


def wait_options(parsed: argparse.Namespace) -> WaitOptions | None:
    """What was parsed, checked; None where no wait is wanted.

    Raises:
        CommandLineError: A value is not accepted, or is given without --when-clean.
    """
    if not parsed.when_clean:
        for option in ("within", "duration"):
            if getattr(parsed, option) is not None:
                raise CommandLineError(f"--{option} goes with --when-clean")
        return None
    within = parsed.within or DEFAULT_WITHIN
    if parsed.duration is None:
        return WaitOptions(within_s=_time("--within", within))
    duration_s, within_s = _fitting(parsed.duration, within)
    return WaitOptions(within_s=within_s, duration_s=duration_s)


def _fitting(duration: str, within: str) -> tuple[float, float]:
    duration_s, within_s = _time("--duration", duration), _time("--within", within)
    if duration_s > within_s:
        raise CommandLineError(f"--duration {duration} is longer than --within {within}: give a later end")
    return duration_s, within_s


def _time(option: str, text: str) -> float:
    """Seconds of an option.

    Raises:
        CommandLineError: It is none, or longer than is planned ahead.
    """
    from aiocarbon._core.timespan import seconds_of_text
    from aiocarbon._core.units import S_PER_DAY

    try:
        seconds = seconds_of_text(text)
    except ValueError as error:
        raise CommandLineError(f"{option} {text!r} is not accepted: expected {error}") from None
    if seconds > MOST_DAYS * S_PER_DAY:
        raise CommandLineError(f"{option} {text!r} is not accepted: expected at most {MOST_DAYS}d")
    return seconds
