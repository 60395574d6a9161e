"""What became of the energy, frozen: shares by name, what no span owns, and where each device's energy went.

In joules and grams as the attribution was told them; reports are made of them in `span_report`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass

from aiocarbon._core.attribution import Attribution
from aiocarbon._core.edges import MAX_NAME, Tags
from aiocarbon._core.policy import Idle, Policy
from aiocarbon._core.quantiles import Quantiles
from aiocarbon._core.spans import OTHER_NAMES, Names, Owner, Path, Still, Sums, TaggedPath
from aiocarbon._core.supply import QUANTUM, DeviceSums
from aiocarbon._core.units import S_PER_NS

STEP = 512
"""Open spans that are looked at in one step: half a millisecond."""

READINGS_THAT_RESOLVE = 2
"""A span shorter than so many readings is interpolated between them: its energy is that of its neighbourhood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the energy.

    Attributes:
        energy_j: IT energy, joules.
        co2eq_g: Grams, PUE counted.
    """

    energy_j: float
    co2eq_g: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TagsShare(Part):
    """The spans of a name that had one set of tags.

    Attributes:
        tags: Value by key.
        count: How many spans, the open ones too.
        duration_s: Sum of their lengths.
    """

    tags: Mapping[str, str]
    count: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How an amount varies over the closed spans of a name; None where none has closed.

    Attributes:
        mean: Mean.
        p50: Median.
        p95: 95 % are below.
        error: The most by which a median or p95 may differ from a true value at its rank, as a share of it.
    """

    mean: float | None
    p50: float | None
    p95: float | None
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NameShare(Part):
    """All spans of one name: own, exclusive figures; all names and what is unattributed add up to the whole.

    Attributes:
        name: The name.
        count: How many spans, the open ones too.
        open: How many of them are open: in the sums they count up to now.
        duration_s: Sum of their lengths, seconds; spans that run at once count each.
        durations_s: Spread of the lengths, seconds.
        energies_j: Spread of the own energies, joules.
        inclusive: With those of the spans inside. They do not add up over names.
        below_resolution: True where the median span is shorter than two readings: energies of single spans are then
            those of their neighbourhood, and only their sum tells something.
        by_tags: The spans that had tags, by these.
    """

    name: str
    count: int
    open: int
    duration_s: float
    durations_s: Spread
    energies_j: Spread
    inclusive: Part
    below_resolution: bool
    by_tags: tuple[TagsShare, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerShare(Part):
    """All spans of one owner: their own figures.

    Attributes:
        name: The owner's.
        count: How many spans, the open ones too.
        duration_s: Sum of their lengths.
    """

    name: str
    count: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceShares(Part):
    """Where one device's energy and CO2eq went: the three parts make `energy_j` and `co2eq_g`.

    Attributes:
        id: The device.
        idle: Idle floor that no span shares.
        spans: Owned by spans.
        unattributed: Neither.
        idle_floor_w: The floor, watts; None where it is not known, and 0 was taken.
    """

    id: str
    idle: Part
    spans: Part
    unattributed: Part
    idle_floor_w: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares(Part):
    """All that was measured up to `as_of_ns`: `spans` and what no span owns make it.

    Attributes:
        policy: How what is above the idle floor was split.
        idle_policy: What became of the floor.
        as_of_ns: Monotonic instant up to which energy is split.
        spans: One entry a name, in the order in which they came.
        unattributed: What no span owns, the idle floor included.
        idle: The part of it that is idle floor.
        devices: Each device's parts.
        owners: One entry an owner, in the order in which they came.
        resolution_s: Mean distance of the readings, weighed by energy; None before any.
        notes: What a reader must know.
    """

    policy: Policy
    idle_policy: Idle
    as_of_ns: int
    spans: tuple[NameShare, ...]
    unattributed: Part
    idle: Part
    devices: tuple[DeviceShares, ...]
    owners: tuple[OwnerShare, ...]
    resolution_s: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of the energy up to an instant.

    Attributes:
        shares: In joules, and in grams as they were known when the energy was split.
        co2eq_factor: By which those grams are multiplied: intensities of the past become known better, and what that
            changes is spread over all shares in proportion.
        dropped: Spans that are in no share, since they came faster than they could be counted.
    """

    shares: Shares
    co2eq_factor: float
    dropped: int


def shares_of(attribution: Attribution, now_ns: int) -> Shares:
    """The shares as of now; costs a look at each open span and each name.

    Args:
        attribution: Of which; nothing in it changes but what waits to be folded.
        now_ns: Up to when open spans' lengths count, monotonic; their energy counts up to where it is settled.
    """
    steps = steps_of(attribution, now_ns)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            made: Shares = done.value
            return made


def steps_of(attribution: Attribution, now_ns: int) -> Generator[None, None, Shares]:
    """As `shares_of`, in steps of a name or some open spans each; nothing may be settled in between."""
    still: defaultdict[Path, Still] = defaultdict(Still)
    still_of: defaultdict[Owner | None, Still] = defaultdict(Still)
    for i, span in enumerate(attribution.open_spans()):
        if not i % STEP:
            yield
        energy, co2eq = span.so_far()
        length_ns = max(now_ns - span.begin, 0)
        still[span.path].add(1, length_ns, energy, co2eq)
        if span.owner is not None:
            still_of[span.owner].add(1, length_ns, energy, co2eq)
    open_of: defaultdict[Names, Still] = defaultdict(Still)
    for path, those in still.items():
        open_of[path.own].add(those.count, those.length_ns, those.energy, those.co2eq)
    yield
    resolution_s = attribution.supplied.resolution_s
    sums = attribution.book.sums(still)
    tagged = attribution.book.tagged()
    yield
    spans = []
    for name, (own, inclusive) in sums.items():
        by_tags = tuple(_tags_share(tags, paths, still) for tags, paths in tagged.get(name, {}).items())
        spans.append(_name_share(name, own, inclusive, open_of[name], by_tags, resolution_s))
        yield
    devices = attribution.supplied.devices.values()
    owned = Sums(sum(own.energy for own, _ in sums.values()), sum(own.co2eq for own, _ in sums.values()))
    idle = Sums(sum(d.idle for d in devices), sum(d.idle_co2eq for d in devices))
    whole = Sums(sum(d.energy for d in devices), sum(d.co2eq for d in devices))
    return Shares(
        **_part(whole),
        policy=attribution.policy,
        idle_policy=attribution.idle,
        as_of_ns=attribution.settled_ns,
        spans=tuple(spans),
        unattributed=Part(**_part(Sums(whole.energy - owned.energy, whole.co2eq - owned.co2eq))),
        idle=Part(**_part(idle)),
        devices=tuple(_device_shares(d, attribution.supplied.floor.newest_w(d.id)) for d in devices),
        owners=tuple(
            OwnerShare(
                **_part(Sums(owner.energy + still_of[owner].energy, owner.co2eq + still_of[owner].co2eq)),
                name=name,
                count=owner.count + still_of[owner].count,
                duration_s=(owner.length_ns + still_of[owner].length_ns) * S_PER_NS,
            )
            for name, owner in attribution.owners.items()
        ),
        resolution_s=resolution_s,
        notes=tuple(notes_of(attribution)),
    )


def _part(sums: Sums) -> dict[str, float]:
    return {"energy_j": sums.energy * QUANTUM, "co2eq_g": sums.co2eq * QUANTUM}


def _name_share(
    name: Names, own: Sums, inclusive: Sums, still: Still, by_tags: tuple[TagsShare, ...], resolution_s: float | None
) -> NameShare:
    durations = _spread(name.durations)
    shortest = (resolution_s or 0.0) * READINGS_THAT_RESOLVE
    return NameShare(
        **_part(own),
        name=name.name,
        count=name.durations.count + still.count,
        open=still.count,
        duration_s=(name.length_ns + still.length_ns) * S_PER_NS,
        durations_s=durations,
        energies_j=_spread(name.energies),
        inclusive=Part(**_part(inclusive)),
        below_resolution=durations.p50 is not None and durations.p50 < shortest,
        by_tags=by_tags,
    )


def _tags_share(tags: Tags, paths: list[TaggedPath], still: Mapping[Path, Still]) -> TagsShare:
    parts: list[TaggedPath | Still] = [*paths, *(still[path] for path in paths if path in still)]
    return TagsShare(
        **_part(Sums(sum(part.energy for part in parts), sum(part.co2eq for part in parts))),
        tags=dict(tags),
        count=sum(part.count for part in parts),
        duration_s=sum(part.length_ns for part in parts) * S_PER_NS,
    )


def _spread(of: Quantiles) -> Spread:
    p50, p95 = of.quantiles((0.5, 0.95))
    return Spread(mean=of.mean, p50=p50, p95=p95, error=of.error if of.count else 0.0)


def _device_shares(sums: DeviceSums, floor_w: float | None) -> DeviceShares:
    rest = Sums(sums.energy - sums.idle - sums.spans, sums.co2eq - sums.idle_co2eq - sums.spans_co2eq)
    return DeviceShares(
        **_part(Sums(sums.energy, sums.co2eq)),
        id=sums.id,
        idle=Part(**_part(Sums(sums.idle, sums.idle_co2eq))),
        spans=Part(**_part(Sums(sums.spans, sums.spans_co2eq))),
        unattributed=Part(**_part(rest)),
        idle_floor_w=floor_w,
    )


def notes_of(attribution: Attribution) -> Iterator[str]:
    """What a reader of the shares must know."""
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
    if book.untagged:
        yield f"there were too many different tags: {book.untagged} spans count for their name, and for no tags"
    unknown = [ident for ident in told.bound if ident not in supplied.devices]
    if unknown:
        yield f"spans are bound to devices that told no energy, and got none: {', '.join(sorted(unknown)[:5])}"
    if told.unbound:
        yield f"spans were bound to more than {len(told.bound)} devices: {told.unbound} count as bound to none"
    unfloored = [ident for ident in supplied.devices if supplied.floor.newest_w(ident) is None]
    if unfloored and attribution.idle is Idle.APART:
        yield f"the idle floor is not known (no 5 s without a span), 0 W was taken: {', '.join(unfloored[:5])}"
