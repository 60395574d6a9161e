"""What is known of a place's carbon intensity, from all sources, and the one curve it makes: past, present, forecast.

At every instant the best that is known counts, in this order, within each the source that stands first in the chain:

1. a value of that time, measured or estimated by the source; while the newest one's successor is not yet due, what the
   source forecast for that time, else the newest one itself;
2. a forecast of that time by any source;
3. an older value, carried on up to the source's own limit: told as `cached`;
4. the fall-back: the yearly average of the place.

So the curve degrades by itself where nothing more is learnt, and is mended by whatever is learnt later.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from aiocarbon._core.answer import Answer, Sample
from aiocarbon._core.intensity import IntensityValue, Quality

SPREAD: Final = {
    Quality.GIVEN: 0.0,
    Quality.LIVE: 0.05,
    Quality.ESTIMATED: 0.10,
    Quality.FORECAST: 0.15,
    Quality.CACHED: 0.20,
}
"""Half width of the 90 % range by quality, as a share of the value. Assumed: no source publishes the error of its
values. For size: the mean absolute error of Great Britain's national forecast is some 24 gCO2/kWh of about 200
(nmpowell's record of forecasts, 2023), and sources differ for one country by up to 30 %."""

WHOLE_PAST: Final = float("-inf")


@dataclass(slots=True)
class Layer:
    """What one source said, with what is to be known of it.

    Attributes:
        answer: Its newest answer; its zone, kind and factor basis are those of all samples.
        notes: What a user should know of its samples, by their quality.
        grace_s: Seconds past a value's end during which its successor is not yet due.
        stale_s: Seconds past a value's begin up to which it may be carried on.
        froms: Begins of the samples, ascending.
        samples: The samples.
    """

    answer: Answer
    grace_s: float
    stale_s: float
    notes: dict[Quality, str] = field(default_factory=dict)
    froms: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def learn(self, sample: Sample) -> bool:
        """Take one sample; True if it changes anything. It never replaces one that is surer."""
        i = bisect.bisect_left(self.froms, sample.from_s)
        if i == len(self.froms) or self.froms[i] != sample.from_s:
            self.froms.insert(i, sample.from_s)
            self.samples.insert(i, sample)
            return True
        known = self.samples[i]
        if known == sample or known.quality.is_surer_than(sample.quality):
            return False
        self.samples[i] = sample
        return True

    def drop(self, answer: Answer) -> float | None:
        """Forget what an answer that is all there is to say of a window does not say; the first instant of it."""
        if answer.whole is None:
            return None
        said = {sample.from_s: sample for sample in answer.samples}
        begin_s = min(answer.whole[0], answer.samples[0].from_s)
        first, last = bisect.bisect_left(self.froms, begin_s), bisect.bisect_left(self.froms, answer.whole[1])
        changed = [sample.from_s for sample in self.samples[first:last] if said.get(sample.from_s) != sample]
        kept = [sample for sample in self.samples[first:last] if said.get(sample.from_s) == sample]
        self.samples[first:last], self.froms[first:last] = kept, [sample.from_s for sample in kept]
        if first > 0 and self.samples[first - 1].to_s > begin_s:  # of the time before the window nothing was said
            self.samples[first - 1] = self.samples[first - 1]._replace(to_s=begin_s)
            changed.append(begin_s)
        return min(changed, default=None)

    def at(self, at_s: float) -> Sample | None:
        """The sample that holds at an instant, up to the begin of the next one."""
        i = bisect.bisect_right(self.froms, at_s) - 1
        return self.samples[i] if i >= 0 and at_s < self.samples[i].to_s else None

    def before(self, at_s: float) -> Sample | None:
        """The newest sample that begins at or before an instant and was measured or estimated, if it is not stale."""
        i = bisect.bisect_right(self.froms, at_s) - 1
        while i >= 0 and at_s < self.froms[i] + self.stale_s:
            if self.samples[i].quality is not Quality.FORECAST:
                return self.samples[i]
            i -= 1
        return None

    def borders(self, begin_s: float, end_s: float) -> Iterator[float]:
        """Instants inside a window at which what this source says may change."""
        first = bisect.bisect_left(self.froms, begin_s - self.stale_s)
        for sample in self.samples[max(first - 1, 0) :]:
            if sample.from_s >= end_s:
                return
            for at in (sample.from_s, sample.to_s, sample.to_s + self.grace_s, sample.from_s + self.stale_s):
                if begin_s < at < end_s:
                    yield at

    def value(self, sample: Sample, quality: Quality | None = None) -> IntensityValue:
        """A sample as a value, with its range."""
        quality = quality or sample.quality
        g, spread, answer = sample.g_per_kwh, SPREAD[quality], self.answer
        return IntensityValue(
            g_per_kwh=g,
            low_g_per_kwh=g * (1.0 - spread),
            high_g_per_kwh=g * (1.0 + spread),
            source=answer.title,
            zone=answer.zone,
            quality=quality,
            kind=answer.kind,
            factor_basis=answer.factor_basis,
            valid_from_s=sample.from_s,
            valid_to_s=sample.to_s,
            note=self.notes.get(sample.quality, answer.note),
        )


class Grid:
    """All that is known of one place, by the rank of the sources.

    Attributes:
        fallback: What counts where no source says anything.
    """

    def __init__(self, fallback: IntensityValue) -> None:
        self.fallback = fallback
        self._layers: dict[int, Layer] = {}

    def learn(self, rank: int, answer: Answer, *, grace_s: float, stale_s: float) -> float | None:
        """Take what a source said.

        Args:
            rank: Its place in the chain, 0 for the first.
            answer: What it said.
            grace_s: Seconds past a value's end during which its successor is not yet due.
            stale_s: Seconds past a value's begin up to which it may be carried on.

        Returns:
            The earliest instant (UTC seconds) from which the curve may be another; None if nothing is new.
        """
        layer = self._layers.get(rank)
        if layer is None:
            layer = self._layers[rank] = Layer(answer, grace_s, stale_s)
            self._layers = dict(sorted(self._layers.items()))
        layer.answer = answer
        # A forecast's note says nothing of what was measured.
        layer.notes.update(dict.fromkeys({sample.quality for sample in answer.samples}, answer.note))
        dropped_s = layer.drop(answer)
        new = [sample.from_s for sample in answer.samples if layer.learn(sample)]
        return min(new if dropped_s is None else [dropped_s, *new], default=None)

    @property
    def until_s(self) -> float:
        """UTC seconds up to which anything is known; minus infinity where nothing is."""
        return max((layer.samples[-1].to_s for layer in self._layers.values()), default=WHOLE_PAST)

    def steps(self, begin_s: float) -> Iterator[tuple[float, IntensityValue]]:
        """The curve from an instant (UTC seconds) on, as steps; the last one holds for ever.

        It yields after a bounded amount of work each, so that who drains it can pause in between.
        """
        end_s = max((layer.samples[-1].from_s + layer.stale_s for layer in self._layers.values()), default=begin_s)
        end_s = max(end_s, self.until_s + 1.0, begin_s)
        borders = {begin_s}
        for layer in self._layers.values():
            borders.update(layer.borders(begin_s, end_s))
            borders.add(max(layer.samples[-1].to_s + layer.grace_s, begin_s))
            borders.add(max(layer.samples[-1].to_s, begin_s))
            borders.add(max(layer.samples[-1].from_s + layer.stale_s, begin_s))
        before: IntensityValue | None = None
        for at in sorted(borders):
            value = self.value_at(at)
            if before is None or _tells_else(before, value):
                yield at, value
            before = value

    def value_at(self, at_s: float) -> IntensityValue:
        """The best that is known of an instant (UTC seconds)."""
        layers = self._layers.values()
        for layer in layers:
            sample = layer.at(at_s)
            if sample is not None and sample.quality is not Quality.FORECAST:
                return layer.value(sample)
            newest = layer.before(at_s)
            if newest is not None and at_s < newest.to_s + layer.grace_s:
                return layer.value(sample or newest)
        for layer in layers:
            sample = layer.at(at_s)
            if sample is not None:
                return layer.value(sample)
        for layer in layers:
            newest = layer.before(at_s)
            if newest is not None:
                return layer.value(newest, Quality.CACHED)
        return self.fallback


def _tells_else(a: IntensityValue, b: IntensityValue) -> bool:
    """Whether two neighbouring values differ in anything but the time they are of."""
    if a is b:
        return False
    return replace(a, valid_from_s=None, valid_to_s=None) != replace(b, valid_from_s=None, valid_to_s=None)
