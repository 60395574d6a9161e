"""Several processes as one: each instant of a device belongs to one process, and each joule counts once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

from aiocarbon._core.assemble import MEASURED, scope, uses
from aiocarbon._core.body import Overhead
from aiocarbon._core.intensity import Pue
from aiocarbon._core.pool import Pool
from aiocarbon._core.report import EpochReport, Quantities, RunReport, utc
from aiocarbon._core.segment import DeviceKey, Segment, Share, Window, gather, shares
from aiocarbon._core.units import S_PER_NS
from aiocarbon.journal.parse import Known
from aiocarbon.journal.view import KEPT_EPOCHS, View


def segments_of(views: list[View]) -> list[Segment]:
    """The segments of all processes; what two of them know of one segment becomes common to both."""
    merged = gather(
        Segment(
            key=known.key,
            curve=known.curve,
            windows=frozenset({Window(view.begin_ns, view.end_ns, view.process.ident)}),
        )
        for view in views
        for known in view.process.devices.values()
        if len(known.curve)
    )
    for view in views:
        for known in view.process.devices.values():
            if known.key in merged:
                known.curve = merged[known.key].curve
        view.ledger.curves = {ident: known.curve for ident, known in view.process.devices.items()}
    return list(merged.values())


def doubts(views: list[View]) -> Iterator[str]:
    """What may be wrong in putting these processes together, in words."""
    hosts: dict[str, set[str]] = {}
    for view in views:
        hosts.setdefault(view.process.machine, set()).add(view.process.facts.host)
    for names in hosts.values():
        if len(names) > 1:
            told = ", ".join(sorted(names))
            yield f"{told} have one boot id: taken as containers of one machine, whose devices count once"
    active: list[View] = []
    for view in sorted(views, key=lambda v: v.begin_ns):
        active = [other for other in active if other.end_ns > view.begin_ns]
        for other in active:
            if other.process.machine == view.process.machine:
                yield from _told_and_modelled(other, view)
                yield from _told_and_modelled(view, other)
        active.append(view)


def _told_and_modelled(a: View, b: View) -> Iterator[str]:
    """Parts that one process measured while another modelled them, under different devices."""
    for known, model in itertools.product(a.process.devices.values(), b.process.devices.values()):
        if not (known.device.counted and model.device.counted):
            continue
        common = known.device.covers & model.device.covers
        if common and known.device.basis in MEASURED and model.device.basis not in MEASURED:
            yield (
                f"{', '.join(sorted(common))} of {a.process.facts.host} may be counted twice: "
                f"one process measured it ({known.device.id}) while another modelled it ({model.device.id})"
            )


def _shares(views: list[View], segments: list[Segment]) -> Iterator[tuple[View, Known, Share]]:
    """Every instant of every device in these processes' windows, once."""
    by_ident = {view.process.ident: view for view in views}
    groups: dict[DeviceKey, list[Segment]] = {}
    for segment in segments:
        windows = frozenset(w for w in segment.windows if w.owner in by_ident)
        if windows:
            mine = Segment(key=segment.key, curve=segment.curve, windows=windows)
            groups.setdefault(segment.key.device, []).append(mine)
    for group in groups.values():
        for share in shares(group):
            view = by_ident[share.owner]
            yield view, view.process.devices[share.segment.key.device.device], share


def pooled(views: list[View], segments: list[Segment]) -> Pool:
    """All processes together, each instant of a device once."""
    pool = Pool()
    for view, known, share in _shares(views, segments):
        pool.add(view.process.facts.host, view.device_cut(known, share.begin_ns, share.end_ns), view.process.pue.value)
    return pool


def spans_of(views: list[View]) -> list[tuple[int, int]]:
    """The windows of processes in UTC nanoseconds."""
    begins = [(view.ledger.wall.wall_ns(view.begin_ns), view.end_ns - view.begin_ns) for view in views]
    return [(begin, begin + length) for begin, length in begins]


def union_ns(spans: Iterable[tuple[int, int]]) -> int:
    """Length of the union of intervals."""
    total = 0
    upto: int | None = None
    for begin, end in sorted(spans):
        total += end - (begin if upto is None else min(max(begin, upto), end))
        upto = end if upto is None else max(upto, end)
    return total


def run_of(views: list[View], segments: list[Segment]) -> RunReport:
    """The report of one run, of one process or several."""
    return views[0].report() if len(views) == 1 else Joined(views, segments).report()


class Joined:
    """A run of several processes: each instant of a device belongs to the process that tells it, and to its epoch."""

    def __init__(self, views: list[View], segments: list[Segment]) -> None:
        self.views = views
        self.whole = Pool()
        self.outside = Pool()
        self.epochs: dict[int, Pool] = {}
        self.total = 1 + max((i for view in views for i in view.process.epochs), default=-1)
        for view, known, share in _shares(views, segments):
            host, pue = view.process.facts.host, view.process.pue.value
            self.whole.add(host, view.device_cut(known, share.begin_ns, share.end_ns), pue)
            for stretch in view.within(share.begin_ns, share.end_ns):
                pool = self.outside if stretch.epoch is None else self.epochs.setdefault(stretch.epoch, Pool())
                begin, end = max(stretch.begin_ns, share.begin_ns), min(stretch.end_ns, share.end_ns)
                pool.add(host, view.device_cut(known, begin, end), pue)

    def report(self) -> RunReport:
        """The run's report."""
        from aiocarbon.intensity.equivalents import equivalents

        views, first = self.views, self.views[0].process
        spans = spans_of(views)
        duration_ns = union_ns(spans)
        cut = self.whole.cut(duration_ns)
        ended_at = utc(max(end for _, end in spans) * S_PER_NS)
        outside_ns = self._length_ns(None)
        return RunReport(
            **self.whole.quantities(duration_ns),
            run_id=first.facts.run_id,
            name=first.facts.name,
            host=", ".join(dict.fromkeys(view.process.facts.host for view in views)),
            started_at=utc(min(begin for begin, _ in spans) * S_PER_NS),
            ended_at=ended_at,
            as_of=ended_at,
            is_final=True,
            ended_well=all(view.ended_well for view in views),
            epochs=tuple(self._epoch(i) for i in sorted(self.epochs)[-KEPT_EPOCHS:]),
            epochs_total=self.total,
            outside=Quantities(**self.outside.quantities(outside_ns)),
            devices=self.whole.devices(),
            scope=scope(cut, frozenset().union(*(view.missing() for view in views))),
            location=first.facts.location,
            pue=self._pue(),
            intensity_g_per_kwh=cut.carbon.intensity_g_per_kwh,
            intensity_sources=uses(cut.carbon),
            equivalents=equivalents(cut.carbon.co2eq_g),
            warnings=self._warnings(),
            overhead=self._overhead(),
            version=first.facts.version,
        )

    def _length_ns(self, epoch: int | None) -> int:
        spans = []
        for view in self.views:
            for stretch in view.stretches:
                if stretch.epoch == epoch:
                    begin = view.ledger.wall.wall_ns(stretch.begin_ns)
                    spans.append((begin, begin + stretch.end_ns - stretch.begin_ns))
        return union_ns(spans)

    def _epoch(self, index: int) -> EpochReport:
        told = [view.process.epochs[index] for view in self.views if index in view.process.epochs]
        pool = self.epochs[index]
        return EpochReport(
            **pool.quantities(self._length_ns(index)),
            index=index,
            devices=pool.devices(),
            # Processes of one run step together; the one that told most has seen all.
            steps=max(epoch.steps for epoch in told),
            is_partial=any(epoch.is_partial for epoch in told),
            is_final=True,
        )

    def _pue(self) -> Pue:
        told = dict.fromkeys(view.process.pue for view in self.views)
        if len(told) == 1:
            return next(iter(told))
        return Pue(value=self.whole.pue, source="energy-weighted: " + "; ".join(f"{p.value} {p.source}" for p in told))

    def _warnings(self) -> tuple[str, ...]:
        texts = [
            f"{view.process.facts.host} (process {view.process.ident.split('/')[-2]}): {text}"
            for view in self.views
            for text in view.warnings()
        ]
        zones = dict.fromkeys(view.process.facts.location.zone for view in self.views)
        if len(zones) > 1:
            texts.append(f"the run's processes were in several zones ({', '.join(zones)}); each counts with its own")
        return tuple(dict.fromkeys(texts))

    def _overhead(self) -> Overhead:
        each = [view.overhead() for view in self.views]
        return Overhead(
            cpu_s=math.fsum(o.cpu_s for o in each),
            readings=sum(o.readings for o in each),
            missed_ticks=sum(o.missed_ticks for o in each),
        )
