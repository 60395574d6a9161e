"""What a page tells of a run in words and tables: the same figures as the report in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiocarbon._core.report import Quantities, RunReport
from aiocarbon.page.words import MEASURED_WORDS, co2eq_words, cut, energy_words, shares_words
from aiocarbon.render import numbers
from aiocarbon.render.text import LEAST_AMOUNT, locations_words

__all__ = ["device_rows", "facts", "head", "span_rows"]

Plain = dict[str, Any]


def head(report: RunReport, state: str) -> Plain:
    """Who the run is, and its main figures with their ranges and bases."""
    energy, mass = energy_words(report), co2eq_words(report)
    pue = f"devices x PUE {report.pue.value:g}"
    qualities = ", ".join(dict.fromkeys(use.quality for use in report.intensity_sources))
    digits = numbers.supported_digits(report.it_energy_kwh, report.it_energy_kwh_low, report.it_energy_kwh_high)
    power = numbers.power(report.power_w, digits) if report.it_energy_kwh > 0.0 else "-"
    covered = f"readings vouch for {numbers.percent(report.coverage)} of the time"
    return {
        "run_id": cut(report.run_id),
        "name": cut(report.name),
        "host": cut(report.host),
        "version": cut(report.version, 60),
        "state": state,
        "kpis": [
            ["Energy", *energy, f"{pue}; {shares_words(report)}"],
            ["CO2eq", *mass, f"estimated from energy and intensity ({qualities})"],
            ["Time", numbers.duration(report.duration_s), f"from {report.started_at:%Y-%m-%d %H:%M:%S} UTC", covered],
            ["Mean power", power, "of the devices, without PUE", _epochs(report)],
        ],
    }


def _epochs(report: RunReport) -> str:
    return f"{report.epochs_total:,} epochs" if report.epochs_total else "no epochs were marked"


def facts(report: RunReport) -> list[list[str]]:
    """Labels and texts: what the figures rest on."""
    return [[label, cut(text, 600)] for label, text in _facts(report)]


def _facts(report: RunReport) -> Iterator[tuple[str, str]]:
    if not numbers.is_nothing(report):
        it, ends = numbers.energy_range(report.it_energy_kwh, report.it_energy_kwh_low, report.it_energy_kwh_high)
        yield "Energy of the devices", f"{it}, 90 % range {ends}"
    yield "PUE", f"{report.pue.value:g}: {report.pue.source}"
    yield "Location", "; ".join(locations_words(report))
    for use in report.intensity_sources:
        note = f"; {use.note}" if use.note else ""
        yield (
            "Intensity",
            f"{numbers.rounded(use.g_per_kwh)} gCO2eq/kWh for {numbers.percent(use.share)} of the energy: "
            f"{use.quality}, {use.kind}, {use.factor_basis} factors, {use.zone}: {use.source}{note}",
        )
    if report.co2eq_g_before is not None:
        yield "CO2eq before", f"{numbers.co2eq(report.co2eq_g_before)}, when parts of the intensity were guesses"
    scope = report.scope
    parts = (("measured", scope.measured), ("modelled", scope.modelled), ("missing", scope.missing))
    yield "Scope", f"{scope.name}; " + "; ".join(f"{word}: {', '.join(names) or 'none'}" for word, names in parts)
    if report.nodes:
        told = sum(node.it_energy_kwh is not None for node in report.nodes)
        yield "Nodes", f"{told} of {len(report.nodes)} told; {report.status}"
    if report.rework is not None:
        yield "Rework", f"{numbers.energy(report.rework.energy_kwh)}, done again by a later try; in the sum"
    other_things = [one for one in report.equivalents if one.amount >= LEAST_AMOUNT]
    if other_things:
        one = other_things[0]
        year = f", {one.year}" if one.year else ""
        yield "As much as", f"{numbers.rounded(one.amount, 2)} {one.unit} ({one.source}{year})"
    cost = report.overhead
    spent = f"{numbers.rounded(cost.cpu_s, 2)} CPU s, {cost.readings:,} readings" if cost.readings else "not known"
    if cost.it_energy_kwh is not None:
        spent += f", about {numbers.energy(cost.it_energy_kwh, 2)}"
    yield "The instrument itself", spent


def device_rows(report: RunReport) -> list[list[str]]:
    """Rows of the table of devices: name, host, power, energy, coverage, basis, whether it counts."""
    rows = []
    for device in report.devices[:500]:
        kwh, low, high = device.it_energy_kwh, device.it_energy_kwh_low, device.it_energy_kwh_high
        digits = numbers.supported_digits(kwh, low, high)
        # Nothing seen yet of a counter that refreshes slowly is a bound, not a zero.
        is_bound = kwh == 0.0 and high > 0.0
        name = device.id if not device.name or device.name == device.id else f"{device.name} ({device.id})"
        rows.append(
            [
                cut(name),
                cut(device.host),
                "-" if is_bound else numbers.power(device.power_w, digits),
                f"< {numbers.energy(high, 2)}" if is_bound else numbers.energy(kwh, digits),
                numbers.percent(device.coverage),
                MEASURED_WORDS[device.basis],
                "yes" if device.counted else "no, another view of the same",
            ]
        )
    return rows


def span_rows(report: RunReport) -> Plain:
    """The spans' own figures by name, which with what nobody owns make the run."""
    whole = report.it_energy_kwh
    rows = []
    for span in sorted(report.spans, key=lambda span: -span.it_energy_kwh)[:100]:
        lengths = [
            "-" if length is None else numbers.duration(length) for length in (span.duration_s_p50, span.duration_s_p95)
        ]
        rows.append([cut(span.name, 80), *_owned(span, whole), f"{span.count:,}", *lengths])
    rest = report.unattributed
    rows.append(["no span", *_owned(rest, whole), "", "", ""])
    if rest.idle is not None:
        rows.append(["of which idle floor", *_owned(rest.idle, whole), "", "", ""])
    more = f" {len(report.spans) - 100} more names are left out." if len(report.spans) > 100 else ""
    how = report.attribution
    policy = "" if how is None else f" Split by {how.policy}, idle floor {how.idle.replace('_', ' ')}."
    return {"rows": rows, "note": f"Energy of the devices that spans own, without that of spans inside.{policy}{more}"}


def _owned(part: Quantities, whole: float) -> tuple[str, str, float]:
    digits = numbers.supported_digits(part.it_energy_kwh, part.it_energy_kwh_low, part.it_energy_kwh_high)
    share = min(part.it_energy_kwh / whole, 1.0) if whole > 0.0 else 0.0
    return numbers.energy(part.it_energy_kwh, digits), numbers.percent(share), round(share, 5)
