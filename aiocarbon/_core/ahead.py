"""The intensity of the hours a run will still occupy, and the CO2eq of what it will still use.

As far as the curve knows (measured, estimated, forecast), it counts as it is. Beyond, where a curve only carries its
last value on or falls back to a yearly average, the daily profile of the last days counts, if at least one whole day
was measured; else what the curve says.

Uncertainty: the errors of neighbouring hours are common (a forecast that is too low is too low for hours), so they add
linearly over the hours. Energy and intensity know nothing of each other: their shares add in quadrature.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._core.profile import Step, daily_profile, typical
from aiocarbon._core.rates import Band
from aiocarbon._core.units import S_PER_DAY, Z_90, kwh_from_j

Amounts = tuple[float, float, float]
"""Of one thing the central value, the low and the high end."""

NOTHING: Final = (0.0, 0.0, 0.0)

PROFILE: Final = "profile"
"""What a daily profile is called among the qualities."""

PROFILE_SHARE: Final = 0.20
"""Least half width of the 90 % range of a profile's hour, as a share. Assumed, as for a value that is carried on."""

FORECAST_MAE_G_PER_KWH: Final[Mapping[str, float]] = {"GB": 24.0}
"""Mean absolute error of a country's forecasts, gCO2/kWh. Great Britain's national forecast: nmpowell's record of its
forecasts, 2023. No other source publishes the error of its forecasts."""

MAE_TO_90: Final = Z_90 * math.sqrt(math.pi / 2)
"""Half width of the 90 % range of a normal error, in mean absolute errors."""

LEAST_S: Final = 1.0
"""What counts as a window's length where it has less: the sums are seconds since 1970, told to some 1e-7 s."""


class Stretch(NamedTuple):
    """Mean intensity of a window with its 90 % range, gCO2eq/kWh, and the share of it by quality."""

    g_per_kwh: float
    low: float
    high: float
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarbonAhead:
    """CO2eq still to come.

    Attributes:
        co2eq_g: Grams, PUE counted.
        low_g: Lower end (90 %).
        high_g: Upper end (90 %).
        g_per_kwh: Mean intensity of the hours to come.
        rests_on: Share of those hours by what their intensity comes from: a quality, or "profile".
    """

    co2eq_g: float
    low_g: float
    high_g: float
    g_per_kwh: float
    rests_on: Mapping[str, float]


class _Step(NamedTuple):
    from_s: float
    g: float
    low: float
    high: float
    origin: str


class Horizon:
    """The intensity from an instant on, for ever, as sums that make any window's mean cheap.

    Built once for each state of a curve; asking is a look-up.

    Attributes:
        known_to_s: UTC seconds up to which the curve itself counts.
        has_profile: Whether a daily profile counts beyond.
    """

    def __init__(
        self,
        steps: Iterable[tuple[float, IntensityValue]],
        begin_s: float,
        *,
        behind: Sequence[Step] = (),
        mae_g_per_kwh: Mapping[str, float] = FORECAST_MAE_G_PER_KWH,
        profile_share: float = PROFILE_SHARE,
    ) -> None:
        """Take a curve.

        Args:
            steps: Its steps as (UTC seconds, value), ascending, past ones too, at least one; the last holds for ever.
            begin_s: UTC seconds from which on windows will be asked for.
            behind: What was measured before the curve, for the daily profile: ascending, with holes where nothing was.
            mae_g_per_kwh: Known mean absolute errors of forecasts by country; others count by the values' own ranges.
            profile_share: Least half width of a profile's hour, as a share.
        """
        series = list(steps)
        known = [i for i, (_, value) in enumerate(series) if value.quality.is_told]
        end = known[-1] + 1 if known else 0
        self.known_to_s = series[end][0] if end < len(series) else _valid_to_s(series[-1][1])
        self._profile = _profile(behind, series, self.known_to_s, profile_share)
        self.has_profile = self._profile is not None
        first = max(bisect.bisect_right(series, begin_s, key=lambda step: step[0]) - 1, 0)
        self._steps = [_step(from_s, value, mae_g_per_kwh) for from_s, value in series[first:]]
        # The first value holds before its own instant too.
        self._steps[0] = self._steps[0]._replace(from_s=begin_s)
        self._from_s = [step.from_s for step in self._steps]
        lengths = (b - a for a, b in itertools.pairwise(self._from_s))
        amounts = (_scaled((s.g, s.low, s.high), length) for s, length in zip(self._steps, lengths, strict=False))
        self._sums = list(itertools.accumulate(amounts, _add, initial=NOTHING))

    def mean(self, begin_s: float, duration_s: float) -> Stretch:
        """Mean intensity of a window.

        Args:
            begin_s: UTC seconds; not before the horizon's own begin.
            duration_s: Seconds; of a window of no length, the value at its begin is told.
        """
        duration_s = max(duration_s, LEAST_S)
        end_s = begin_s + duration_s
        split_s = min(max(self.known_to_s, begin_s), end_s) if self._profile is not None else end_s
        total, shares = NOTHING, {}
        if split_s > begin_s:
            total = _add(self._upto(split_s), _scaled(self._upto(begin_s), -1.0))
            shares = self._origins(begin_s, split_s)
        if end_s > split_s and self._profile is not None:
            total = _add(total, self._profile.sum(split_s, end_s))
            shares[PROFILE] = end_s - split_s
        return Stretch(
            total[0] / duration_s,
            total[1] / duration_s,
            total[2] / duration_s,
            {origin: length / math.fsum(shares.values()) for origin, length in shares.items()},
        )

    def _upto(self, at_s: float) -> Amounts:
        """Integral of the curve itself from the horizon's begin on."""
        i = max(bisect.bisect_right(self._from_s, at_s) - 1, 0)
        step = self._steps[i]
        return _add(self._sums[i], _scaled((step.g, step.low, step.high), at_s - step.from_s))

    def _origins(self, begin_s: float, end_s: float) -> dict[str, float]:
        """Seconds of a window by what the curve's values come from."""
        shares: dict[str, float] = {}
        for i in range(max(bisect.bisect_right(self._from_s, begin_s) - 1, 0), len(self._steps)):
            to_s = min(self._from_s[i + 1], end_s) if i + 1 < len(self._steps) else end_s
            length = to_s - max(self._from_s[i], begin_s)
            if length <= 0:
                break
            origin = self._steps[i].origin
            shares[origin] = shares.get(origin, 0.0) + length
        return shares


def co2eq_ahead(horizon: Horizon, now_s: float, energy_j: Band, duration_s: Band, *, pue: float = 1.0) -> CarbonAhead:
    """CO2eq of energy still to be used, at a constant power, over the hours that it will take.

    Args:
        horizon: The intensity to come.
        now_s: UTC seconds.
        energy_j: IT joules still to come.
        duration_s: Seconds still to come.
        pue: Power usage effectiveness.
    """
    stretch = horizon.mean(now_s, duration_s.value)
    # How long it takes decides which hours: the ends of the duration's band are two more windows.
    others = [horizon.mean(now_s, t).g_per_kwh for t in (duration_s.low, duration_s.high) if t != duration_s.value]
    mean = stretch.g_per_kwh
    down = mean - stretch.low + mean - min([mean, *others])
    up = stretch.high - mean + max([mean, *others]) - mean
    kwh = kwh_from_j(energy_j.value) * pue
    grams = kwh * mean
    down_g = math.hypot(_share(energy_j.value - energy_j.low, energy_j.value), _share(down, mean)) * grams
    up_g = math.hypot(_share(energy_j.high - energy_j.value, energy_j.value), _share(up, mean)) * grams
    if grams == 0:
        up_g = kwh_from_j(energy_j.high) * pue * stretch.high
    return CarbonAhead(
        co2eq_g=grams,
        low_g=max(grams - down_g, 0.0),
        high_g=grams + up_g,
        g_per_kwh=mean,
        rests_on=dict(stretch.shares),
    )


def _share(half: float, of: float) -> float:
    return half / of if of > 0 else 0.0


def _add(a: Amounts, b: Amounts) -> Amounts:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _scaled(a: Amounts, factor: float) -> Amounts:
    return factor * a[0], factor * a[1], factor * a[2]


def _valid_to_s(value: IntensityValue) -> float:
    """Up to when a curve's last value is known and not only carried on; what a user stated holds for ever."""
    is_stated = value.quality is Quality.GIVEN or value.valid_to_s is None
    return math.inf if is_stated or value.valid_to_s is None else value.valid_to_s


def _step(from_s: float, value: IntensityValue, mae_g_per_kwh: Mapping[str, float]) -> _Step:
    low, high = value.low_g_per_kwh, value.high_g_per_kwh
    mae = mae_g_per_kwh.get(value.zone[:2]) if value.quality is Quality.FORECAST else None
    if mae is not None:
        low = max(min(low, value.g_per_kwh - MAE_TO_90 * mae), 0.0)
        high = max(high, value.g_per_kwh + MAE_TO_90 * mae)
    return _Step(from_s, value.g_per_kwh, low, high, str(value.quality))


class _Profile:
    """A daily profile with its range, as sums."""

    def __init__(self, profile: Sequence[tuple[float, list[float]]], least_share: float) -> None:
        self._from_s = [from_s for from_s, _ in profile]
        self._values = [typical(values, least_share) for _, values in profile]
        lengths = [b - a for a, b in itertools.pairwise((*self._from_s, float(S_PER_DAY)))]
        amounts = (
            (length * g, length * low, length * high)
            for length, (g, low, high) in zip(lengths, self._values, strict=True)
        )
        self._sums = list(itertools.accumulate(amounts, _add, initial=NOTHING))

    def _upto(self, at_s: float) -> Amounts:
        """Integral from 1970 on."""
        days, in_day = divmod(at_s, S_PER_DAY)
        i = bisect.bisect_right(self._from_s, in_day) - 1
        here = _scaled(self._values[i], in_day - self._from_s[i])
        return _add(_add(_scaled(self._sums[-1], days), self._sums[i]), here)

    def sum(self, begin_s: float, end_s: float) -> Amounts:
        """Integral of a window."""
        return _add(self._upto(end_s), _scaled(self._upto(begin_s), -1.0))


def _profile(
    behind: Sequence[Step], series: Sequence[tuple[float, IntensityValue]], known_to_s: float, least_share: float
) -> _Profile | None:
    """The daily profile of the steps before an instant; None where less than a day was measured, or none is needed."""
    if not math.isfinite(known_to_s):
        return None
    steps = list(behind)
    steps += [
        (from_s, series[i + 1][0] if i + 1 < len(series) else known_to_s, value)
        for i, (from_s, value) in enumerate(series)
        if math.isfinite(from_s) and from_s < known_to_s
    ]
    profile = daily_profile([step for step in steps if step[2].quality.is_told])
    return _Profile(profile, least_share) if profile else None
