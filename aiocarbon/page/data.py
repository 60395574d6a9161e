"""Runs as the plain JSON values that a page draws: figures as text with their basis and source, curves as numbers.

Texts are made here, by the same functions as the report in a terminal, so that a page says nothing else; the page's
script draws. Names come from outside and may hold anything: here they are cut to what a page can show, and the script
puts them nowhere but into text.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

from aiocarbon._core.intensity import Quality
from aiocarbon._core.reading import DeviceKind
from aiocarbon._core.report import RunReport
from aiocarbon.intensity import table
from aiocarbon.page.comparisons import methods
from aiocarbon.page.series import Line, Part, Series, Sum, intensities, series
from aiocarbon.page.span_series import span_series
from aiocarbon.page.tables import device_rows, facts, head, span_rows
from aiocarbon.page.words import MEASURED_WORDS, co2eq_words, cut, describe, energy_words, shares_words
from aiocarbon.render import numbers
from aiocarbon.render.text import QUALITY_WORDS, intensity_words

__all__ = ["SCHEMA", "detail", "summary"]

SCHEMA: Final = "aiocarbon.page/1"

MOST_LINES: Final = 7
MOST_ALONE: Final = 24
SHORT_ID: Final = 16
MOST_BARS: Final = 400
MOST_ZONES: Final = 3
MOST_EPOCH_MARKS: Final = 60
KIND_WORDS: Final = {
    DeviceKind.GPU: "GPU",
    DeviceKind.CPU: "CPU",
    DeviceKind.DRAM: "memory",
    DeviceKind.PLATFORM: "platform",
    DeviceKind.BATTERY: "battery",
    DeviceKind.OTHER: "other device",
}

VOUCHED: Final = 0.99
"""Epochs of which readings vouch for less are drawn in another colour: their central value lacks what was not seen."""

Plain = dict[str, Any]


def summary(report: RunReport, state: str) -> Plain:
    """A run as a row of a list.

    Args:
        report: The run.
        state: How it ended, in words.
    """
    return {
        "run_id": cut(report.run_id, 80),
        "name": cut(report.name, 80),
        "host": cut(report.host, 80),
        "begin": report.started_at.timestamp(),
        "when": f"{report.started_at:%Y-%m-%d %H:%M}",
        "duration": numbers.duration(report.duration_s),
        "energy": energy_words(report)[0],
        "co2eq": co2eq_words(report)[0],
        "basis": MEASURED_WORDS[report.basis] if not numbers.is_nothing(report) else "-",
        "state": state,
    }


def detail(report: RunReport, parts: Sequence[Part], state: str, points: int) -> Plain:
    """All that a page shows of a run.

    Args:
        report: The run.
        parts: Its parts.
        state: How it ended, in words.
        points: Instants of a curve at most.
    """
    drawn = series(parts, points)
    return {
        **head(report, state),
        "facts": facts(report),
        "warnings": [cut(text, 600) for text in report.warnings[:100]],
        "devices": device_rows(report),
        "marks": _marks(parts),
        "power": None if drawn is None else _power(drawn),
        "used": None if drawn is None else _used(report, drawn, parts, points),
        "intensity": _intensity(report, parts, points),
        "epochs": _epochs(report),
        "shares": _shares(report),
        "spans": _spans(report, parts, points),
        "methods": _methods(report, parts),
        "places": _places(report),
    }


def _marks(parts: Sequence[Part]) -> list[float]:
    """UTC seconds at which epochs ended, where they are few enough to be seen."""
    for view in {part.view.process.ident: part.view for part in parts}.values():
        ends = [stretch.end_ns for stretch in view.stretches if stretch.epoch is not None]
        if 0 < len(ends) <= MOST_EPOCH_MARKS:
            return [round(view.ledger.wall.wall_s(end_ns), 3) for end_ns in ends]
    return []


def _n(value: float | None, digits: int = 5) -> float | None:
    """A number with no more digits than a picture shows."""
    if value is None:
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def _times(instants_s: Sequence[float]) -> list[float]:
    """UTC seconds; to a millisecond where a run was short."""
    digits = 3 if instants_s[-1] - instants_s[0] < 3600 else 0
    return [round(at_s, digits) for at_s in instants_s]


def _power(drawn: Series) -> Plain:
    lines = _lines(drawn)
    stretches = [b - a for a, b in itertools.pairwise(drawn.instants_s)]
    each = numbers.duration(sorted(stretches)[len(stretches) // 2])
    note = (
        f"Mean power of IT devices (without PUE) over stretches of about {each}; a gap is time that no reading vouches "
        f"for. Basis: {describe(lines)}."
    )
    return {"t": _times(drawn.instants_s), "lines": lines, "note": note}


def _lines(drawn: Series) -> list[Plain]:
    """Devices one by one where they are few, else by machine where those are few, else by what they are."""
    if len(drawn.lines) <= MOST_ALONE:
        kept, rest = drawn.lines[:MOST_LINES], drawn.lines[MOST_LINES:]
        lines = [_plain_line(name, [line]) for name, line in zip(_line_names(kept), kept, strict=True)]
        return [*lines, _plain_line(f"{len(rest)} other devices", rest)] if rest else lines
    hosts = {line.host for line in drawn.lines}
    groups: dict[str, list[Line]] = {}
    for line in drawn.lines:
        kind = KIND_WORDS[line.device.kind]
        groups.setdefault(line.host if 1 < len(hosts) <= MOST_LINES else kind, []).append(line)
    return [_plain_line(cut(f"{name} ({len(group)} devices)", 80), group) for name, group in groups.items()]


def _plain_line(name: str, group: Sequence[Line]) -> Plain:
    """Devices as one line; a gap where one of them lacks, which would look like less power."""
    powers: list[float | None] = []
    for i in range(len(group[0].power_w)):
        known = [power for line in group if (power := line.power_w[i]) is not None]
        powers.append(sum(known) if known and not any(line.lacks[i] for line in group) else None)
    bases = ", ".join(dict.fromkeys(MEASURED_WORDS[line.device.basis] for line in group))
    return {"name": name, "basis": bases, "w": [_n(power) for power in powers]}


def _line_names(lines: Sequence[Line]) -> list[str]:
    """What the lines are called: by the devices' names, with as much of an id as tells two of one name apart."""
    hosts = {line.host for line in lines}
    names = [line.device.name or line.device.id for line in lines]
    found = []
    for line, name in zip(lines, names, strict=True):
        ident = line.device.id
        if names.count(name) > 1 and name != ident:
            name = f"{name} ({ident if len(ident) <= SHORT_ID else f'{ident[:SHORT_ID]}...'})"
        found.append(cut(f"{line.host}: {name}" if len(hosts) > 1 else name, 80))
    return found


def _used(report: RunReport, drawn: Series, parts: Sequence[Part], points: int) -> Plain:
    """Energy and CO2eq up to each instant, and what was predicted meanwhile."""

    def columns(sums: Sequence[Sum]) -> Plain:
        return {name: [_n(getattr(one, name)) for one in sums] for name in Sum._fields}

    predictions, why = _predictions(parts, points)
    uses = "; ".join(dict.fromkeys(use.source for use in report.intensity_sources))
    return {
        "t": _times(drawn.instants_s),
        "energy": columns(drawn.energy_kwh),
        "co2eq": columns(drawn.co2eq_g),
        "predictions": predictions,
        "energy_note": f"Energy of the devices x PUE {report.pue.value:g} ({cut(report.pue.source)}); "
        f"{shares_words(report)}. The band is the 90 % range. {why}",
        "co2eq_note": f"Estimated: energy x intensity of its time. Sources of the intensity: {cut(uses, 400)}. "
        f"The band is the 90 % range. {why}",
    }


def _predictions(parts: Sequence[Part], points: int) -> tuple[Plain | None, str]:
    """What the whole run was predicted to use, as it was foreseen at the time, and a word on it."""
    by_process = {part.view.process.ident: part.view.process.outlooks.predictions for part in parts}
    whole = ({one.at_s: one for one in sorted(made, key=lambda one: one.at_s)} for made in by_process.values() if made)
    told = sorted((list(made.values()) for made in whole), key=lambda made: made[0].at_s)
    if not told:
        return None, "No prediction stands in the journal: no number of epochs was declared, or it is an older one."
    if any(a[-1].at_s >= b[0].at_s for a, b in itertools.pairwise(told)):
        return None, f"{len(told)} processes predicted their own parts of the run: these are not drawn."
    made = list(itertools.chain(*told))  # of a run that was resumed, one after the other
    step = -(-len(made) // points)
    made = [*made[:-1:step], made[-1]]
    columns: Plain = {"t": [round(one.at_s, 3) for one in made]}
    for name, field in (("energy", "energy_kwh"), ("co2eq", "co2eq_g")):
        for end in Sum._fields:
            ranges = [getattr(one, field) for one in made]
            columns[f"{name}_{end}"] = [None if found is None else _n(getattr(found, end)) for found in ranges]
    seen = [one.seen for one in made]
    return columns, (
        f"Predictions of the whole run are drawn as they were made, after {min(seen)} to {max(seen)} of "
        f"{made[-1].epochs} epochs, with their 90 % range."
    )


def _intensity(report: RunReport, parts: Sequence[Part], points: int) -> Plain | None:
    found = intensities(parts, points)
    if not found:
        return None
    zones = []
    for zone, steps in list(found.items())[:MOST_ZONES]:
        average = table.average(zone)
        zones.append(
            {
                "zone": cut(zone, 40),
                "t": [*_times([step[0] for step in steps]), round(steps[-1][1], 3)],
                "g": [_n(value.g_per_kwh) for _, _, value in steps],
                "low": [_n(value.low_g_per_kwh) for _, _, value in steps],
                "high": [_n(value.high_g_per_kwh) for _, _, value in steps],
                "quality": [value.quality.rank for _, _, value in steps],
                "average": {"g": average.g_per_kwh, "name": f"yearly average of {average.zone}, {average.source}"},
            }
        )
    ahead = next((part.view.process.outlooks.ahead for part in parts if part.view.process.outlooks.ahead), None)
    uses = [
        f"{numbers.percent(use.share)} of the energy: "
        f"{intensity_words(use.quality, use.zone, use.kind, use.factor_basis)}: {use.source}"
        for use in report.intensity_sources
    ]
    more = "" if len(found) <= MOST_ZONES else f" {len(found) - MOST_ZONES} more zones are not drawn."
    return {
        "zones": zones,
        "qualities": [QUALITY_WORDS[quality.value] for quality in Quality],
        "ahead": None
        if ahead is None
        else {
            "t": [*(round(at_s) for at_s, _ in ahead.steps), round(ahead.until_s)],
            "g": [_n(g) for _, g in ahead.steps],
            "name": f"forecast at the start, {cut(ahead.source, 80)}",
        },
        "note": f"gCO2eq/kWh. {cut('. '.join(uses), 900)}. The band is the 90 % range of each value.{more}",
    }


def _epochs(report: RunReport) -> Plain | None:
    whole = [epoch for epoch in report.epochs if not epoch.is_partial]
    if not whole or numbers.is_nothing(report):
        return None
    each = -(-len(whole) // MOST_BARS)
    groups = [whole[n : n + each] for n in range(0, len(whole), each)]

    def means(name: str) -> list[float | None]:
        return [_n(sum(getattr(epoch, name) for epoch in group) / len(group)) for group in groups]

    names = {"energy": "energy_kwh", "low": "energy_kwh_low", "high": "energy_kwh_high", "co2eq": "co2eq_g"}
    left = report.epochs_total - len(whole)
    rest = f" {left} partial or older ones are left out." if left else ""
    bars = f" Each bar is the mean of {each} epochs." if each > 1 else ""
    return {
        "index": [group[0].index for group in groups],
        **{key: means(name) for key, name in names.items()},
        "duration": means("duration_s"),
        "vouched": [int(all(epoch.coverage >= VOUCHED for epoch in group)) for group in groups],
        "note": f"Energy of {len(whole):,} complete epochs with PUE {report.pue.value:g}; {shares_words(report)}."
        f"{bars}{rest}",
    }


def _shares(report: RunReport) -> Plain | None:
    counted = [device for device in report.devices if device.counted]
    whole = sum(device.it_energy_kwh for device in counted)
    if whole <= 0.0:
        return None
    groups: dict[tuple[str, str], float] = {}
    for device in counted:
        key = (KIND_WORDS[device.kind], MEASURED_WORDS[device.basis])
        groups[key] = groups.get(key, 0.0) + device.it_energy_kwh
    rows = [
        {"name": kind, "basis": basis, "share": _n(kwh / whole), "text": numbers.energy(kwh),
         "percent": numbers.percent(kwh / whole)}
        for (kind, basis), kwh in sorted(groups.items(), key=lambda group: -group[1])
    ]  # fmt: skip
    missing = f" Not measured: {', '.join(report.scope.missing)}." if report.scope.missing else ""
    note = (
        f"Of {numbers.energy(whole)} of the IT devices. The facility around them is in no share: PUE "
        f"{report.pue.value:g} adds {numbers.percent(report.pue.value - 1.0)} ({cut(report.pue.source)}).{missing}"
    )
    return {"rows": rows, "note": note}


def _spans(report: RunReport, parts: Sequence[Part], points: int) -> Plain | None:
    if not report.spans:
        return None
    drawn = span_series(parts, min(points, 300))
    found = span_rows(report)
    if drawn is not None:
        found["t"] = _times(drawn.instants_s)
        found["lines"] = [
            {"name": cut(name, 80), "w": [_n(w) for w in powers]} for name, powers in drawn.power_w.items()
        ]
        found["note"] += " The curves are means between the journal's records of spans, five minutes apart."
    else:
        found["note"] += (
            " They are not drawn over time: a journal has a record of them each five minutes, and here are too few, or "
            "those of several processes."
        )
    return found


def _methods(report: RunReport, parts: Sequence[Part]) -> Plain | None:
    found = methods(report, parts)
    if len(found) < 2:
        return None
    rows = []
    for method in found:
        text, ends = numbers.co2eq_range(method.co2eq_g, method.low_g, method.high_g)
        rows.append(
            {"name": method.name, "g": _n(method.co2eq_g), "low": _n(method.low_g), "high": _n(method.high_g),
             "text": text, "ends": ends, "source": cut(method.source, 300), "note": cut(method.note, 300)}
        )  # fmt: skip
    note = (
        "The same energy hour by hour under each intensity (as figure 4 of arXiv:2007.03051). Sources with direct and "
        "with life-cycle factors count different things."
    )
    if len(found) == 2:
        note += " No forecast stands in the journal."
    return {"rows": rows, "note": note}


def _places(report: RunReport) -> Plain | None:
    """What the page multiplies by each country's yearly average; None where the run used nothing."""
    if report.it_energy_kwh <= 0.0:
        return None
    pue = report.pue.value
    note = (
        f"{numbers.energy(report.it_energy_kwh)} of the devices x PUE {pue:g} x the yearly average of each country "
        "(Ember via Our World in Data, life-cycle factors, year as in the table). The line is the 90 % range. Drawn: "
        "the countries of figure 2 of arXiv:2007.03051, and where it ran."
    )
    ends = (report.it_energy_kwh, report.it_energy_kwh_low, report.it_energy_kwh_high)
    return {"kwh": [_n(kwh * pue, 7) for kwh in ends], "here": report.location.country, "note": note}
