"""`aiocarbon estimate`: the arithmetic of work that has not run, each step shown; no network, no measuring."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Final

from aiocarbon import data
from aiocarbon._core.estimate import Estimate, Given, as_printed, exact
from aiocarbon._core.intensity import Quality
from aiocarbon.cli.foresight_options import EstimateOptions
from aiocarbon.cli.options import CommandLineError
from aiocarbon.cli.output import deliver, with_version
from aiocarbon.cli.width import columns
from aiocarbon.data.accelerators import Accelerator, find
from aiocarbon.render.estimate import estimate_lines

__all__ = ["estimate"]

CAR: Final = "eu_new_car_2024"
"""Row of `data/equivalents.csv` that counts where no car was given: the newest."""

SCOPE: Final = "the devices alone: host CPUs, memory, network, failed and repeated work are not in it"


def estimate(options: EstimateOptions, *, json_file: str | None = None) -> int:
    """Compute and tell; on stdout, or as JSON in a file.

    Args:
        options: What was asked for.
        json_file: File for all of it as JSON, "-" for stdout, which then gets nothing else; None: none.

    Returns:
        0, or 1 if it could not be written.

    Raises:
        CommandLineError: A device is not in the table, or lacks a figure that is needed.
        ConfigError: A value of the environment or of pyproject.toml is not accepted.
    """
    found = _estimated(options)
    return deliver(
        json_file,
        lambda: with_version(found.to_dict()),
        lambda: "\n".join(estimate_lines(found, width=columns(sys.stdout))),
    )


def _estimated(options: EstimateOptions) -> Estimate:
    from aiocarbon._engine.surroundings import surroundings
    from aiocarbon.settings import resolve

    device = _device(options.device) if options.device else None
    rate, precision, rate_source = _rate(options, device)
    power, power_source = _power(options, device)
    car, car_source = _car(options)
    settings = resolve(options.settings)
    around = surroundings(settings, options.settings)
    value = around.intensity
    given = Given(
        work_flop=options.work_flop,
        rate_flop_per_s=rate,
        utilization=options.utilization,
        device_hours=options.device_hours,
        devices=options.devices,
        power_w=power,
        pue=_decimal(around.pue.value),
        g_per_kwh=_decimal(value.g_per_kwh),
        low_g_per_kwh=_decimal(value.low_g_per_kwh),
        high_g_per_kwh=_decimal(value.high_g_per_kwh),
        g_per_km=car,
    )
    is_bound = bool(precision) and options.utilization is None and options.work_flop is not None
    here = "; as a run on this machine would find it, --pue for another" if settings.pue is None else ""
    notes = _notes(options, is_bound)
    if isinstance(settings.intensity, str):
        notes.append("the settings name a file or a source of intensity, which is not asked: the yearly table is taken")
    return Estimate(
        given=given,
        printed=as_printed(given),
        exact=exact(given),
        device="" if device is None else device.name,
        device_source="" if device is None else f"{device.address}; quoted by {device.source}",
        precision=precision,
        rate_source=rate_source,
        power_source=power_source,
        pue_source=f"{around.pue.source}{here}",
        intensity=value,
        location=None if value.quality is Quality.GIVEN else around.location,
        car_source=car_source,
        is_lower_bound=is_bound,
        notes=tuple(notes),
    )


def _notes(options: EstimateOptions, is_bound: bool) -> list[str]:
    notes = []
    if is_bound:
        notes.append(
            "computed at the device's PEAK rate, which no training reaches: at this power, time, energy and CO2eq are "
            "LOWER BOUNDS; say what share of it is reached by --utilization"
        )
    elif options.work_flop is not None and options.utilization is None:
        notes.append(
            "--flops-rate is taken as reached all the time; if it is the device's peak, time, energy and CO2eq at this "
            "power are LOWER BOUNDS (--utilization says what share of it is reached)"
        )
    if options.power_w is None:
        notes.append("the specified power is taken as drawn all the time; measured watts (--watts) are better")
    if options.devices > 1:
        notes.append("the devices are taken to share the work without loss")
    notes += [SCOPE, "each step takes the printed value of the step before; --json has the exact chain, too"]
    return notes


def _device(name: str) -> Accelerator:
    looked = find(name)
    if looked.found is not None:
        return looked.found
    if looked.candidates:
        raise CommandLineError(f"--device {name!r} fits several: {', '.join(looked.candidates)}; say which")
    near = f"; nearest: {', '.join(looked.near)}" if looked.near else ""
    raise CommandLineError(
        f"--device {name!r} is not in the bundled table{near}; give --watts W, and --flops-rate R with --flops, instead"
    )


def _rate(options: EstimateOptions, device: Accelerator | None) -> tuple[Decimal | None, str, str]:
    """The rate of one device, its number format if it is a peak of the table, and who says so."""
    if options.rate_flop_per_s is not None:
        return options.rate_flop_per_s, "", "as given"
    if device is None or (options.work_flop is None and options.utilization is None):
        if options.utilization is not None:
            raise CommandLineError("--utilization needs a rate: --flops-rate R, or --device NAME")
        return None, "", ""  # device-hours need none
    peaks = device.peak_flop_per_s
    precision = options.precision or device.precision
    if precision not in peaks:
        raise CommandLineError(
            f"the bundled table has no {precision} rate of {device.name}, only {', '.join(peaks)}; give --flops-rate R"
        )
    return _decimal(peaks[precision]), precision, f"{precision}, dense, of {device.name}"


def _power(options: EstimateOptions, device: Accelerator | None) -> tuple[Decimal, str]:
    if options.power_w is not None:
        return options.power_w, "as given"
    assert device is not None, "the grammar asks for --watts or --device"
    if device.power_w is None:
        raise CommandLineError(f"the vendor publishes no power of {device.name}: give --watts W")
    return _decimal(device.power_w), f"{device.power_term} of {device.name}"


def _car(options: EstimateOptions) -> tuple[Decimal, str]:
    if options.g_per_km is not None:
        return options.g_per_km, "as given"
    row = next(row for row in data.rows("equivalents") if row["id"] == CAR)
    return Decimal(row["g_per_unit"]), f"an average new car of the EU, {row['year']}: {row['source']}"


def _decimal(value: float) -> Decimal:
    """The shortest decimal number that stands for a float: what was typed or stands in a table, not its binary tail."""
    return Decimal(repr(value))
