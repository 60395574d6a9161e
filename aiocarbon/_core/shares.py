"""What a user gets of spans: frozen reports by name, what no span owns, and where each device's energy went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aiocarbon._core.attribution import Attribution
from aiocarbon._core.quantiles import Quantiles
from aiocarbon._core.spans import MAX_NAME, OTHER_NAMES, Names, Policy, Sums
from aiocarbon._core.streams import Idle
from aiocarbon._core.supply import QUANTUM, DeviceSums
from aiocarbon._core.units import S_PER_NS, kwh_from_j

READINGS_THAT_RESOLVE = 2
"""A span shorter than so many readings is interpolated between them: its energy is that of its neighbourhood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanPart:
    """Energy and CO2eq of a part.

    Attributes:
        it_energy_kwh: What the meters say, kWh.
        energy_kwh: `it_energy_kwh` x PUE.
        co2eq_g: Grams of CO2 equivalent, PUE counted.
    """

    it_energy_kwh: float
    energy_kwh: float
    co2eq_g: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanReport(SpanPart):
    """All spans of one name: own, exclusive figures; all names and what is unattributed add up to the whole.

    Attributes:
        name: The name.
        count: How many spans, the open ones too.
        open: How many of them are open: in the sums they count up to now.
        duration_s: Sum of their lengths, seconds; spans that run at once count each.
        duration_s_mean: Of the closed ones; None while there is none, likewise the following.
        duration_s_p50: Median.
        duration_s_p95: 95 % of them were shorter.
        it_energy_j_mean: Own joules of a closed span.
        it_energy_j_p50: Median.
        it_energy_j_p95: 95 % of them used less.
        quantile_error: The most by which a median or p95 may differ from a true value at its rank, as a share of it.
        with_children: Inclusive figures: with those of the spans inside. They do not add up over names.
        below_resolution: True where the median span is shorter than two readings: energies of single spans are then
            those of their neighbourhood, and only their sum tells something.
    """

    name: str
    count: int
    open: int
    duration_s: float
    duration_s_mean: float | None
    duration_s_p50: float | None
    duration_s_p95: float | None
    it_energy_j_mean: float | None
    it_energy_j_p50: float | None
    it_energy_j_p95: float | None
    quantile_error: float
    with_children: SpanPart
    below_resolution: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unattributed(SpanPart):
    """What no span owns, the idle floor included.

    Attributes:
        idle: The part of it that is idle floor.
    """

    idle: SpanPart


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceShares:
    """Where one device's energy and CO2eq went: the three parts make `it_energy_j` and `co2eq_g`.

    Attributes:
        id: The device.
        it_energy_j: Measured, joules.
        idle_j: Idle floor that no span shares.
        spans_j: Owned by spans.
        unattributed_j: Neither.
        co2eq_g: Grams, PUE counted.
        idle_g: Of the idle floor.
        spans_g: Of what spans own.
        unattributed_g: Neither.
        idle_floor_w: The floor, watts; None where it is not known, and 0 was taken.
    """

    id: str
    it_energy_j: float
    idle_j: float
    spans_j: float
    unattributed_j: float
    co2eq_g: float
    idle_g: float
    spans_g: float
    unattributed_g: float
    idle_floor_w: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionReport:
    """Spans and what no span owns: together they are all that was measured up to `as_of_ns`.

    Attributes:
        policy: How what is above the idle floor was split: "even", "weight", "device" or "cpu".
        idle: What became of the floor: "kept_apart" or "shared".
        as_of_ns: Monotonic instant up to which energy is split.
        spans: One entry a name, in the order in which they came.
        unattributed: What no span owns.
        devices: Each device's parts.
        resolution_s: Mean distance of the readings, weighed by energy; None before any.
        notes: What a reader must know.
    """

    policy: str
    idle: str
    as_of_ns: int
    spans: tuple[SpanReport, ...]
    unattributed: Unattributed
    devices: tuple[DeviceShares, ...]
    resolution_s: float | None
    notes: tuple[str, ...]


def attribution_report(attribution: Attribution, now_ns: int, *, pue: float = 1.0) -> AttributionReport:
    """The report of an attribution; costs a look at each open span and each name.

    Args:
        attribution: Of which; nothing in it changes but what waits to be folded.
        now_ns: Up to when open spans' lengths count, monotonic; their energy counts up to where it is settled.
        pue: By which `it_energy_kwh` is multiplied; CO2eq was told with it.
    """
    open_of: dict[Names, list[int]] = {}
    for span in attribution.open_spans():
        count = open_of.setdefault(span.path.own, [0, 0])
        count[0] += 1
        count[1] += max(now_ns - span.begin, 0)
    resolution_s = attribution.supplied.resolution_s
    sums = attribution.book.sums(attribution.still())
    spans = tuple(
        _span_report(name, own, inclusive, open_of.get(name, [0, 0]), resolution_s, pue)
        for name, (own, inclusive) in sums.items()
    )
    devices = attribution.supplied.devices.values()
    owned = Sums(sum(own.energy for own, _ in sums.values()), sum(own.co2eq for own, _ in sums.values()))
    idle = Sums(sum(d.idle for d in devices), sum(d.idle_co2eq for d in devices))
    rest = Sums(sum(d.energy for d in devices) - owned.energy, sum(d.co2eq for d in devices) - owned.co2eq)
    return AttributionReport(
        policy=attribution.policy.value,
        idle=attribution.idle.value,
        as_of_ns=attribution.settled_ns,
        spans=spans,
        unattributed=Unattributed(**_part(rest, pue), idle=SpanPart(**_part(idle, pue))),
        devices=tuple(_device_shares(d, attribution.supplied.floor.floor_w(d.id)) for d in devices),
        resolution_s=resolution_s,
        notes=tuple(_notes(attribution)),
    )


def _part(sums: Sums, pue: float) -> dict[str, float]:
    it_energy_kwh = kwh_from_j(sums.energy * QUANTUM)
    return {"it_energy_kwh": it_energy_kwh, "energy_kwh": it_energy_kwh * pue, "co2eq_g": sums.co2eq * QUANTUM}


def _span_report(
    name: Names, own: Sums, inclusive: Sums, still: list[int], resolution_s: float | None, pue: float
) -> SpanReport:
    durations, energies = name.durations, name.energies
    median = durations.quantile(0.5)
    shortest = (resolution_s or 0.0) * READINGS_THAT_RESOLVE
    return SpanReport(
        **_part(own, pue),
        name=name.name,
        count=durations.count + still[0],
        open=still[0],
        duration_s=(name.length_ns + still[1]) * S_PER_NS,
        duration_s_mean=durations.mean,
        duration_s_p50=median,
        duration_s_p95=durations.quantile(0.95),
        it_energy_j_mean=energies.mean,
        it_energy_j_p50=energies.quantile(0.5),
        it_energy_j_p95=energies.quantile(0.95),
        quantile_error=max(_error(durations), _error(energies)),
        with_children=SpanPart(**_part(inclusive, pue)),
        below_resolution=median is not None and median < shortest,
    )


def _error(of: Quantiles) -> float:
    return of.error if of.count else 0.0


def _device_shares(sums: DeviceSums, floor_w: float | None) -> DeviceShares:
    return DeviceShares(
        id=sums.id,
        it_energy_j=sums.energy * QUANTUM,
        idle_j=sums.idle * QUANTUM,
        spans_j=sums.spans * QUANTUM,
        unattributed_j=(sums.energy - sums.idle - sums.spans) * QUANTUM,
        co2eq_g=sums.co2eq * QUANTUM,
        idle_g=sums.idle_co2eq * QUANTUM,
        spans_g=sums.spans_co2eq * QUANTUM,
        unattributed_g=(sums.co2eq - sums.idle_co2eq - sums.spans_co2eq) * QUANTUM,
        idle_floor_w=floor_w,
    )


def _notes(attribution: Attribution) -> Iterator[str]:
    told, book, supplied = attribution.told, attribution.book, attribution.supplied
    if attribution.policy is Policy.WEIGHT and told.unweighted and not told.weighted:
        yield 'attribution="weight", but no span told a weight: split evenly; give one by span(name, weight=...)'
    elif told.unweighted and told.weighted:
        yield f"{told.unweighted} spans told no weight when they opened: they weighed 1 until they did"
    if told.refused:
        yield f"{told.refused} weights or amounts could not be used; 1 was taken for weights"
    if told.outlived:
        yield f"{told.outlived} spans were still open at the end: they count up to it"
    if told.strays or told.repeated:
        yield f"{told.strays + told.repeated} edges were of spans that were not open or were open already: ignored"
    if told.orphans:
        yield f"{told.orphans} spans opened in a span that was not open (any more): they stand for themselves"
    if told.late:
        yield f"{told.late} edges came after their time was settled: those spans' energy is cut there"
    if supplied.late_j > 0.0:
        yield f"{supplied.late_j:.6g} J came after their time was settled: they are unattributed"
    if book.cut:
        yield f"names longer than {MAX_NAME} characters were cut"
    if book.folded:
        yield f'there were more than {len(book.names) - 1} names: {book.folded} spans are in "{OTHER_NAMES}"'
    if book.unpathed:
        yield f"there were too many ways of nesting: {book.unpathed} spans count for no span around them"
    unknown = [ident for ident in told.bound if ident not in supplied.devices]
    if unknown:
        yield f"spans are bound to devices that told no energy, and got none: {', '.join(sorted(unknown)[:5])}"
    if told.unbound:
        yield f"spans were bound to more than {len(told.bound)} devices: {told.unbound} count as bound to none"
    unfloored = [ident for ident in supplied.devices if supplied.floor.floor_w(ident) is None]
    if unfloored and attribution.idle is Idle.APART:
        yield f"the idle floor is not known (no 5 s without a span), 0 W was taken: {', '.join(unfloored[:5])}"
