"""`aiocarbon when`: the start, or the blocks, of least emission within a window, and what that saves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.clean import Block, Plan, Range
from aiocarbon._core.profile import Filler
from aiocarbon._core.units import S_PER_MIN
from aiocarbon._version import __version__
from aiocarbon.cli.asking import ask_engine
from aiocarbon.cli.clean_options import WhenOptions
from aiocarbon.cli.intensity_cmd import place_dict, told_dict, told_lines, utc_text, value_dict
from aiocarbon.cli.output import deliver
from aiocarbon.cli.width import WIDTH, columns
from aiocarbon.render import numbers
from aiocarbon.render.labelled import labelled
from aiocarbon.render.plot import can_show_blocks, clock_time, plot, zone_names
from aiocarbon.render.text import location_words

if TYPE_CHECKING:
    from aiocarbon._engine.engine import Engine
    from aiocarbon._engine.hours import Hours

__all__ = ["text_lines", "to_dict", "when"]

SCHEMA: Final = "aiocarbon.when/1"
LIMIT_S: Final = 5.0
PATIENCE_S: Final = 15.0
"""Beyond the limit: for the past of the sources, and for starting the engine on a busy machine."""

INDENT: Final = "  "
SAME: Final = 0.005
"""A difference by less than half a percent is told as none."""


def when(options: WhenOptions, *, json_file: str | None = None) -> int:
    """Ask, plan and tell; on stdout, or as JSON in a file.

    Args:
        options: What was asked for.
        json_file: File for all of it as JSON, "-" for stdout; None: none.

    Returns:
        0, or 1 if it could not be written.

    Raises:
        ConfigError: A value of the environment or of pyproject.toml is not accepted.
        EngineError: The engine could not begin, or does not answer.
    """
    hours = _looked_ahead(options)
    plan = hours.plan(options.duration_s, blocks=options.blocks, least_s=options.least_s, power_w=options.power_w)

    def text() -> str:
        blocks = can_show_blocks(getattr(sys.stdout, "encoding", None))
        return "\n".join(text_lines(hours, plan, options, width=columns(sys.stdout), blocks=blocks))

    return deliver(json_file, lambda: to_dict(hours, plan, options), text)


def _looked_ahead(options: WhenOptions) -> Hours:
    from aiocarbon._engine.hours import Outlooker
    from aiocarbon.settings import resolve

    settings = resolve(options.settings)

    async def verb(engine: Engine) -> Hours:
        exchange = engine.exchange(is_offline=settings.offline)
        ahead = Outlooker(exchange, settings, options.settings, limit_s=LIMIT_S)
        return await ahead.look(ahead_s=options.within_s)

    return ask_engine(verb, LIMIT_S + PATIENCE_S)


# -- as text -----------------------------------------------------------------------------------------------------


def text_lines(
    hours: Hours, plan: Plan, options: WhenOptions, *, width: int | None, blocks: bool, tz: tzinfo | None = None
) -> Iterator[str]:
    """All of it as text.

    Args:
        hours: What is known of the hours ahead.
        plan: When to run.
        options: What was asked for.
        width: Columns that may be filled; None where no terminal breaks lines: the plot then has 72.
        blocks: False for a plot in ASCII.
        tz: Zone of the times; None for the system's.
    """
    now_s = plan.now_s
    yield f"aiocarbon: {_heading(hours, plan, options, tz)}"
    span = f"{numbers.duration(plan.duration_s)} within {numbers.duration(options.within_s)}"
    drawn = "" if options.power_w is None else f", {numbers.power(options.power_w)}"
    yield from labelled("work", f"{span}, done by {clock_time(now_s + options.within_s, now_s, tz)}{drawn}", width)
    yield from labelled("now", f"{_amounts(plan, plan.now.g_per_kwh)} if it began at once", width)
    if not _is_at_once(plan):
        many = "best" if len(plan.blocks) == 1 else "best blocks"
        for i, block in enumerate(plan.blocks):
            yield from labelled("" if i else many, _block(block, plan, tz), width)
        if len(plan.blocks) > 1:
            yield from labelled("", f"in all: {_amounts(plan, plan.g_per_kwh)}", width)
        if plan.grid_s is not None:
            yield from labelled("", f"the best of all on a grid of {plan.grid_s / S_PER_MIN:.3g} min", width)
        yield from labelled("saves", _saved(plan, plan.saved_g_per_kwh, plan.saved_share, "than now"), width)
    if plan.until_s - now_s > plan.duration_s + 1.0 and hours.found.told:
        against = f"than the mean up to {clock_time(plan.until_s, now_s, tz)}"
        saved = _saved(plan, plan.saved_of_mean_g_per_kwh, plan.saved_of_mean_share, against)
        yield from labelled("saves" if _is_at_once(plan) else "", saved, width)
    if plan.energy_kwh is not None:
        pue = hours.found.pue
        yield from labelled("energy", f"{numbers.energy(plan.energy_kwh)} with PUE {pue.value:g} ({pue.source})", width)
    yield from labelled("location", location_words(hours.found.location), width)
    for i, note in enumerate(_notes(hours, plan, tz)):
        yield from labelled("" if i else "known", note, width)
    yield f"intensity, gCO2eq/kWh by local time ({zone_names(now_s, hours.until_s, tz)}); ^ marks the work"
    steps = [(max(at, now_s), to, value.g_per_kwh) for at, to, value in hours.steps]
    marks = [(block.begins_s, block.ends_s) for block in plan.blocks]
    yield from (f"{INDENT}{line}" for line in plot(
        steps, now_s, hours.until_s, width=(width or WIDTH) - len(INDENT), tz=tz, blocks=blocks, marks=marks
    ))  # fmt: skip
    if not hours.is_known and hours.found.told:
        yield "sources"
        yield from told_lines(hours.found.told, hours.found.now_s, width, tz)


def _heading(hours: Hours, plan: Plan, options: WhenOptions, tz: tzinfo | None) -> str:
    if _is_at_once(plan):
        if not hours.is_known:
            return "begin now: nobody says what the intensity will be"
        if not hours.found.told:
            return "begin now: the intensity was given as a number"
        if hours.filler is Filler.AVERAGE and hours.known_until_s < plan.now_s + plan.duration_s:
            return "begin now: the forecast is shorter than the work"
        return f"begin now: no later start within {numbers.duration(options.within_s)} is cleaner"
    share = plan.saved_share
    than = "all at once" if plan.is_now else "now"
    less = "" if share is None else f": {share.central * 100.0:.0f} % less CO2eq than {than}"
    at = clock_time(plan.begins_s, plan.now_s, tz)
    begin = "begin now" if plan.is_now else f"begin at {at}, {numbers.duration(plan.begins_s - plan.now_s)} from now"
    return f"{begin}{f', in {len(plan.blocks)} blocks' if len(plan.blocks) > 1 else ''}{less}"


def _is_at_once(plan: Plan) -> bool:
    """True if nothing is better than all of the work now."""
    return plan.is_now and len(plan.blocks) == 1


def _block(block: Block, plan: Plan, tz: tzinfo | None) -> str:
    until = clock_time(block.ends_s, block.begins_s, tz)
    span = f"{clock_time(block.begins_s, plan.now_s, tz)} to {until}"
    if len(plan.blocks) == 1:
        return f"{span}: {_amounts(plan, block.g_per_kwh)}"
    return f"{span}: {_grams(block.g_per_kwh)}"


def _grams(of: Range) -> str:
    central, low, high = (numbers.rounded(g, 3) for g in of)
    return f"{central} gCO2eq/kWh" + (f" ({low} to {high})" if low != high else "")


def _amounts(plan: Plan, of: Range) -> str:
    """A mean intensity and, where the power is known, what the work emits at it."""
    grams = plan.co2eq_g(of)
    if grams is None:
        return _grams(of)
    return f"{numbers.rounded(of.central, 3)} gCO2eq/kWh, {_mass(grams)}"


def _saved(plan: Plan, of: Range, share: Range | None, against: str) -> str:
    """What is saved against something, with its range, which may reach below 0: then it costs."""
    if share is None or abs(share.central) < SAME:
        return f"nothing: as much {against.replace('than', 'as', 1)}"
    word, sign = ("less", 1.0) if share.central > 0.0 else ("MORE", -1.0)
    low, high = sorted(sign * end * 100.0 for end in (share.low, share.high))
    percent = f"{abs(share.central) * 100.0:.0f} % {word}"
    ends = f" ({low:.0f} to {high:.0f} %)" if share.low != share.high else ""
    grams = plan.co2eq_g(of)
    if grams is None:
        return f"{percent}{ends} {against}"
    low, high = sorted((sign * grams.low, sign * grams.high))
    return f"{percent}{ends} {against}: {_mass(Range(sign * grams.central, low, high))}"


def _mass(of: Range) -> str:
    """Grams of CO2eq with their range."""
    told, ends = numbers.co2eq_range(*of)
    return f"{told} CO2eq" + (f" ({ends})" if of.low != of.high else "")


def _notes(hours: Hours, plan: Plan, tz: tzinfo | None) -> Iterator[str]:
    """What the plan rests on."""
    now_s, found = plan.now_s, hours.found
    if not found.told:
        yield (
            "the intensity was given as a number" if found.now.source == "given by the user" else "no source covers it"
        )
    until = clock_time(hours.known_until_s, now_s, tz)
    says = ", ".join(dict.fromkeys(value.source for _, to, value in hours.steps if to <= hours.known_until_s))
    if hours.known_until_s > now_s and found.told:
        whole = "" if hours.filler is not Filler.NOTHING else ", which is all of the window"
        yield f"{says or hours.steps[0][2].source} until {until}{whole}"
    if hours.filler is Filler.PROFILE:
        of = f"the last {hours.days} days" if hours.days > 1 else "the last day"
        yield f"beyond, what was measured at the same time of day in {of}"
    if hours.filler is Filler.AVERAGE:
        average = f"the yearly average ({hours.steps[-1][2].source}), which has no clean hours"
        if hours.known_until_s <= now_s:
            yield f"nothing ahead: {average}"
        elif hours.known_until_s < now_s + plan.duration_s:
            yield f"beyond, {average}; the forecast is shorter than the work, so it begins now"
        else:
            yield f"beyond, {average}: the work is planned into what is known"
    if hours.is_mixed(plan.until_s):
        yield "parts of it count differently (factors, average or marginal): their border may be none of the grid"


# -- as JSON -----------------------------------------------------------------------------------------------------


def to_dict(hours: Hours, plan: Plan, options: WhenOptions) -> dict[str, Any]:
    """All of it as plain values; times are UTC, ISO 8601."""
    found = hours.found
    return {
        "schema": SCHEMA,
        "version": __version__,
        "at": utc_text(plan.now_s),
        "location": place_dict(found),
        "pue": {"value": found.pue.value, "source": found.pue.source},
        "duration_s": plan.duration_s,
        "within_s": options.within_s,
        "power_w": options.power_w,
        "energy_kwh": plan.energy_kwh,
        "begins_at": utc_text(plan.begins_s),
        "ends_at": utc_text(plan.blocks[-1].ends_s),
        "is_now": plan.is_now,
        "blocks": [_block_dict(block) for block in plan.blocks],
        "grid_s": plan.grid_s,
        "planned_until": utc_text(plan.until_s),
        **_amounts_dict(plan, plan.g_per_kwh),
        "now": {**_block_dict(plan.now), **_amounts_dict(plan, plan.now.g_per_kwh)},
        "window": _block_dict(plan.window),
        "saved": _saved_dict(plan, plan.saved_g_per_kwh, plan.saved_share),
        "saved_of_window_mean": _saved_dict(plan, plan.saved_of_mean_g_per_kwh, plan.saved_of_mean_share),
        "intensity_now": value_dict(hours.now),
        "known_until": utc_text(hours.known_until_s),
        "beyond": hours.filler.value,
        "profile_days": hours.days,
        "is_mixed": hours.is_mixed(plan.until_s),
        "curve": [
            {
                "from": utc_text(at),
                "to": utc_text(to),
                "g_per_kwh": value.g_per_kwh,
                "g_per_kwh_low": value.low_g_per_kwh,
                "g_per_kwh_high": value.high_g_per_kwh,
                "source": value.source,
                "quality": value.quality.value,
                "note": value.note,
            }
            for at, to, value in hours.steps
        ],
        "sources": [told_dict(told) for told in found.told],
    }


def _amounts_dict(plan: Plan, of: Range) -> dict[str, Any]:
    grams = plan.co2eq_g(of) or (None, None, None)
    return {
        **dict(zip(("g_per_kwh", "g_per_kwh_low", "g_per_kwh_high"), of, strict=True)),
        **dict(zip(("co2eq_g", "co2eq_g_low", "co2eq_g_high"), grams, strict=True)),
    }


def _block_dict(block: Block) -> dict[str, Any]:
    """A block; what the work emits in it is not told, since only all blocks together are the work."""
    g_per_kwh = dict(zip(("g_per_kwh", "g_per_kwh_low", "g_per_kwh_high"), block.g_per_kwh, strict=True))
    return {"begins_at": utc_text(block.begins_s), "ends_at": utc_text(block.ends_s), **g_per_kwh}


def _saved_dict(plan: Plan, of: Range, share: Range | None) -> dict[str, Any]:
    shares = share or (None, None, None)
    return {**_amounts_dict(plan, of), **dict(zip(("share", "share_low", "share_high"), shares, strict=True))}
