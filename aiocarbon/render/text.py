"""The report for a terminal or a log: a report in, plain text out.

Guarantees: what is measured and what is estimated can be told apart on every line that carries energy; figures have no
more digits than their ranges support; no colour, no measuring, no input or output. The first line is the heading;
lines with something wrong begin with `WARNING`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from aiocarbon._core.intensity import Location, LocationUse
from aiocarbon._core.reading import Basis
from aiocarbon._core.report import (
    DeviceReport,
    EpochReport,
    Equivalent,
    IntensityUse,
    Prediction,
    Quantities,
    RunReport,
)
from aiocarbon._core.units import M_PER_KM
from aiocarbon.render import numbers
from aiocarbon.render.cluster import cluster_rows
from aiocarbon.render.escape import line, one_line
from aiocarbon.render.spans import span_lines

__all__ = [
    "WARNING",
    "intensity_words",
    "live_line",
    "location_words",
    "prediction_words",
    "report_text",
    "total_text",
]

WARNING: Final = "  warning     "
"""How the line of a warning begins."""

OURS: Final = "aiocarbon"
"""`tool` of what was not imported."""

LABEL_WIDTH: Final = 12
NAME_WIDTH: Final = 44
MOST_EQUIVALENTS: Final = 5
LEAST_AMOUNT: Final = 0.01
"""Equivalents below this many units (metres where the unit is a kilometre) say nothing to anybody."""

LEAST_PAUSE_S: Final = 0.1
"""A shorter pause is told nowhere."""

MEASURED: Final = frozenset({Basis.COUNTER, Basis.POWER})

BASIS_WORDS: Final = {
    Basis.COUNTER: "measured, energy counter",
    Basis.POWER: "measured, power sensor",
    Basis.MODEL: "ESTIMATED, model",
    Basis.ASSUMED: "ESTIMATED, assumption",
}

HOW_WORDS: Final = {
    "given": "as given",
    "environment": "as given in the environment",
    "pyproject.toml": "as given in pyproject.toml",
    "cloud": "as the cloud says",
    "geolocation": "by this machine's internet address",
    "time zone": "a GUESS from the time zone",
    "world": "UNKNOWN, so the world's average is used",
}

QUALITY_WORDS: Final = {
    "given": "as given",
    "live": "live",
    "estimated": "estimated by the source",
    "forecast": "forecast",
    "cached": "carried on from an older value",
    "average": "yearly average",
}

GIVEN_SOURCE: Final = "given by the user"
"""The source of a number of the user's, of which "as given" says it all."""

FACTOR_WORDS: Final = {"unknown": "factors not told"}


def report_text(report: RunReport) -> str:
    """A whole run as lines of text, without a line break at the end.

    Args:
        report: The report of a run, of several that were merged, or of one that goes on.
    """
    return "\n".join(map(line, _lines(report)))


def total_text(total: Quantities, runs: int) -> str:
    """Several runs together as lines of text, without a line break at the end.

    Args:
        total: Their quantities, each instant of a device counted once.
        runs: How many there are.
    """
    lines = (
        f"aiocarbon: {runs} runs together",
        _line("time", f"{numbers.duration(total.duration_s)} in which at least one ran"),
        *_energy(total, "each run's PUE"),
        _mass(total),
    )
    return "\n".join(lines)


def prediction_words(prediction: Prediction) -> str:
    """What a whole run will use, on one line; of a run without a declared end, what it uses an hour."""
    if not prediction.is_bounded:
        rates = [
            f"{numbers.energy(prediction.energy_kwh_per_hour)} an hour" if prediction.energy_kwh_per_hour else "",
            f"{numbers.co2eq(prediction.co2eq_g_per_hour)} CO2eq an hour" if prediction.co2eq_g_per_hour else "",
        ]
        return ", ".join(filter(None, rates)) or "no rate is known"
    parts = []
    kwh, low_kwh, high_kwh = prediction.energy_kwh, prediction.energy_kwh_low, prediction.energy_kwh_high
    if kwh is not None and low_kwh is not None and high_kwh is not None:
        value, ends = numbers.energy_range(kwh, low_kwh, high_kwh)
        parts.append(f"~{value} ({ends})")
    grams, low_g, high_g = prediction.co2eq_g, prediction.co2eq_g_low, prediction.co2eq_g_high
    if grams is not None and low_g is not None and high_g is not None:
        value, ends = numbers.co2eq_range(grams, low_g, high_g)
        parts.append(f"~{value} CO2eq ({ends})")
    left_s = prediction.remaining_duration_s
    parts += [] if left_s is None else [f"{numbers.duration(left_s)} left"]
    return f"whole run {', '.join(parts)}"


def live_line(report: RunReport) -> str:
    """A run that goes on, on one line: power draw, energy, CO2eq, time, and what the whole will use."""
    if report.coverage == 0.0 or report.it_energy_kwh == 0.0:
        return f"nothing measured yet  {numbers.duration(report.duration_s)}"
    sign = "" if _estimated_share(report) == 0.0 else "~"
    return (
        f"{sign}{numbers.power(report.power_w)}  {sign}{numbers.energy(report.energy_kwh)}  "
        f"~{numbers.co2eq(report.co2eq_g, 2)} CO2eq  {numbers.duration(report.duration_s)}"
        + (f"  {prediction_words(report.prediction)}" if report.prediction is not None else "")
    )


def _lines(report: RunReport) -> Iterator[str]:
    yield _heading(report)
    if report.tool != OURS:
        yield _line("measured by", f"{one_line(f'{report.tool} {report.version}')}; imported from its log")
    yield _line("time", _time(report))
    yield from _energy(report, f"PUE {report.pue.value:g}")
    yield _line("", f"PUE: {report.pue.source}")
    yield _mass(report)
    yield from _intensities(report)
    yield from _scope(report)
    yield from _devices(report.devices)
    yield from _epochs(report)
    yield from (_line(label, text) for label, text in cluster_rows(report))
    yield from span_lines(report)
    yield from _equivalents(report.equivalents)
    if report.tool == OURS:
        yield _line("overhead", _overhead(report))
    yield from (f"{WARNING}{text}" for text in report.warnings)


def _line(label: str, text: str) -> str:
    return f"  {label:<{LABEL_WIDTH}}{text}"


def _heading(report: RunReport) -> str:
    name = f"{one_line(report.name)} ({report.run_id})" if report.name else report.run_id
    return f"aiocarbon: {name or 'all runs'}{f' on {report.host}' if report.host else ''}"


def _time(report: RunReport) -> str:
    text = f"{numbers.duration(report.duration_s)}, from {report.started_at:%Y-%m-%d %H:%M:%S} UTC"
    if report.paused_s >= LEAST_PAUSE_S:
        text += f", with {numbers.duration(report.paused_s)} in which nothing of it ran (not counted)"
    if not report.is_final:
        return f"{text}; it goes on, or broke off"
    return text if report.ended_well else f"{text}; it did not end well"


def _energy(of: Quantities, pue: str) -> Iterator[str]:
    if numbers.is_nothing(of):
        most = f", at most {numbers.energy(of.it_energy_kwh_high, 2)}" if of.it_energy_kwh_high > 0.0 else ""
        yield _line("energy", f"unknown{most}: NOTHING was measured; {_coverage(of)}")
        return
    it, it_ends = numbers.energy_range(of.it_energy_kwh, of.it_energy_kwh_low, of.it_energy_kwh_high)
    yield _line("energy", f"{it} by the devices, 90 % range {it_ends}; mean {numbers.power(of.power_w)}")
    yield _line("", _basis(of))
    whole, ends = numbers.energy_range(of.energy_kwh, of.energy_kwh_low, of.energy_kwh_high)
    yield _line("", f"{whole} with {pue}, 90 % range {ends}")


def _mass(of: Quantities) -> str:
    if numbers.is_nothing(of):
        return _line("CO2eq", "unknown" + (f", at most {numbers.co2eq(of.co2eq_g_high, 2)}" if of.co2eq_g_high else ""))
    mass, ends = numbers.co2eq_range(of.co2eq_g, of.co2eq_g_low, of.co2eq_g_high)
    return _line("CO2eq", f"{mass}, estimated from energy and intensity, 90 % range {ends}")


def _estimated_share(report: Quantities) -> float:
    return sum(share for basis, share in report.basis_shares.items() if basis not in MEASURED)


def _basis(report: Quantities) -> str:
    shares = [
        f"{numbers.percent(share)} {BASIS_WORDS[basis]}"
        for basis in Basis
        if (share := report.basis_shares.get(basis, 0.0)) > 0.0
    ]
    return "; ".join([*shares, _coverage(report)])


def _coverage(of: Quantities) -> str:
    return f"readings vouch for {numbers.percent(of.coverage)} of the time"


def _intensities(report: RunReport) -> Iterator[str]:
    if report.co2eq_g_before is not None:
        before = numbers.co2eq(report.co2eq_g_before)
        yield _line("", f"before {before}, when parts of the intensity were guesses")
    uses = report.intensity_sources
    for n, use in enumerate(uses):
        share = f"{numbers.percent(use.share)} of the energy: " if len(uses) > 1 else ""
        yield _line("intensity" if n == 0 else "", share + _intensity(use))
    for n, text in enumerate(locations_words(report)):
        yield _line("location" if n == 0 else "", text)


def places_of(report: RunReport) -> Sequence[Location]:
    """Where a run was: one place, or several."""
    return report.locations or (report.location,)


def locations_words(report: RunReport) -> Iterator[str]:
    """Where a run was, in words: a text for each place, with its share of the energy if there are several."""
    for place in places_of(report):
        share = ""
        if isinstance(place, LocationUse) and report.it_energy_kwh > 0.0:
            share = f"{numbers.percent(place.it_energy_kwh / report.it_energy_kwh)} of the devices' energy: "
        yield share + location_words(place)


def location_words(place: Location) -> str:
    """A location and how it is known, in words: "Germany (DE), as given"."""
    how = HOW_WORDS.get(place.how, place.how)
    region = f" ({place.region})" if place.region else ""
    note = f"; {place.note}" if place.note else ""
    return f"{place.name} ({place.zone}), {how}{region}{note}"


def intensity_words(quality: str, zone: str, kind: str, factor_basis: str) -> str:
    """What an intensity is, in words: "live of DE, average, direct"; the values of the enums of `_core.intensity`."""
    factors = FACTOR_WORDS.get(factor_basis, factor_basis)
    if quality == "given":
        stated = (kind if kind != "average" else "", factors if factor_basis != "unknown" else "")
        return ", ".join(filter(None, (QUALITY_WORDS[quality], *stated)))
    if quality == kind == "average":
        return f"{QUALITY_WORDS[quality]} of {zone}, {factors}"
    return f"{QUALITY_WORDS.get(quality, quality)}, of {zone}, {kind}, {factors}"


def _intensity(use: IntensityUse) -> str:
    note = f"; {use.note}" if use.note else ""
    words = intensity_words(use.quality, use.zone, use.kind, use.factor_basis)
    digits = 4 if use.quality == "given" else 3
    source = "" if use.source == GIVEN_SOURCE else f": {use.source}"
    return f"{numbers.rounded(use.g_per_kwh, digits)} gCO2eq/kWh, {words}{source}{note}"


def _scope(report: RunReport) -> Iterator[str]:
    scope = report.scope
    parts = (("measured", scope.measured), ("modelled", scope.modelled), ("missing", scope.missing))
    yield _line(
        "scope", f"{scope.name}; " + "; ".join(f"{word}: {', '.join(names) or 'none'}" for word, names in parts)
    )
    if scope.machine_it_energy_kwh is None or scope.own_it_energy_kwh is None:
        return
    rest = (
        ("idle", scope.idle_it_energy_kwh),
        ("used by others", scope.others_it_energy_kwh),
        ("used by unknown users", scope.unknown_it_energy_kwh),
    )
    told = [f"{numbers.energy(kwh, 3)} {words}" for words, kwh in rest if kwh]
    whole, own = numbers.energy(scope.machine_it_energy_kwh, 3), numbers.energy(scope.own_it_energy_kwh, 3)
    yield _line("", f"of the devices' {whole}: {', '.join([f'{own} its own', *told])}; only its own counts above")


def _devices(devices: Sequence[DeviceReport]) -> Iterator[str]:
    if not devices:
        return
    rows = [("device", "watts", "energy", "coverage", "basis", "in the sum"), *(_device(d) for d in devices)]
    if len({device.host for device in devices}) > 1:
        rows[1:] = [(f"{device.host}: {row[0]}", *row[1:]) for device, row in zip(devices, rows[1:], strict=True)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for name, watts, kwh, coverage, basis, counted in rows:
        numbers_part = f"{watts:>{widths[1]}}  {kwh:>{widths[2]}}  {coverage:>{widths[3]}}"
        yield f"  {name:<{widths[0]}}  {numbers_part}  {basis:<{widths[4]}}  {counted}"
    for device in devices:
        if device.note:
            yield _line("note", f"{device.id}: {device.note}")


def _device(device: DeviceReport) -> tuple[str, str, str, str, str, str]:
    kwh, low, high = device.it_energy_kwh, device.it_energy_kwh_low, device.it_energy_kwh_high
    digits = numbers.supported_digits(kwh, low, high)
    # Nothing seen yet of a counter that refreshes slowly is a bound, not a zero.
    is_bound = kwh == 0.0 and high > 0.0
    return (
        _device_name(device),
        "-" if is_bound else numbers.power(device.power_w, digits),
        f"< {numbers.energy(high, 2)}" if is_bound else numbers.energy(kwh, digits),
        numbers.percent(device.coverage),
        BASIS_WORDS[device.basis],
        "yes" if device.counted else "no, another view of the same",
    )


def _device_name(device: DeviceReport) -> str:
    """The name and the id, the id shortened where both are too long: a UUID's beginning tells it."""
    if not device.name or device.name == device.id:
        return device.id
    room = max(NAME_WIDTH - len(device.name) - 3, 12)
    ident = device.id if len(device.id) <= room else f"{device.id[: room - 3]}..."
    return f"{device.name} ({ident})"


def _epochs(report: RunReport) -> Iterator[str]:
    if report.epochs_total == 0:
        return
    whole = [epoch for epoch in report.epochs if not epoch.is_partial]
    if not whole:
        yield _line("epochs", f"{report.epochs_total}, none of them complete")
        return
    mean_kwh = sum(e.energy_kwh for e in whole) / len(whole)
    mean_g = sum(e.co2eq_g for e in whole) / len(whole)
    mean_s = sum(e.duration_s for e in whole) / len(whole)
    of = "" if len(whole) == report.epochs_total else f" of the {len(whole)} newest complete ones"
    mean = f"mean{of} {numbers.energy(mean_kwh)}, {numbers.co2eq(mean_g, 2)} CO2eq, {numbers.duration(mean_s)}"
    yield _line("epochs", f"{report.epochs_total}; {mean}; last {_epoch(whole[-1])}")


def _epoch(epoch: EpochReport) -> str:
    return f"{numbers.energy(epoch.energy_kwh)}, {numbers.co2eq(epoch.co2eq_g, 2)} CO2eq"


def _equivalents(equivalents: Sequence[Equivalent]) -> Iterator[str]:
    told = [(e, *_in_metres(e)) for e in equivalents]
    told = [row for row in told if row[1] >= LEAST_AMOUNT][:MOST_EQUIVALENTS]
    for n, (item, amount, unit) in enumerate(told):
        year = f", {item.year}" if item.year else ""
        factor = f"{item.g_per_unit:g} g/{item.unit.split()[0]}" if item.unit.startswith("km ") else item.source
        yield _line("as much as" if n == 0 else "", f"{numbers.rounded(amount, 2)} {unit} ({factor}{year})")


def _in_metres(item: Equivalent) -> tuple[float, str]:
    if item.unit.startswith("km ") and item.amount < 1.0:
        return item.amount * M_PER_KM, item.unit.removeprefix("k")
    return item.amount, item.unit


def _overhead(report: RunReport) -> str:
    cost = report.overhead
    if not cost.readings and not cost.cpu_s:
        return "not known"  # its journal breaks off
    of_it = []
    if report.duration_s > 0.0:
        of_it.append(f"{numbers.rounded(100.0 * cost.cpu_s / report.duration_s, 2)} % of a core")
    if cost.it_energy_kwh is not None:
        of_it.append(f"about {numbers.energy(cost.it_energy_kwh, 2)}")
    inside = f" ({', '.join(of_it)})" if of_it else ""
    missed = f", {cost.missed_ticks} ticks missed" if cost.missed_ticks else ""
    return f"{numbers.rounded(cost.cpu_s, 2)} CPU s for measuring{inside}, {cost.readings} readings{missed}"
