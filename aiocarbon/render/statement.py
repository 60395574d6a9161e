"""The statement of a work's energy and CO2eq: the facts that a paper or a model card states, and what they rest on.

Wording and facts follow Anthony, Kanding, Selvan 2020 (arXiv:2007.03051), section 5 and the sentence that their tool
prints: energy, CO2eq, an equivalent, the tool. Beside these it says which part was measured and which estimated. Here
they are facts and sentences; `statement_forms.py` puts them into Markdown and LaTeX.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aiocarbon._core.intensity import Location
from aiocarbon._core.reading import Basis, Part
from aiocarbon._core.report import Equivalent, IntensityUse, Quantities, RunReport, _plain
from aiocarbon._core.sci import Sci
from aiocarbon._core.units import M_PER_KM
from aiocarbon.render import numbers
from aiocarbon.render.escape import one_line
from aiocarbon.render.text import OURS, intensity_words, places_of

__all__ = ["Statement", "statement", "statement_text"]

SCHEMA: Final = "aiocarbon.statement/1"

CAR: Final = "eu_new_car_2024"
"""Row of `data/equivalents.csv` that is told unless another factor is given: the newest of the reference tool's."""

HOW: Final = {
    Basis.COUNTER: "measured by energy counters",
    Basis.POWER: "measured by power sensors",
    Basis.MODEL: "estimated by models",
    Basis.ASSUMED: "assumed",
}

MADE_UP: Final = ("simulated", "replayed")
"""How the note of a device begins that is not there (`meters/simulated.py`)."""

SEVERAL: Final = 4
"""So many names stand in a sentence; of more, the first and how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who says a number that was not measured.

    Attributes:
        value: The number: a PUE.
        source: Who says so.
    """

    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Who measured.

    Attributes:
        name: "aiocarbon", or the tool whose logs were imported.
        version: Of it; empty where a log does not say.
        runs: How many of the runs.
    """

    name: str
    version: str
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What can be stated of some runs.

    Attributes:
        schema: Version of this form.
        text: It in words.
        runs: How many.
        runs_not_ended: How many of them did not end by themselves, or go on.
        names: What they were called, each once, shortened.
        started_at: UTC of the first one's begin.
        ended_at: UTC of the last one's end.
        total: Their quantities, each joule once.
        intensity_g_per_kwh: CO2eq over energy; None where no energy was used.
        equivalent: The CO2eq told as something people know; None if nothing fits.
        tools: Who measured.
        hardware: The devices that count, by name.
        made_up_share: Share of the devices' energy that is of simulated or replayed ones: nothing of it was measured.
        locations: Where, and how that is known.
        pue: The PUEs, with their sources.
        intensity_sources: The intensities, with their share of the energy.
        measured: Parts of the machines that were measured.
        modelled: Those that were estimated.
        missing: Those that are in no figure, of at least one run.
        sci: The operational part of the SCI, if a functional unit was chosen.
    """

    schema: str = SCHEMA
    text: str = ""
    runs: int
    runs_not_ended: int
    names: tuple[str, ...]
    started_at: datetime
    ended_at: datetime
    total: Quantities
    intensity_g_per_kwh: float | None
    equivalent: Equivalent | None
    tools: tuple[Tool, ...]
    hardware: tuple[str, ...]
    made_up_share: float
    locations: tuple[str, ...]
    pue: tuple[Source, ...]
    intensity_sources: tuple[IntensityUse, ...]
    measured: tuple[str, ...]
    modelled: tuple[str, ...]
    missing: tuple[str, ...]
    sci: Sci | None = None

    def to_dict(self) -> dict[str, Any]:
        """It as plain JSON values."""
        plain: dict[str, Any] = _plain(self)
        return plain


def statement(
    runs: Sequence[RunReport], total: Quantities, *, sci: Sci | None = None, g_per_km: float | None = None
) -> Statement:
    """What can be stated of runs.

    Args:
        runs: At least one.
        total: Their sum, each joule once: as `aiocarbon.journal.load` gives it.
        sci: The operational part of the SCI; None: none is stated.
        g_per_km: What a car emits, gCO2eq/km; None: an average new car of the EU, 2024.

    Raises:
        ValueError: There is no run.
    """
    if not runs:
        raise ValueError("a statement needs a run")
    facts = Statement(
        runs=len(runs),
        runs_not_ended=sum(not (run.is_final and run.ended_well) for run in runs),
        names=_some(one_line(run.name, 60) for run in runs if run.name),
        started_at=min(run.started_at for run in runs),
        ended_at=max(run.ended_at for run in runs),
        total=total,
        intensity_g_per_kwh=total.co2eq_g / total.energy_kwh if total.energy_kwh > 0.0 else None,
        equivalent=None if numbers.is_nothing(total) else _equivalent(runs, total.co2eq_g, g_per_km),
        tools=_tools(runs),
        hardware=_some(_hardware(runs)),
        made_up_share=_made_up(runs),
        locations=_some(_location(place) for run in runs for place in places_of(run)),
        pue=tuple(Source(value=v, source=s) for v, s in dict.fromkeys((r.pue.value, r.pue.source) for r in runs)),
        intensity_sources=_intensities(runs),
        measured=_parts(run.scope.measured for run in runs),
        modelled=_parts(run.scope.modelled for run in runs),
        missing=_parts(run.scope.missing for run in runs),
        sci=None if numbers.is_nothing(total) else sci,
    )
    values = {name: getattr(facts, name) for name in facts.__slots__}
    return Statement(**(values | {"text": " ".join((*headline(facts), *rests_on(facts)))}))


def statement_text(facts: Statement) -> str:
    """The statement as paragraphs of text, without a line break at the end."""
    return "\n\n".join(filter(None, (" ".join(headline(facts)), " ".join(rests_on(facts)), sci_text(facts))))


# -- sentences ---------------------------------------------------------------------------------------------------------


def headline(facts: Statement) -> Iterator[str]:
    """Energy, CO2eq, equivalent and tool, as the paper has them."""
    total = facts.total
    if numbers.is_nothing(total):
        yield "Nothing was measured of the training of models in this work: no energy and no CO2eq can be stated."
        return
    energy, ends = numbers.energy_range(total.energy_kwh, total.energy_kwh_low, total.energy_kwh_high)
    mass, mass_ends = numbers.co2eq_range(total.co2eq_g, total.co2eq_g_low, total.co2eq_g_high)
    yield (
        f"The training of models in this work is estimated to use {energy} of electricity (90 % range {ends}) "
        f"contributing to {mass} of CO2eq ({mass_ends})."
    )
    if facts.equivalent is not None:
        yield f"This is equivalent to {equivalent_words(facts.equivalent, total)}."
    yield f"Measured by {joined([tool_words(tool, facts.runs) for tool in facts.tools])}."


def rests_on(facts: Statement) -> Iterator[str]:
    """What was measured and what was estimated, as sentences."""
    total = facts.total
    if numbers.is_nothing(total):
        return
    it, it_ends = numbers.energy_range(total.it_energy_kwh, total.it_energy_kwh_low, total.it_energy_kwh_high)
    yield f"The devices themselves used {it} (90 % range {it_ends}): {basis_words(total)}."
    if facts.made_up_share > 0.0:
        yield f"NOT MEASURED: {numbers.percent(facts.made_up_share)} of that is of simulated or replayed devices."
    yield f"Readings vouch for {numbers.percent(total.coverage)} of the time."
    pues = joined([f"{pue.value:g} ({one_line(pue.source)})" for pue in facts.pue])
    yield f"The facility's part is estimated with a PUE of {pues}."
    if facts.intensity_sources:
        mean = facts.intensity_g_per_kwh
        mean_text = "" if mean is None or len(facts.intensity_sources) == 1 else f"{numbers.rounded(mean)} g/kWh: "
        yield f"CO2eq is estimated from energy and carbon intensity, {mean_text}{joined(list(intensity_texts(facts)))}."
    if facts.missing:
        yield f"Not in these figures: {joined(list(missing_words(facts)))}."
    if facts.runs_not_ended:
        whose = f"{facts.runs_not_ended} of the {facts.runs} runs" if facts.runs > 1 else "The run"
        yield f"{whose} did not end by {'themselves' if facts.runs_not_ended > 1 else 'itself'}."


def missing_words(facts: Statement) -> Iterator[str]:
    """Parts that nothing tells."""
    for part in facts.missing:
        yield f"{part} (of some runs)" if part in (*facts.measured, *facts.modelled) else part


def basis_words(total: Quantities) -> str:
    """Which share of the energy was measured, modelled and assumed."""
    shares = [(basis, total.basis_shares.get(basis, 0.0)) for basis in Basis]
    told = [f"{numbers.percent(share)} {HOW[basis]}" for basis, share in shares if share > 0.0]
    return joined(told) or "nothing was measured"


def intensity_texts(facts: Statement) -> Iterator[str]:
    """Each intensity with its share and source; those that weigh most."""
    uses = sorted(facts.intensity_sources, key=lambda use: -use.share)
    for use in uses[:SEVERAL]:
        share = f"{numbers.percent(min(use.share, 1.0))} of the energy at " if len(uses) > 1 else ""
        words = intensity_words(use.quality, one_line(use.zone), use.kind, use.factor_basis)
        yield f"{share}{numbers.rounded(use.g_per_kwh)} g/kWh ({words}; {one_line(use.source)})"
    if len(uses) > SEVERAL:
        yield f"{len(uses) - SEVERAL} more"


def equivalent_words(item: Equivalent, total: Quantities) -> str:
    """An amount of what people know, with as many digits as the CO2eq supports."""
    amount, unit = item.amount, item.unit
    if unit.startswith("km ") and amount < 1.0:
        amount, unit = amount * M_PER_KM, unit.removeprefix("k")
    digits = numbers.supported_digits(total.co2eq_g, total.co2eq_g_low, total.co2eq_g_high)
    of = f"{item.g_per_unit:g} g/{item.unit.split()[0]}{f', {item.year}' if item.year else ''}"
    return f"{numbers.rounded(amount, digits)} {unit} ({of})"


def tool_words(tool: Tool, runs: int) -> str:
    """A tool with its version; imported logs are called that."""
    name = one_line(f"{tool.name} {tool.version}".strip())
    of = f"{tool.runs} of {runs} runs" if tool.runs < runs else ""
    if tool.name != OURS:
        of = f"logs of {of}, imported" if of else "its logs, imported"
    return f"{name} ({of})" if of else name


def sci_text(facts: Statement) -> str:
    """The SCI with its terms on one line; empty where none was asked for."""
    sci = facts.sci
    if sci is None:
        return ""
    value, ends = numbers.co2eq_range(
        sci.operational_g_per_unit, sci.operational_g_per_unit_low, sci.operational_g_per_unit_high
    )
    e, o = numbers.energy(sci.energy_kwh, 4), numbers.co2eq(sci.operational_g, 4)
    i = "unknown" if sci.intensity_g_per_kwh is None else f"{numbers.rounded(sci.intensity_g_per_kwh, 4)} g/kWh"
    r = f"{sci.units:,.10g} {one_line(sci.unit, 60)}"
    return (
        f"Software Carbon Intensity (ISO/IEC 21031), operational part: {value} of CO2eq per {one_line(sci.unit, 60)} "
        f"(90 % range {ends}). O / R = E x I / R, with E = {e} (PUE included), I = {i} (location-based), O = {o}, "
        f"R = {r}. Embodied emissions (M) are not known and not counted."
    )


# -- facts -------------------------------------------------------------------------------------------------------------


def _equivalent(runs: Sequence[RunReport], co2eq_g: float, g_per_km: float | None) -> Equivalent | None:
    if not math.isfinite(co2eq_g) or co2eq_g < 0.0:
        return None
    if g_per_km is not None:
        amount = co2eq_g / g_per_km
        return Equivalent(
            id="given", amount=amount, unit="km travelled by car", g_per_unit=g_per_km, year=None, source="given"
        )
    # The factors are those of a report: their table is not for a renderer to read.
    known = {item.id: item for run in runs for item in run.equivalents}
    item = known.get(CAR) or next(iter(known.values()), None)
    if item is None:
        return None
    return Equivalent(
        id=item.id,
        amount=co2eq_g / item.g_per_unit,
        unit=item.unit,
        g_per_unit=item.g_per_unit,
        year=item.year,
        source=item.source,
    )


def _tools(runs: Sequence[RunReport]) -> tuple[Tool, ...]:
    counts: dict[tuple[str, str], int] = {}
    for run in runs:
        counts[run.tool, run.version] = counts.get((run.tool, run.version), 0) + 1
    return tuple(Tool(name=name, version=version, runs=many) for (name, version), many in counts.items())


def _hardware(runs: Sequence[RunReport]) -> Iterator[str]:
    """Names of the devices that count, with how many of them a run has at most."""
    most: dict[str, int] = {}
    for run in runs:
        here: dict[str, int] = {}
        for device in run.devices:
            if device.counted:
                name = one_line(device.name or device.id, 60)
                here[name] = here.get(name, 0) + 1
        for name, many in here.items():
            most[name] = max(most.get(name, 0), many)
    yield from (f"{many} x {name}" if many > 1 else name for name, many in most.items())


def _made_up(runs: Sequence[RunReport]) -> float:
    counted = [device for run in runs for device in run.devices if device.counted]
    whole = math.fsum(device.it_energy_kwh for device in counted)
    made_up = math.fsum(device.it_energy_kwh for device in counted if device.note.startswith(MADE_UP))
    return min(made_up / whole, 1.0) if whole > 0.0 else 0.0


def _location(place: Location) -> str:
    if place.country == "WORLD":
        return "not known"
    cloud = f", {one_line(place.region, 60)}" if place.region else ""
    return f"{one_line(place.name, 60)} ({one_line(place.zone, 20)}{cloud})" + (", a guess" if place.is_guess else "")


def _intensities(runs: Sequence[RunReport]) -> tuple[IntensityUse, ...]:
    """The intensities of all runs, each source once, weighed by energy with PUE; by time where nothing was used."""
    weights = [run.energy_kwh for run in runs]
    if math.fsum(weights) <= 0.0:
        weights = [run.duration_s for run in runs]
    whole = math.fsum(weights) or 1.0
    sums: dict[tuple[str, ...], list[float]] = {}
    for run, weight in zip(runs, weights, strict=True):
        for use in run.intensity_sources:
            key = (use.source, use.zone, use.quality, use.kind, use.factor_basis)
            found = sums.setdefault(key, [0.0, 0.0, use.g_per_kwh])
            found[0] += use.share * weight
            found[1] += use.share * weight * use.g_per_kwh
    return tuple(
        IntensityUse(
            source=source,
            zone=zone,
            quality=quality,
            kind=kind,
            factor_basis=basis,
            g_per_kwh=weighed / share if share > 0.0 else alone,
            share=share / whole,
        )
        for (source, zone, quality, kind, basis), (share, weighed, alone) in sums.items()
    )


def _parts(told: Any) -> tuple[str, ...]:
    names = {name for names in told for name in names}
    return tuple(part.value for part in Part if part.value in names)


def _some(told: Any) -> tuple[str, ...]:
    """Each text once."""
    return tuple(dict.fromkeys(told))


def joined(texts: Sequence[str]) -> str:
    """Texts as part of a sentence: all of a few, of many the first and how many more there are."""
    if len(texts) > SEVERAL + 1:
        texts = [*texts[:SEVERAL], f"{len(texts) - SEVERAL} more"]
    comma = "; " if any("," in text for text in texts) else ", "
    return texts[0] if len(texts) == 1 else f"{comma.join(texts[:-1])} and {texts[-1]}" if texts else ""
