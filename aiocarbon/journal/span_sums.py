"""Spans and children of several processes as one account: sums by name, machine by machine.

Each process split all that it measured among its own spans. Where several measured one machine, its joules count once,
so the shares of each are scaled to what all of them measured together: an even split among processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from aiocarbon._core.body import Child
from aiocarbon._core.ledger import Mark
from aiocarbon._core.shares import Account, NameShare, OwnerShare, Part, Shares, Spread, TagsShare
from aiocarbon._core.spans import MAX_NAMES, OTHER_NAMES
from aiocarbon.journal.machine import Machine
from aiocarbon.journal.view import View

UNKNOWN: Final = Spread(mean=None, p50=None, p95=None, error=0.0)
"""Of the spans of several processes: their quantiles cannot be told from those of each."""

Scale = tuple[float, float]
"""By which a process's joules and grams are multiplied."""


@dataclass(slots=True)
class _Sum:
    energy_j: float = 0.0
    co2eq_g: float = 0.0
    count: int = 0
    duration_s: float = 0.0

    def add(self, part: Part, count: int, duration_s: float, scale: Scale) -> None:
        self.energy_j += part.energy_j * scale[0]
        self.co2eq_g += part.co2eq_g * scale[1]
        self.count += count
        self.duration_s += duration_s


@dataclass(slots=True)
class _Name:
    share: NameShare
    own: _Sum = field(default_factory=_Sum)
    inner: _Sum = field(default_factory=_Sum)
    tags: dict[tuple[tuple[str, str], ...], _Sum] = field(default_factory=dict)
    open: int = 0
    tellers: int = 0

    def told(self, name: str) -> NameShare:
        is_one = self.tellers == 1
        return replace(
            self.share,
            name=name,
            energy_j=self.own.energy_j,
            co2eq_g=self.own.co2eq_g,
            count=self.own.count,
            open=self.open,
            duration_s=self.own.duration_s,
            durations_s=self.share.durations_s if is_one else UNKNOWN,
            energies_j=self.share.energies_j if is_one else UNKNOWN,
            inclusive=Part(energy_j=self.inner.energy_j, co2eq_g=self.inner.co2eq_g),
            by_tags=tuple(
                TagsShare(
                    tags=dict(tags),
                    energy_j=found.energy_j,
                    co2eq_g=found.co2eq_g,
                    count=found.count,
                    duration_s=found.duration_s,
                )
                for tags, found in self.tags.items()
            ),
        )


class SpanSum:
    """The spans and children of a run's processes in the making."""

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._owners: dict[str, _Sum] = {}
        self._children: dict[str, list[Child]] = {}
        self._idle = _Sum()
        self._first: Shares | None = None
        self._resolution_s: float | None = None
        self._rules: set[tuple[str, str]] = set()
        self._notes: dict[str, None] = {}
        self._dropped = 0
        self._shared = 0

    def take(self, views: Sequence[View], energy_j: float, co2eq_g: float) -> None:
        """Take what one machine's processes tell.

        Args:
            views: Those of the run.
            energy_j: What they measured together, each joule once.
            co2eq_g: Likewise.
        """
        for view in views:
            for child in view.process.spans.children():
                self._children.setdefault(child.name, []).append(child)
        spanning = [view for view in views if view.process.spans.account]
        if not spanning:
            return
        if len(spanning) < len(views):  # who has no spans has no part in the split: a node's own meter, say
            told = Machine(spanning).told(spanning, folds=True)
            energy_j = math.fsum(part.whole.energy_j for part in told)
            co2eq_g = math.fsum(part.whole.carbon.co2eq_g for part in told)
            views = spanning
        scale = _scale(views, energy_j, co2eq_g)
        if len(views) > 1 and scale[0] < 1.0 - 1e-6:
            self._shared += 1
        for view in views:
            account = view.account()
            if account is not None:
                self._add(account, (scale[0], scale[1] * account.co2eq_factor))

    def _add(self, account: Account, scale: Scale) -> None:
        shares = account.shares
        self._first = self._first or shares
        self._rules.add((shares.policy, shares.idle_policy))
        self._dropped += account.dropped
        self._notes.update(dict.fromkeys(shares.notes))
        if shares.resolution_s is not None:
            self._resolution_s = max(self._resolution_s or 0.0, shares.resolution_s)
        self._idle.add(shares.idle, 0, 0.0, scale)
        for share in shares.spans:
            is_known = share.name in self._names or len(self._names) < MAX_NAMES
            name = self._names.setdefault(share.name if is_known else OTHER_NAMES, _Name(share))
            name.own.add(share, share.count, share.duration_s, scale)
            name.inner.add(share.inclusive, 0, 0.0, scale)
            name.open += share.open
            name.tellers += 1
            for tags in share.by_tags:
                key = tuple(sorted(tags.tags.items()))
                name.tags.setdefault(key, _Sum()).add(tags, tags.count, tags.duration_s, scale)
        for owner in shares.owners:
            self._owners.setdefault(owner.name, _Sum()).add(owner, owner.count, owner.duration_s, scale)

    def account(self) -> Account | None:
        """The account of all; None where no process had a span."""
        first = self._first
        if first is None:
            return None
        spans = tuple(name.told(key) for key, name in self._names.items())
        owned = Part(
            energy_j=math.fsum(share.energy_j for share in spans), co2eq_g=math.fsum(share.co2eq_g for share in spans)
        )
        shares = replace(
            first,
            energy_j=owned.energy_j,
            co2eq_g=owned.co2eq_g,
            spans=spans,
            unattributed=Part(energy_j=0.0, co2eq_g=0.0),
            idle=Part(energy_j=self._idle.energy_j, co2eq_g=self._idle.co2eq_g),
            devices=(),
            owners=tuple(
                OwnerShare(
                    name=name,
                    energy_j=found.energy_j,
                    co2eq_g=found.co2eq_g,
                    count=found.count,
                    duration_s=found.duration_s,
                )
                for name, found in self._owners.items()
            ),
            resolution_s=self._resolution_s,
            notes=(*self._notes, *self._told()),
        )
        return Account(shares=shares, co2eq_factor=1.0, dropped=self._dropped)

    def _told(self) -> Iterator[str]:
        if len(self._rules) > 1:
            rules = ", ".join(sorted(policy for policy, _ in self._rules))
            yield f"the run's processes split their energy by different rules ({rules})"
        if self._shared:
            yield "several processes measured one machine: its energy is split evenly among them, then among spans"

    def children(self) -> tuple[Child, ...]:
        """The children of all, by name; epochs where one process alone had a child of the name."""
        return tuple(
            Child(
                name=name,
                steps=sum(child.steps for child in told),
                stints=told[0].stints if len(told) == 1 else (),
                total=sum(child.total for child in told),
            )
            for name, told in self._children.items()
        )


def _scale(views: Iterable[View], energy_j: float, co2eq_g: float) -> Scale:
    cuts = [view.ledger.cut(Mark(view.begin_ns, {}), Mark(view.end_ns, {})) for view in views]
    each_j = math.fsum(cut.energy_j for cut in cuts)
    each_g = math.fsum(cut.carbon.co2eq_g for cut in cuts)
    return (energy_j / each_j if each_j > 0.0 else 0.0, co2eq_g / each_g if each_g > 0.0 else 0.0)
