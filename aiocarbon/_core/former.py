"""A run that goes on: what its earlier tries measured, and its report with what the present one measures added.

The two share no instant, so all sums add. The time between them belongs to nobody: it is told as a pause, and no energy
is counted in it. Ranges add linearly, as errors of gain, model and intensity do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from aiocarbon._core.intensity import Pue
from aiocarbon._core.ledger import weakest
from aiocarbon._core.locations import Locations
from aiocarbon._core.nodes import Attempt
from aiocarbon._core.reading import Basis
from aiocarbon._core.report import (
    DeviceReport,
    EpochReport,
    Equivalent,
    IntensityUse,
    Quantities,
    RunReport,
)
from aiocarbon._core.scope_report import Scope
from aiocarbon._core.span_report import ChildReport, SpanReport, TagsReport, Unattributed
from aiocarbon._core.units import j_from_kwh

__all__ = ["Former", "Unfinished", "added", "continued"]

SUMS = tuple(f"{name}{end}" for name in ("it_energy_kwh", "energy_kwh", "co2eq_g") for end in ("", "_low", "_high"))
SCOPE_SUMS = tuple(f"{whose}_it_energy_kwh" for whose in ("own", "idle", "others", "unknown", "machine"))

KEPT_EPOCHS = 1000
"""Of each child."""

EARLIER = "of an earlier try: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What tries that did not end well did after their last epochs, on their way to the next.

    Attributes:
        upto: Number of that epoch.
        used: What they used; it is part of what their report tells as outside.
    """

    upto: int
    used: Quantities


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """What earlier tries of a run measured.

    Attributes:
        run: Their report.
        is_open: True if a journal of the newest has no end.
        unfinished: What of it is rework once the run has the epochs that it was on its way to.
    """

    run: RunReport
    is_open: bool
    unfinished: tuple[Unfinished, ...] = ()


def added(*parts: Quantities) -> dict[str, Any]:
    """The fields of `Quantities` of windows that share no instant.

    Args:
        parts: At least one.
    """
    fields: dict[str, Any] = {name: math.fsum(getattr(part, name) for part in parts) for name in SUMS}
    duration = math.fsum(part.duration_s for part in parts)
    energy = fields["it_energy_kwh"]
    shares = parts[-1].basis_shares
    if energy > 0.0:
        shares = {
            basis: share
            for basis in Basis
            if (share := math.fsum(p.basis_shares.get(basis, 0.0) * p.it_energy_kwh for p in parts) / energy) > 0.0
        }
    covered = math.fsum(part.coverage * part.duration_s for part in parts)
    return {
        **fields,
        "duration_s": duration,
        "power_w": j_from_kwh(energy) / duration if duration > 0.0 else None,
        "coverage": covered / duration if duration > 0.0 else parts[-1].coverage,
        "basis": weakest(shares),
        "basis_shares": shares,
    }


def less(whole: Quantities, parts: Sequence[Quantities]) -> Quantities:
    """What is left of a window without parts of it, which share no instant."""
    if not parts:
        return whole
    away = added(*parts)
    energy = max(whole.it_energy_kwh - away["it_energy_kwh"], 0.0)
    duration = max(whole.duration_s - away["duration_s"], 0.0)
    fields = {name: max(getattr(whole, name) - away[name], 0.0) for name in SUMS}
    for name in ("it_energy_kwh", "energy_kwh", "co2eq_g"):  # the edges' errors do not add up linearly
        fields[f"{name}_low"] = min(fields[f"{name}_low"], fields[name])
        fields[f"{name}_high"] = max(fields[f"{name}_high"], fields[name])
    shares = whole.basis_shares
    if energy > 0.0:
        of_parts = away["basis_shares"]
        left = {
            basis: share * whole.it_energy_kwh - of_parts.get(basis, 0.0) * away["it_energy_kwh"]
            for basis, share in shares.items()
        }
        shares = {basis: min(joules / energy, 1.0) for basis, joules in left.items() if joules > 0.0} or shares
    covered = whole.coverage * whole.duration_s - away["coverage"] * away["duration_s"]
    return Quantities(
        **fields,
        duration_s=duration,
        power_w=j_from_kwh(energy) / duration if duration > 0.0 else None,
        coverage=min(max(covered / duration, 0.0), 1.0) if duration > 0.0 else whole.coverage,
        basis=weakest(shares),
        basis_shares=shares,
    )


def continued(former: Former, live: RunReport, first_epoch: int = 0) -> RunReport:
    """The whole run's report.

    Args:
        former: What was measured before.
        live: The report of the try that goes on, or has ended.
        first_epoch: Number of the epoch that this one began with.
    """
    run = former.run
    again = [one.used for one in former.unfinished if first_epoch <= one.upto < live.epochs_total]
    whole = added(run, live)
    epochs, redone = _epochs(run.epochs, live.epochs)
    rework = [part for part in (run.rework, *redone, *again) if part is not None]
    before_g = [run.co2eq_g_before, live.co2eq_g_before]
    paused = max((live.started_at - run.ended_at).total_seconds(), 0.0)
    return dataclasses.replace(
        live,
        **whole,
        started_at=run.started_at,
        name=live.name or run.name,
        host=live.host if live.host == run.host else f"{run.host}, {live.host}",
        paused_s=run.paused_s + paused,
        attempts=(*(run.attempts or (_attempt(run, former.is_open),)), _attempt(live, not live.is_final)),
        epochs=epochs,
        epochs_total=max(run.epochs_total, live.epochs_total),
        outside=Quantities(**added(less(run.outside, again), live.outside)),
        rework=Quantities(**added(*rework)) if rework else None,
        devices=_merged(run.devices, live.devices, lambda d: (d.host, d.id, d.counted), _device_adder(run, live)),
        scope=_scope(run.scope, live.scope),
        **_places(run, live),
        pue=_pue(run, live, whole),
        intensity_g_per_kwh=_mean_intensity(run, live, whole["energy_kwh"]),
        intensity_sources=_sources(run, live, whole["energy_kwh"]),
        co2eq_g_before=None
        if before_g == [None, None]
        else sum(part.co2eq_g if g is None else g for part, g in zip((run, live), before_g, strict=True)),
        equivalents=tuple(_equivalent(item, whole["co2eq_g"]) for item in live.equivalents or run.equivalents),
        spans=_merged(run.spans, live.spans, lambda span: span.name, _span),
        unattributed=_unattributed(run.unattributed, live.unattributed),
        attribution=live.attribution or run.attribution,
        children=_merged(run.children, live.children, lambda child: child.name, _child),
        warnings=(*live.warnings, *(EARLIER + text for text in run.warnings if text not in live.warnings)),
        overhead=run.overhead + live.overhead,
    )


def _attempt(run: RunReport, is_open: bool) -> Attempt:
    """A run of one try as that try."""
    return Attempt(
        started_at=run.started_at,
        ended_at=run.ended_at,
        hosts=tuple(filter(None, run.host.split(", "))),
        it_energy_kwh=run.it_energy_kwh,
        ended_well=run.ended_well,
        is_open=is_open,
    )


def _epochs(
    former: Sequence[EpochReport], live: Sequence[EpochReport]
) -> tuple[tuple[EpochReport, ...], list[EpochReport]]:
    """The epochs that count, and those that were done again: of two of one number the newest complete one counts."""
    found = {epoch.index: epoch for epoch in former}
    redone = []
    for epoch in live:
        other = found.get(epoch.index)
        if other is not None and epoch.is_partial and not other.is_partial:
            redone.append(epoch)
            continue
        if other is not None:
            redone.append(other)
        found[epoch.index] = epoch
    return tuple(found[index] for index in sorted(found)), redone


class _Part(Protocol):
    """Anything with energy."""

    @property
    def it_energy_kwh(self) -> float: ...


T = TypeVar("T", bound=_Part)


def _merged(
    former: Iterable[T], live: Iterable[T], key: Callable[[T], object], add: Callable[[T, T], T]
) -> tuple[T, ...]:
    found = {key(part): part for part in former}
    for part in live:
        found[key(part)] = add(found[key(part)], part) if key(part) in found else part
    return tuple(found.values())


def _device_adder(run: RunReport, live: RunReport) -> Callable[[DeviceReport, DeviceReport], DeviceReport]:
    """Adds a device's parts, over the time of both tries."""
    length = run.duration_s + live.duration_s

    def add(a: DeviceReport, b: DeviceReport) -> DeviceReport:
        names = ("it_energy_kwh", "it_energy_kwh_low", "it_energy_kwh_high")
        sums = {name: getattr(a, name) + getattr(b, name) for name in names}
        if length <= 0.0:
            return dataclasses.replace(b, **sums)
        return dataclasses.replace(
            b,
            **sums,
            power_w=j_from_kwh(sums["it_energy_kwh"]) / length,
            coverage=(a.coverage * run.duration_s + b.coverage * live.duration_s) / length,
        )

    return add


def _scope(a: Scope, b: Scope) -> Scope:
    measured, modelled, missing = (
        tuple(dict.fromkeys((*getattr(a, field), *getattr(b, field)))) for field in ("measured", "modelled", "missing")
    )
    sums = {
        name: getattr(a, name) + getattr(b, name)
        for name in SCOPE_SUMS
        if getattr(a, name) is not None and getattr(b, name) is not None
    }
    return dataclasses.replace(b, measured=measured, modelled=modelled, missing=missing, **sums)


def _pue(run: RunReport, live: RunReport, whole: dict[str, Any]) -> Pue:
    if run.pue == live.pue or run.it_energy_kwh <= 0.0:
        return live.pue
    told = "; ".join(f"{part.pue.value:g} {part.pue.source}" for part in (run, live))
    return Pue(value=whole["energy_kwh"] / whole["it_energy_kwh"], source=f"energy-weighted: {told}")


def _places(run: RunReport, live: RunReport) -> dict[str, Any]:
    found = Locations()
    for part in (run, live):
        for place in part.locations:
            found.add(place, j_from_kwh(place.it_energy_kwh))
        if not part.locations:
            found.add(part.location, j_from_kwh(part.it_energy_kwh))
    return found.fields()


def _mean_intensity(run: RunReport, live: RunReport, kwh: float) -> float:
    if kwh <= 0.0:
        return live.intensity_g_per_kwh
    return sum(part.intensity_g_per_kwh * part.energy_kwh for part in (run, live)) / kwh


def _sources(run: RunReport, live: RunReport, kwh: float) -> tuple[IntensityUse, ...]:
    """The sources of both, with their shares of the whole."""
    found: dict[tuple[str, ...], IntensityUse] = {}
    for part in (run, live):
        weight = part.energy_kwh / kwh if kwh > 0.0 else 0.5
        for use in part.intensity_sources:
            key = (use.source, use.zone, use.quality, use.kind, use.factor_basis)
            use = dataclasses.replace(use, share=use.share * weight)
            if (other := found.get(key)) is not None and (share := other.share + use.share) > 0.0:
                mean = (other.g_per_kwh * other.share + use.g_per_kwh * use.share) / share
                use = dataclasses.replace(use, share=share, g_per_kwh=mean)
            found[key] = use
    return tuple(found.values())


def _equivalent(item: Equivalent, co2eq_g: float) -> Equivalent:
    return dataclasses.replace(item, amount=co2eq_g / item.g_per_unit)


def _span(a: SpanReport, b: SpanReport) -> SpanReport:
    """Means are known of both; quantiles of two sets are not known from theirs."""
    return dataclasses.replace(
        b,
        **added(a, b),
        count=a.count + b.count,
        duration_s_mean=_mean(a, b, "duration_s_mean"),
        duration_s_p50=None,
        duration_s_p95=None,
        it_energy_j_mean=_mean(a, b, "it_energy_j_mean"),
        it_energy_j_p50=None,
        it_energy_j_p95=None,
        with_children=Quantities(**added(a.with_children, b.with_children)),
        by_tags=_merged(a.by_tags, b.by_tags, lambda tags: tuple(sorted(tags.tags.items())), _tags),
    )


def _mean(a: SpanReport, b: SpanReport, field: str) -> float | None:
    closed = [(part.count - part.open, getattr(part, field)) for part in (a, b)]
    told = [(n, mean) for n, mean in closed if mean is not None and n > 0]
    count = sum(n for n, _ in told)
    return sum(n * mean for n, mean in told) / count if count else None


def _tags(a: TagsReport, b: TagsReport) -> TagsReport:
    return dataclasses.replace(b, **added(a, b), count=a.count + b.count)


def _unattributed(a: Unattributed, b: Unattributed) -> Unattributed:
    idle = [part.idle for part in (a, b) if part.idle is not None]
    return Unattributed(**added(a, b), idle=Quantities(**added(*idle)) if idle else None)


def _child(a: ChildReport, b: ChildReport) -> ChildReport:
    return dataclasses.replace(
        b,
        **added(a, b),
        count=a.count + b.count,
        steps=a.steps + b.steps,
        epochs=(*a.epochs, *(dataclasses.replace(e, index=e.index + a.epochs_total) for e in b.epochs))[-KEPT_EPOCHS:],
        epochs_total=a.epochs_total + b.epochs_total,
    )
