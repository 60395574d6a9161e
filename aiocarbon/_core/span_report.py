"""What a user gets of spans: frozen reports by name and by child, and what no span owns; together they make the run."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiocarbon._core.body import Child, Stint
from aiocarbon._core.ledger import Cut
from aiocarbon._core.report import EpochReport, Quantities, RunReport, quantities
from aiocarbon._core.shares import Account, DeviceShares, NameShare, OwnerShare, TagsShare
from aiocarbon._core.units import j_from_kwh, kwh_from_j


@dataclass(frozen=True, slots=True, kw_only=True)
class TagsReport(Quantities):
    """The spans of a name that had one set of tags: their own figures.

    Attributes:
        tags: Value by key.
        count: How many spans, the open ones too.
    """

    tags: dict[str, str]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanReport(Quantities):
    """All spans of one name: own, exclusive figures, which with those of all names and `unattributed` make the run.

    Energy and CO2eq are shares by the run's policy; their ranges are those of the run's meters and intensities, as a
    share of the figure; they know nothing of how right the policy is, nor of what a power that changes between two
    readings takes from one name and gives to another. `duration_s` is the sum of the spans' lengths,
    `power_w` the mean of one span; `coverage` and `basis` are the run's.

    Attributes:
        name: The name.
        count: How many spans, the open ones too.
        open: How many of them are open: in the figures they count up to `attribution.as_of`.
        duration_s_mean: Of the closed ones, seconds; None while there is none, likewise the following.
        duration_s_p50: Median.
        duration_s_p95: 95 % of them were shorter.
        it_energy_j_mean: Own IT energy of a closed span, joules.
        it_energy_j_p50: Median.
        it_energy_j_p95: 95 % of them used less.
        quantile_error: The most by which a median or p95 may differ from a true value at its rank, as a share of it.
        below_resolution: True where the median span is shorter than two readings: energies of single spans are then
            those of their neighbourhood, and only their sum tells something.
        with_children: Inclusive figures: with those of the spans inside. They do not add up over names.
        by_tags: The spans that had tags, by these.
    """

    name: str
    count: int
    open: int
    duration_s_mean: float | None
    duration_s_p50: float | None
    duration_s_p95: float | None
    it_energy_j_mean: float | None
    it_energy_j_p50: float | None
    it_energy_j_p95: float | None
    quantile_error: float
    below_resolution: bool
    with_children: Quantities
    by_tags: tuple[TagsReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unattributed(Quantities):
    """What no span owns.

    Attributes:
        idle: The part of it that is the devices' idle floor; None where no floor is known.
    """

    idle: Quantities | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildReport(Quantities):
    """One child of the tracker: the energy of its spans.

    Attributes:
        name: The child's.
        count: How many spans it opened, and those inside them.
        steps: Steps it told.
        epochs: Its last epochs: what its spans used in them.
        epochs_total: How many there were.
    """

    name: str
    count: int
    steps: int
    epochs: tuple[EpochReport, ...]
    epochs_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSplit:
    """Where one device's energy went, kWh of IT energy; the three parts make it.

    Attributes:
        id: The device.
        idle_it_energy_kwh: Idle floor that no span shares.
        spans_it_energy_kwh: Owned by spans.
        rest_it_energy_kwh: Neither.
        idle_floor_w: The floor, watts; None where it is not known, and 0 was taken.
    """

    id: str
    idle_it_energy_kwh: float
    spans_it_energy_kwh: float
    rest_it_energy_kwh: float
    idle_floor_w: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributionReport:
    """How the energy was split among spans.

    Attributes:
        policy: How what is above the idle floor was split: "even", "weight", "device" or "cpu".
        idle: What became of the floor: "kept_apart" or "shared".
        as_of: UTC of the instant up to which energy is split; what was used since is unattributed.
        resolution_s: Mean distance of the readings, weighed by energy; None before any.
        co2eq_factor: Shares of CO2eq were split with the intensities known then, and are multiplied by this for what
            was learnt of them since.
        devices: Each counted device's parts.
    """

    policy: str
    idle: str
    as_of: datetime
    resolution_s: float | None
    co2eq_factor: float
    devices: tuple[DeviceSplit, ...]


class Portions:
    """Makes quantities of joules and grams that are a part of a run, with the run's ranges as shares of the figure.

    Args:
        whole: The fields of the run's quantities.
        pue: Power usage effectiveness.
    """

    def __init__(self, whole: dict[str, Any], pue: float) -> None:
        self._whole = whole
        self._pue = pue
        self._energy = [_shares_of(self._whole, "it_energy_kwh", end) for end in ("low", "high")]
        self._carbon = [_shares_of(self._whole, "co2eq_g", end) for end in ("low", "high")]

    def of(self, energy_j: float, co2eq_g: float, duration_s: float) -> dict[str, Any]:
        """The fields of `Quantities` of a part."""
        it_energy_kwh = kwh_from_j(energy_j)
        low, high = (it_energy_kwh * share for share in self._energy)
        return {
            "duration_s": duration_s,
            "it_energy_kwh": it_energy_kwh,
            "it_energy_kwh_low": low,
            "it_energy_kwh_high": high,
            "energy_kwh": it_energy_kwh * self._pue,
            "energy_kwh_low": low * self._pue,
            "energy_kwh_high": high * self._pue,
            "co2eq_g": co2eq_g,
            "co2eq_g_low": co2eq_g * self._carbon[0],
            "co2eq_g_high": co2eq_g * self._carbon[1],
            "power_w": energy_j / duration_s if duration_s > 0.0 else None,
            **{name: self._whole[name] for name in ("coverage", "basis", "basis_shares")},
        }


def _shares_of(whole: dict[str, Any], field: str, end: str) -> float:
    central: float = whole[field]
    return whole[f"{field}_{end}"] / central if central > 0.0 else 1.0


def span_fields(
    whole: dict[str, Any], pue: float, as_of: datetime, account: Account | None, told: tuple[Child, ...]
) -> dict[str, Any]:
    """The fields of a run's report that tell of spans and children.

    Args:
        whole: The fields of the run's quantities.
        pue: Its PUE.
        as_of: Up to when its energy is split.
        account: What became of it; None where there was no span.
        told: Its children.
    """
    portions = Portions(whole, pue)
    if account is not None and account.shares.co2eq_g > 0.0:
        # Where an intensity was corrected downwards since, the parts are still not more than the whole.
        known = min(account.co2eq_factor, whole["co2eq_g"] / account.shares.co2eq_g)
        account = dataclasses.replace(account, co2eq_factor=known)
    owners = {} if account is None else {owner.name: owner for owner in account.shares.owners}
    factor = 1.0 if account is None else account.co2eq_factor
    children = tuple(_child_report(child, portions, owners.get(child.name), factor) for child in told)
    if account is None:
        unattributed = Unattributed(**whole, idle=None)
        return {"spans": (), "unattributed": unattributed, "attribution": None, "children": children}
    shares, factor = account.shares, account.co2eq_factor
    spans = tuple(_span_report(share, portions, factor) for share in shares.spans)
    # What is left of the run, so that the parts make it whatever a rounding did.
    rest_j = max(j_from_kwh(whole["it_energy_kwh"]) - math.fsum(share.energy_j for share in shares.spans), 0.0)
    rest_g = max(whole["co2eq_g"] - math.fsum(span.co2eq_g for span in spans), 0.0)
    has_floor = any(device.idle_floor_w is not None for device in shares.devices)
    duration_s = whole["duration_s"]
    idle = portions.of(shares.idle.energy_j, shares.idle.co2eq_g * factor, duration_s)
    return {
        "spans": spans,
        "unattributed": Unattributed(
            **portions.of(rest_j, rest_g, duration_s), idle=Quantities(**idle) if has_floor else None
        ),
        "attribution": AttributionReport(
            policy=shares.policy.value,
            idle=shares.idle_policy.value,
            as_of=as_of,
            resolution_s=shares.resolution_s,
            co2eq_factor=factor,
            devices=tuple(map(_device_split, shares.devices)),
        ),
        "children": children,
    }


def _child_report(child: Child, portions: Portions, owned: OwnerShare | None, factor: float) -> ChildReport:
    sums = (0.0, 0.0, 0.0) if owned is None else (owned.energy_j, owned.co2eq_g * factor, owned.duration_s)
    return ChildReport(
        **portions.of(*sums),
        name=child.name,
        count=0 if owned is None else owned.count,
        steps=child.steps,
        epochs=tuple(_epoch_report(stint, portions, factor) for stint in child.stints),
        epochs_total=child.total,
    )


def _epoch_report(stint: Stint, portions: Portions, factor: float) -> EpochReport:
    told = portions.of(stint.energy_j, stint.co2eq_g * factor, stint.duration_s)
    if not stint.is_final:
        told["coverage"] = 0.0  # nothing vouches for these figures yet
    return EpochReport(
        **told,
        index=stint.index,
        devices=(),
        steps=stint.steps,
        is_partial=stint.is_partial,
        is_final=stint.is_final,
    )


def stint_report(stint: Stint, run: Cut, pue: float, account: Account | None) -> EpochReport:
    """An epoch of a child of a run that goes on.

    Args:
        stint: The epoch.
        run: The run's newest figures, whose ranges and basis are its own.
        pue: The run's PUE.
        account: The run's newest account.
    """
    return _epoch_report(stint, Portions(quantities(run, pue), pue), 1.0 if account is None else account.co2eq_factor)


def unknown_child(name: str, run: RunReport) -> ChildReport:
    """A child of which a run's newest report does not know yet."""
    return _child_report(Child(name=name, steps=0, stints=(), total=0), _portions_of(run), None, 1.0)


def _portions_of(run: RunReport) -> Portions:
    whole = {field.name: getattr(run, field.name) for field in dataclasses.fields(Quantities)}
    return Portions(whole, run.pue.value)


def _span_report(share: NameShare, portions: Portions, factor: float) -> SpanReport:
    durations, energies = share.durations_s, share.energies_j
    return SpanReport(
        **portions.of(share.energy_j, share.co2eq_g * factor, share.duration_s),
        name=share.name,
        count=share.count,
        open=share.open,
        duration_s_mean=durations.mean,
        duration_s_p50=durations.p50,
        duration_s_p95=durations.p95,
        it_energy_j_mean=energies.mean,
        it_energy_j_p50=energies.p50,
        it_energy_j_p95=energies.p95,
        quantile_error=max(durations.error, energies.error),
        below_resolution=share.below_resolution,
        with_children=Quantities(
            **portions.of(share.inclusive.energy_j, share.inclusive.co2eq_g * factor, share.duration_s)
        ),
        by_tags=tuple(_tags_report(tags, portions, factor) for tags in share.by_tags),
    )


def _tags_report(share: TagsShare, portions: Portions, factor: float) -> TagsReport:
    return TagsReport(
        **portions.of(share.energy_j, share.co2eq_g * factor, share.duration_s),
        tags=dict(share.tags),
        count=share.count,
    )


def _device_split(device: DeviceShares) -> DeviceSplit:
    return DeviceSplit(
        id=device.id,
        idle_it_energy_kwh=kwh_from_j(device.idle.energy_j),
        spans_it_energy_kwh=kwh_from_j(device.spans.energy_j),
        rest_it_energy_kwh=kwh_from_j(device.unattributed.energy_j),
        idle_floor_w=device.idle_floor_w,
    )


def span_notes(account: Account | None, told: tuple[Child, ...]) -> tuple[str, ...]:
    """What a reader of a run's shares must know."""
    spanless = {child.name for child in told}
    notes: list[str] = []
    if account is not None:
        spanless -= {owner.name for owner in account.shares.owners}
        notes += account.shares.notes
        if account.dropped:
            notes.append(f"{account.dropped} spans came faster than they could be counted: they are in no figure")
    if spanless:
        names = ", ".join(sorted(spanless)[:5])
        notes.append(f"a child has the energy of its spans; these opened none: {names}")
    return tuple(notes)
