"""An estimate as text: each step of its arithmetic on a line, then where each input comes from, then what it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from aiocarbon._core.estimate import Estimate
from aiocarbon._core.units import G_PER_KG, J_PER_KWH, S_PER_DAY, S_PER_HOUR
from aiocarbon.render import numbers
from aiocarbon.render.labelled import labelled
from aiocarbon.render.text import intensity_words, location_words

__all__ = ["estimate_lines"]


def estimate_lines(found: Estimate, *, width: int | None) -> Iterator[str]:
    """All of it as lines of text.

    Args:
        found: The estimate.
        width: Columns that may be filled; None where no terminal breaks lines.
    """
    chain = found.exact
    bound = "at least " if found.is_lower_bound else ""
    mass, energy = numbers.co2eq(float(chain.co2eq_g)), numbers.energy(float(chain.energy_kwh))
    yield f"aiocarbon: {bound}{mass} CO2eq and {energy}, estimated; nothing was measured"
    for label, text in (*_steps(found), *_inputs(found)):
        yield from labelled(label, text, width)
    for n, note in enumerate(found.notes):
        yield from labelled("" if n else "note", note, width)


def _steps(found: Estimate) -> Iterator[tuple[str, str]]:
    given, chain = found.given, found.printed
    yield from _time(found)
    device_s, kwh, mass_g = (f"{value:f}" for value in (chain.device_s, chain.energy_kwh, chain.co2eq_g))
    power = f"{_plain(given.power_w)} W x {device_s} s x PUE {_plain(given.pue)}"
    yield "energy", f"{power} = {chain.energy_j:f} J"
    yield "", f"{chain.energy_j:f} J / {J_PER_KWH:.0f} J/kWh = {kwh} kWh"
    yield "CO2eq", f"{kwh} kWh x {_plain(given.g_per_kwh)} g/kWh = {mass_g} g"
    yield "", f"{mass_g} g / {G_PER_KG:.0f} g/kg = {chain.co2eq_kg:f} kg"
    if given.low_g_per_kwh != given.high_g_per_kwh:
        ends = [float(value) for value in (found.exact.co2eq_g, found.exact.co2eq_g_low, found.exact.co2eq_g_high)]
        yield "", f"90 % range {numbers.co2eq_range(ends[0], ends[1], ends[2])[1]}, for the intensity alone"
    yield "as much as", f"{mass_g} g / {_plain(given.g_per_km)} g/km = {chain.car_km:f} km by car"


def _time(found: Estimate) -> Iterator[tuple[str, str]]:
    given, chain = found.given, found.printed
    whose = "one device" if given.devices == 1 else "all devices together"
    if given.rate_flop_per_s is not None and given.utilization is not None:
        rate = f"{_thousands(given.rate_flop_per_s)} FLOP/s x {_plain(given.utilization)} reached"
        yield "rate", f"{rate} = {_thousands(chain.reached_flop_per_s)} FLOP/s"
    if given.work_flop is not None:
        work = f"{_plain(given.work_flop)} FLOP / {_thousands(chain.reached_flop_per_s)} FLOP/s"
        yield "time", f"{work} = {chain.device_s:f} s of {whose}"
    else:
        yield "time", f"{_plain(given.device_hours)} h x {S_PER_HOUR} s/h = {chain.device_s:f} s of {whose}"
    yield "", f"{chain.device_s:f} s / {S_PER_DAY} s/d = {chain.device_d:f} d"
    if given.devices > 1:
        yield "", f"{chain.device_s:f} s / {given.devices} devices = {chain.wall_s:f} s"
        yield "", f"{chain.wall_s:f} s / {S_PER_DAY} s/d = {chain.wall_d:f} d until it is done"
    if given.work_flop is None and chain.work_flop is not None:
        reached = f"{chain.device_s:f} s x {_thousands(chain.reached_flop_per_s)} FLOP/s"
        yield "work", f"{reached} = {_plain(Decimal(f'{chain.work_flop:.3g}'))} FLOP"


def _inputs(found: Estimate) -> Iterator[tuple[str, str]]:
    given, value = found.given, found.intensity
    if found.device:
        yield "device", f"{found.device}: {found.device_source}"
    if found.rate_source and given.rate_flop_per_s is not None:
        yield (
            "peak rate" if found.precision else "rate",
            f"{_thousands(given.rate_flop_per_s)} FLOP/s: {found.rate_source}",
        )
    yield "power", f"{_plain(given.power_w)} W: {found.power_source}"
    yield "PUE", f"{_plain(given.pue)}: {found.pue_source}"
    words = intensity_words(value.quality, value.zone, value.kind, value.factor_basis)
    source = "" if found.location is None else f": {value.source}; {value.note.removeprefix('yearly average; ')}"
    yield "intensity", f"{_plain(given.g_per_kwh)} gCO2eq/kWh, {words}{source}"
    if found.location is not None:
        yield "location", location_words(found.location)
    yield "car", f"{_plain(given.g_per_km)} g/km: {found.car_source}"


def _plain(value: Decimal | None) -> str:
    """An input as it was given, without zeros that say nothing: "449.06", "3.14e23"."""
    assert value is not None, "a step is told only where it was taken"
    value = value.normalize()
    if value == 0 or -4 <= value.adjusted() < 7:
        return f"{value:f}"
    return f"{value.scaleb(-value.adjusted()):f}e{value.adjusted()}"


def _thousands(value: Decimal | None) -> str:
    """A rate by powers of a thousand, as data sheets have it: "130e12"."""
    assert value is not None, "a step is told only where it was taken"
    exponent = value.adjusted() // 3 * 3
    scaled = value.scaleb(-exponent).normalize()
    return f"{scaled:f}e{exponent}" if exponent > 0 else f"{value.normalize():f}"
