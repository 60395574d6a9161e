"""The grammar of `aiocarbon estimate` and `aiocarbon where`, and their words turned into checked values."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiocarbon.cli.options import CommandLineError, settings_of

# What reads amounts is imported where they are read: this grammar is part of every command's start.
if TYPE_CHECKING:
    from decimal import Decimal

__all__ = ["EstimateOptions", "WhereOptions", "add_verbs", "estimate_options", "where_options"]

CLOUDS: Final = ("aws", "azure", "gcp", "ovh")
"""Clouds of `data/cloud_regions.csv`."""

DEFAULT_TOP: Final = 8
DEFAULT_BOTTOM: Final = 2
MOST_ROWS: Final = 1000
"""More than there are places."""

PUE_HELP: Final = "power usage effectiveness, 1 to 10; else as a run here would find it out"
LOCATION_HELP: Final = 'ISO country ("DE"), state ("US-CA"), grid zone or "LAT,LON"; else guessed from the time zone'


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateOptions:
    """What `aiocarbon estimate` was asked for; amounts are above 0.

    Attributes:
        settings: Location, intensity and PUE that were given, checked.
        work_flop: Operations; None where device-hours are given.
        device_hours: Hours of all devices together; None where operations are given.
        rate_flop_per_s: Operations per second of one device; None for the peak of `device`.
        device: Name of an accelerator; empty if none was given.
        precision: Number format whose peak counts; empty for the usual one of the device.
        utilization: Share of the rate that is reached; None if nobody said.
        power_w: Watts of one device; None for the specified power of `device`.
        devices: How many share the work.
        g_per_km: What a car emits; None for the newest of the table.
    """

    settings: dict[str, Any]
    work_flop: Decimal | None = None
    device_hours: Decimal | None = None
    rate_flop_per_s: Decimal | None = None
    device: str = ""
    precision: str = ""
    utilization: Decimal | None = None
    power_w: Decimal | None = None
    devices: int = 1
    g_per_km: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WhereOptions:
    """What `aiocarbon where` was asked for.

    Attributes:
        settings: Location and PUE that were given, checked.
        energy_kwh: IT energy of the work; None where journals tell it.
        paths: Journals; empty where the energy is given.
        clouds: Of which clouds regions are wanted; empty for places of all kinds.
        words: What a place's name or code has to hold; empty for all.
        top: How many of the lowest are shown.
        bottom: How many of the highest.
        is_all: True to show all.
    """

    settings: dict[str, Any]
    energy_kwh: Decimal | None = None
    paths: tuple[str, ...] = ()
    clouds: tuple[str, ...] = ()
    words: str = ""
    top: int = DEFAULT_TOP
    bottom: int = DEFAULT_BOTTOM
    is_all: bool = False


def add_verbs(verbs: Any) -> None:
    """Add both to the commands of a parser."""
    _add_where(verbs)
    _add_estimate(verbs)


def _add_where(verbs: Any) -> None:
    verb = _add(verbs, "where", "the same work in other countries, states and cloud regions, by yearly tables")
    verb.add_argument(
        "paths", nargs="*", metavar="PATH", help="journals whose energy is taken: files or folders of runs"
    )
    verb.add_argument("--energy-kwh", metavar="E", help="IT energy of the work instead (without PUE), in kWh")
    verb.add_argument("--location", metavar="ZONE", help=f"here: {LOCATION_HELP}, or where the journals' runs ran")
    verb.add_argument("--pue", metavar="X", help=f"{PUE_HELP}; counts wherever no cloud publishes its own")
    verb.add_argument(
        "--cloud", metavar="NAMES", help=f"regions of clouds alone: {', '.join(CLOUDS)}, or several: aws,gcp"
    )
    verb.add_argument("--filter", metavar="TEXT", help="only places whose name or code holds this text")
    verb.add_argument("--top", metavar="N", help="how many of the lowest are shown (default 8)")
    verb.add_argument("--bottom", metavar="N", help="how many of the highest (default 2)")
    verb.add_argument("--all", action="store_true", help="show all")
    _add_json(verb)


def _add_estimate(verbs: Any) -> None:
    verb = _add(verbs, "estimate", "what work will use and emit, before any run, with every step of the arithmetic")
    verb.add_argument("--flops", metavar="N", help='operations of the whole work: "3.14e23" or "314 ZFLOP"')
    verb.add_argument("--device-hours", metavar="H", help="hours of all devices together, instead of operations")
    verb.add_argument("--device", metavar="NAME", help='accelerator of the bundled table: "V100S", "A100 SXM4"')
    verb.add_argument(
        "--precision", metavar="P", help="number format of the device's peak: bf16, fp16, fp8, tf32, fp32"
    )
    verb.add_argument("--flops-rate", metavar="R", help='operations per second of one device: "130e12" or "130 TFLOPS"')
    verb.add_argument(
        "--utilization",
        "--mfu",
        metavar="U",
        help='share of the rate that is reached: "0.38" or "38%%"; else all of it',
    )
    verb.add_argument("--watts", metavar="W", help="power draw of one device; else the device's specified power")
    verb.add_argument("--devices", metavar="N", help="how many devices share the work (default 1)")
    verb.add_argument("--pue", metavar="X", help=PUE_HELP)
    verb.add_argument("--intensity", metavar="G", help="gCO2eq/kWh, 0 to 3000; else the yearly average of the location")
    verb.add_argument("--location", metavar="ZONE", help=LOCATION_HELP)
    verb.add_argument("--car-g-per-km", metavar="G", help="what a car emits; else the newest new cars of the EU")
    _add_json(verb)


def _add(verbs: Any, name: str, help_text: str) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = verbs.add_parser(
        name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.", allow_abbrev=False
    )
    return added


def _add_json(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", metavar="F", help='write all of it as JSON to F, "-" for stdout')


def estimate_options(parsed: argparse.Namespace) -> EstimateOptions:
    """What was parsed, checked.

    Raises:
        CommandLineError: A value is not accepted, one is missing, or two say the same.
        ConfigError: Location, PUE or intensity is not accepted.
    """
    from aiocarbon.cli.amounts import CAR, FLOP, FLOP_RATE, HOURS, POWER, count, share

    _check_intensity(parsed.intensity)
    options = EstimateOptions(
        settings=settings_of(parsed),
        work_flop=_amount(parsed.flops, "--flops", FLOP),
        device_hours=_amount(parsed.device_hours, "--device-hours", HOURS),
        rate_flop_per_s=_amount(parsed.flops_rate, "--flops-rate", FLOP_RATE),
        device=parsed.device or "",
        precision=parsed.precision or "",
        utilization=None if parsed.utilization is None else share("--utilization", parsed.utilization),
        power_w=_amount(parsed.watts, "--watts", POWER),
        devices=1 if parsed.devices is None else count("--devices", parsed.devices),
        g_per_km=_amount(parsed.car_g_per_km, "--car-g-per-km", CAR),
    )
    _check_whole(options)
    return options


def _check_intensity(text: str | None) -> None:
    try:
        float(text or "0")
    except ValueError:
        raise CommandLineError(
            f"--intensity {text!r} is not accepted: an estimate takes a number of gCO2eq/kWh, 0 to 3000"
        ) from None


def _check_whole(options: EstimateOptions) -> None:
    """Refuse what lacks a part, or says one twice."""
    from aiocarbon.data.accelerators import PRECISIONS

    if (options.work_flop is None) == (options.device_hours is None):
        raise CommandLineError(
            "give the work either as --flops N or as --device-hours H (see aiocarbon estimate --help)"
        )
    if options.work_flop is not None and options.rate_flop_per_s is None and not options.device:
        raise CommandLineError("--flops needs the rate of the device: --flops-rate R, or --device NAME")
    if options.power_w is None and not options.device:
        raise CommandLineError("the power of the device is missing: --watts W, or --device NAME")
    if options.precision and options.precision not in PRECISIONS:
        raise CommandLineError(f"--precision {options.precision!r} is not accepted: expected {', '.join(PRECISIONS)}")
    if options.precision and (not options.device or options.rate_flop_per_s is not None):
        raise CommandLineError(
            "--precision chooses among the peaks of a --device; a --flops-rate stands instead of them"
        )


def where_options(parsed: argparse.Namespace) -> WhereOptions:
    """What was parsed, checked.

    Raises:
        CommandLineError: A value is not accepted, or the energy is missing or told twice.
        ConfigError: Location or PUE is not accepted.
    """
    from aiocarbon.cli.amounts import ENERGY, count

    if (parsed.energy_kwh is None) == (not parsed.paths):
        raise CommandLineError("say the energy either by --energy-kwh E or by journals: aiocarbon where PATH...")
    clouds = () if parsed.cloud is None else tuple(name.strip() for name in parsed.cloud.lower().split(","))
    if unknown := [name for name in clouds if name not in CLOUDS]:
        raise CommandLineError(
            f"--cloud {unknown[0]!r} is not accepted: expected {', '.join(CLOUDS)}, or several: aws,gcp"
        )
    return WhereOptions(
        settings=settings_of(parsed),
        energy_kwh=_amount(parsed.energy_kwh, "--energy-kwh", ENERGY),
        paths=tuple(parsed.paths),
        clouds=clouds,
        words=(parsed.filter or "").strip(),
        top=DEFAULT_TOP if parsed.top is None else count("--top", parsed.top, least=0, most=MOST_ROWS),
        bottom=DEFAULT_BOTTOM if parsed.bottom is None else count("--bottom", parsed.bottom, least=0, most=MOST_ROWS),
        is_all=parsed.all,
    )


def _amount(text: str | None, option: str, kind: Any) -> Decimal | None:
    from aiocarbon.cli.amounts import amount

    return None if text is None else amount(option, text, kind)
