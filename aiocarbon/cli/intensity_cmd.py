"""`aiocarbon intensity`: what a run would use now, the hours ahead as a small plot, and what each source said."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._version import __version__
from aiocarbon.cli.asking import ask_engine
from aiocarbon.cli.output import deliver
from aiocarbon.cli.width import columns
from aiocarbon.render import numbers
from aiocarbon.render.labelled import labelled
from aiocarbon.render.plot import Step, can_show_blocks, cleanest, clock_time, plot, zone_names
from aiocarbon.render.text import QUALITY_WORDS, intensity_words, location_words

if TYPE_CHECKING:
    from aiocarbon._engine.engine import Engine
    from aiocarbon._engine.probe import Told
    from aiocarbon._engine.survey import Survey

__all__ = ["intensity", "place_dict", "told_dict", "told_lines", "utc_text", "value_dict"]

SCHEMA: Final = "aiocarbon.intensity/1"
LIMIT_S: Final = 5.0
PATIENCE_S: Final = 10.0
"""Beyond the limit, for starting the engine on a busy machine."""

WIDTH: Final = 72
"""Where no terminal says its own."""

INDENT: Final = "  "


def intensity(arguments: Mapping[str, Any], *, hours: float, json_file: str | None = None) -> int:
    """Ask and tell; on stdout, or as JSON in a file.

    Args:
        arguments: Settings that were given, checked.
        hours: How far ahead the forecast is wanted, above 0, at most 96.
        json_file: File for all of it as JSON, "-" for stdout; None: none.

    Returns:
        0, or 1 if it could not be written.

    Raises:
        ConfigError: A value of the environment or of pyproject.toml is not accepted.
        EngineError: The engine could not begin, or does not answer.
    """
    found = _surveyed(arguments, hours)

    def text() -> str:
        blocks = can_show_blocks(getattr(sys.stdout, "encoding", None))
        return "\n".join(text_lines(found, hours, width=columns(sys.stdout), blocks=blocks))

    return deliver(json_file, lambda: to_dict(found, hours), text)


def _surveyed(arguments: Mapping[str, Any], hours: float) -> Survey:
    from aiocarbon._engine.survey import survey
    from aiocarbon.settings import resolve

    settings = resolve(arguments)

    async def verb(engine: Engine) -> Survey:
        exchange = engine.exchange(is_offline=settings.offline)
        return await survey(exchange, settings, arguments, hours=hours, limit_s=LIMIT_S)

    return ask_engine(verb, LIMIT_S + PATIENCE_S)


# -- telling -----------------------------------------------------------------------------------------------------


def text_lines(
    found: Survey, hours: float, *, width: int | None, blocks: bool, tz: tzinfo | None = None
) -> Iterator[str]:
    """All of it as text.

    Args:
        found: What was found out.
        hours: How far ahead the forecast was wanted.
        width: Columns that may be filled; None where no terminal breaks lines: the plot then has 72.
        blocks: False for a plot in ASCII.
        tz: Zone of the times; None for the system's.
    """
    now, place = found.now, found.location
    yield f"aiocarbon: {_grams(now)} now in {place.name} ({place.zone})"
    rows = [("value", _value(now)), ("source", _source(now)), ("time", _age(now, found.now_s, tz))]
    rows += [("note", now.note), ("location", location_words(place))]
    if found.place_asked:
        rows.append(("", found.place_note))
    for label, text in rows:
        if text:
            yield from labelled(label, text, width)
    yield from _ahead_lines(found, hours, width, blocks, tz)
    yield "sources"
    if not found.told:
        is_given = found.now.quality is Quality.GIVEN
        yield f"{INDENT}none was asked: {'a number was given' if is_given else 'none covers this place'}"
    yield from told_lines(found.told, found.now_s, width, tz)


def _ahead_lines(found: Survey, hours: float, width: int | None, blocks: bool, tz: tzinfo | None) -> Iterator[str]:
    begin_s, end_s = found.now_s, found.now_s + hours * 3600.0
    ahead = f"the next {_span(hours)}"
    if why := why_no_forecast(found, hours):
        yield "forecast"
        yield from _hung(f"none for {ahead}: {why}", width)
        return
    steps = known_ahead(found)
    yield f"forecast: {ahead}, gCO2eq/kWh by local time ({zone_names(begin_s, end_s, tz)})"
    yield from (f"{INDENT}{line}" for line in plot(
        steps, begin_s, end_s, width=(WIDTH if width is None else width) - len(INDENT), tz=tz, blocks=blocks
    ))  # fmt: skip
    until_s = steps[-1][1]
    low, high = (numbers.rounded(pick(g for _, _, g in steps), 3) for pick in (min, max))
    reach = f", known until {clock_time(until_s, begin_s, tz)}" if until_s < end_s else ""
    yield from labelled("range", f"{low} to {high} gCO2eq/kWh{reach}", width)
    if best := cleanest(steps):
        at_s, mean = best
        less = _less(mean, found.now.g_per_kwh)
        when = f"{clock_time(at_s, begin_s, tz)} to {clock_time(at_s + 3600.0, at_s, tz)}"
        yield from labelled("cleanest", f"the hour from {when}: {numbers.rounded(mean, 3)} gCO2eq/kWh{less}", width)


def known_ahead(found: Survey) -> list[Step]:
    """The parts of the curve from now on of which a source says something."""
    return [
        (max(piece.from_s, found.now_s), piece.to_s, piece.value.g_per_kwh)
        for piece in found.curve
        if piece.to_s > found.now_s and piece.value.quality.is_told
    ]


def why_no_forecast(found: Survey, hours: float) -> str:
    """Why nothing is known of the time ahead; empty if something is."""
    if not found.told:
        return "the intensity was given as a number" if found.now.quality is Quality.GIVEN else "no source covers it"
    is_ahead = any(piece.from_s > found.now_s and piece.value.quality.is_told for piece in found.curve)
    is_forecast = any(piece.value.quality is Quality.FORECAST for piece in found.curve if piece.to_s > found.now_s)
    until_s = max((to_s for _, to_s, _ in known_ahead(found)), default=found.now_s)
    if is_ahead or is_forecast or until_s >= found.now_s + hours * 3600.0:
        return ""
    whys = [(told.title, told.forecast_why or told.why) for told in found.told if told.has_forecast]
    return "; ".join(f"{title}: {why}" for title, why in whys if why) or "no source that could be asked has one"


def told_lines(told: Iterable[Told], now_s: float, width: int | None = None, tz: tzinfo | None = None) -> Iterator[str]:
    """What sources said, one after the other."""
    for one in told:
        yield from _hung(_told(one, now_s, tz), width)
        if one.remedy:
            yield f"{2 * INDENT}to mend it:"
            yield f"{3 * INDENT}{one.remedy}"


def _told(told: Told, now_s: float, tz: tzinfo | None) -> str:
    """One source's state, latency and value."""
    if not told.zone:
        return f"{told.title}: {told.why or told.word}"
    state = told.word if told.latency_s is None else f"{told.word} in {numbers.latency(told.latency_s)}"
    parts = [f"{state}: {told.why}" if told.why else state]
    if told.value is not None:
        value = told.value
        of = "" if value.valid_from_s is None else f" of {clock_time(value.valid_from_s, now_s, tz)}"
        words = intensity_words(value.quality, value.zone, value.kind, value.factor_basis)
        last = "" if told.word in {"answered", "from the cache"} else "last known: "
        parts.append(f"{last}{_grams(value)}{of}, {words}")
    if told.forecast_until_s is not None:
        parts.append(f"forecast until {clock_time(told.forecast_until_s, now_s, tz)}")
    elif told.forecast_why and told.word in {"answered", "from the cache"}:
        parts.append(f"no forecast: {told.forecast_why}")
    return f"{told.title} ({told.zone}): {'; '.join(parts)}"


def _grams(value: IntensityValue) -> str:
    return f"{numbers.rounded(value.g_per_kwh, 4 if value.quality is Quality.GIVEN else 3)} gCO2eq/kWh"


def _value(value: IntensityValue) -> str:
    words = QUALITY_WORDS.get(value.quality, value.quality)
    if value.low_g_per_kwh == value.high_g_per_kwh:
        return words
    low, high = (numbers.rounded(g, 3) for g in (value.low_g_per_kwh, value.high_g_per_kwh))
    return f"{words}, 90 % range {low} to {high}"


def _source(value: IntensityValue) -> str:
    words = intensity_words(value.quality, value.zone, value.kind, value.factor_basis)
    # The quality stands above, with its range.
    rest = words.removeprefix(QUALITY_WORDS.get(value.quality, value.quality)).lstrip(", ")
    return f"{value.source}{f', {rest}' if rest else ''}"


def _age(value: IntensityValue, now_s: float, tz: tzinfo | None) -> str:
    """Of when a value is, and how old."""
    if value.valid_from_s is None:
        return ""
    of = f"of {clock_time(value.valid_from_s, now_s, tz)} local time, {_minutes(now_s - value.valid_from_s)} old"
    if value.valid_to_s is None:
        return of
    if value.valid_to_s > now_s:
        return f"{of}, valid until {clock_time(value.valid_to_s, now_s, tz)}"
    return f"{of}; it held until {clock_time(value.valid_to_s, now_s, tz)}, and nothing newer is known"


def _minutes(seconds: float) -> str:
    return f"{max(seconds, 0.0) / 60.0:.0f} min" if seconds < 5400.0 else numbers.duration(seconds)


def _less(mean: float, now: float) -> str:
    if now <= 0.0:
        return ""
    change = mean / now - 1.0
    if abs(change) < 0.01:
        return ", about as now"
    return f", {abs(change) * 100.0:.0f} % {'less' if change < 0.0 else 'MORE'} than now"


def _span(hours: float) -> str:
    return f"{hours:g} h" if hours >= 1.0 else f"{hours * 60.0:g} min"


def _hung(text: str, width: int | None) -> Iterator[str]:
    if width is None:
        yield INDENT + text
        return
    yield from textwrap.wrap(text, width, initial_indent=INDENT, subsequent_indent=3 * INDENT, break_on_hyphens=False)


# -- as JSON -----------------------------------------------------------------------------------------------------


def to_dict(found: Survey, hours: float) -> dict[str, Any]:
    """All of it as plain values; times are UTC, ISO 8601."""
    best = cleanest(known_ahead(found))
    return {
        "schema": SCHEMA,
        "version": __version__,
        "at": utc_text(found.now_s),
        "location": place_dict(found),
        "now": value_dict(found.now),
        "fallback": value_dict(found.fallback),
        "forecast_hours": hours,
        "no_forecast": why_no_forecast(found, hours),
        "cleanest_hour": None if best is None else {"from": utc_text(best[0]), "g_per_kwh": best[1]},
        "curve": [
            {
                "from": utc_text(piece.from_s),
                "to": utc_text(piece.to_s),
                "g_per_kwh": piece.value.g_per_kwh,
                "source": piece.value.source,
                "zone": piece.value.zone,
                "quality": piece.value.quality.value,
            }
            for piece in found.curve
        ],
        "sources": [told_dict(told) for told in found.told],
    }


def place_dict(found: Survey) -> dict[str, Any]:
    """Where, how that is known, and who was asked, as plain values."""
    place = found.location
    return {
        "zone": place.zone,
        "name": place.name,
        "how": place.how,
        "is_guess": place.is_guess,
        "region": place.region,
        "note": place.note,
        "asked": list(found.place_asked),
        "asked_note": found.place_note,
    }


def told_dict(told: Told) -> dict[str, Any]:
    """What one source said, as plain values."""
    return {
        "name": told.name,
        "title": told.title,
        "zone": told.zone,
        "state": told.word,
        "why": told.why,
        "remedy": told.remedy,
        "url": told.url,
        "latency_s": told.latency_s,
        "value": None if told.value is None else value_dict(told.value),
        "forecast_until": None if told.forecast_until_s is None else utc_text(told.forecast_until_s),
        "no_forecast": told.forecast_why,
    }


def value_dict(value: IntensityValue) -> dict[str, Any]:
    """A value with its origin, as plain values."""
    return {
        "g_per_kwh": value.g_per_kwh,
        "g_per_kwh_low": value.low_g_per_kwh,
        "g_per_kwh_high": value.high_g_per_kwh,
        "source": value.source,
        "zone": value.zone,
        "quality": value.quality.value,
        "kind": value.kind.value,
        "factor_basis": value.factor_basis.value,
        "valid_from": None if value.valid_from_s is None else utc_text(value.valid_from_s),
        "valid_to": None if value.valid_to_s is None else utc_text(value.valid_to_s),
        "note": value.note,
    }


def utc_text(at_s: float) -> str:
    """UTC seconds since 1970 as ISO 8601 text."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")
