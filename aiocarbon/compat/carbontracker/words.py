"""What carbontracker prints, to the letter, with ranges and basis in lines of their own below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from aiocarbon._core.report import DeviceReport, Prediction, RunReport
from aiocarbon._core.units import S_PER_HOUR, S_PER_MIN
from aiocarbon.render.escape import one_line
from aiocarbon.render.numbers import is_nothing
from aiocarbon.render.statement import basis_words
from aiocarbon.render.text import locations_words

__all__ = ["actual", "car", "components", "predicted"]

CAR: Final = "eu_new_car_2024"
"""carbontracker 2.4.7's own factor: the last row of its `co2eq.csv`, 106.8 g/km."""

CAR_UNIT: Final = "km travelled by car"
KINDS: Final = {"gpu": ("gpu",), "cpu": ("cpu", "dram")}


def components(devices: Sequence[DeviceReport]) -> str:
    """The line that tells which devices were found."""
    told = []
    for name, kinds in KINDS.items():
        names = [one_line(d.name or d.id) for d in devices if d.counted and d.kind.value in kinds]
        told += [f"{name.upper()} with device(s) {', '.join(names)}."] if names else []
    others = [
        one_line(d.name or d.id) for d in devices if d.counted and not any(d.kind.value in k for k in KINDS.values())
    ]
    told += [f"OTHER with device(s) {', '.join(others)}."] if others else []
    return f"The following components were found: {' '.join(told) or 'none.'}"


def actual(report: RunReport, epochs: int, decimals: int, *, is_interpretable: bool) -> Iterator[str]:
    """The messages that tell what a run used.

    Args:
        report: Its report.
        epochs: How many were finished.
        decimals: Digits behind the point.
        is_interpretable: Whether to tell kilometres.
    """
    yield (
        f"Average carbon intensity during training was {report.intensity_g_per_kwh:.2f} gCO2eq/kWh at detected "
        f"location: {'; '.join(locations_words(report))}."
    )
    if is_nothing(report):
        yield f"\nActual consumption for {epochs} epoch(s):\n\tnothing could be measured: aiocarbon doctor says why"
        return
    g_per_km = car(report) if is_interpretable else None
    head = f"Actual consumption for {epochs} epoch(s):"
    yield _block(head, report.duration_s, report.energy_kwh, report.co2eq_g, g_per_km, decimals)
    more = "; what was begun of another one is in it" if any(epoch.is_partial for epoch in report.epochs) else ""
    yield (
        f"90 % ranges: {report.energy_kwh_low:.{decimals}f} to {report.energy_kwh_high:.{decimals}f} kWh, "
        f"{report.co2eq_g_low:.{decimals}f} to {report.co2eq_g_high:.{decimals}f} g; {basis_words(report)}; "
        f"PUE {report.pue.value:g}, {one_line(report.pue.source)}{more}."
    )


def predicted(prediction: Prediction, decimals: int, g_per_km: float | None) -> Iterator[str]:
    """The messages that tell what the whole training will use; what is not known is said to be so."""
    head = f"Predicted consumption for {prediction.epochs} epoch(s):"
    duration_s, kwh, grams = prediction.duration_s, prediction.energy_kwh, prediction.co2eq_g
    if duration_s is None or kwh is None or grams is None:
        yield f"\n{head}\n\tnothing tells it yet"
        return
    yield _block(head, duration_s, kwh, grams, g_per_km, decimals)
    yield (
        f"90 % ranges: {prediction.energy_kwh_low:.{decimals}f} to {prediction.energy_kwh_high:.{decimals}f} kWh, "
        f"{prediction.co2eq_g_low:.{decimals}f} to {prediction.co2eq_g_high:.{decimals}f} g."
    )


def car(report: RunReport) -> float | None:
    """What a car emits, gCO2eq/km; None where the report tells none."""
    return next((item.g_per_unit for item in report.equivalents if item.id == CAR), None)


def _block(head: str, duration_s: float, kwh: float, grams: float, g_per_km: float | None, decimals: int) -> str:
    lines = [
        "",
        head,
        f"\tTime:\t{_clock(duration_s)}",
        f"\tEnergy:\t{kwh:.{decimals}f} kWh",
        f"\tCO2eq:\t{grams:.{decimals}f} g",
    ]
    if g_per_km is not None:
        lines += ["\tThis is equivalent to:", f"\t{grams / g_per_km:.{decimals}f} {CAR_UNIT}"]
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds: "2:52:22"."""
    whole = round(seconds)
    return f"{whole // S_PER_HOUR}:{whole % S_PER_HOUR // S_PER_MIN:02}:{whole % S_PER_MIN:02}"
