"""How long does planning take once the forecast is there? The best start, and the best blocks, of a week.

The intensity is made: a day's course with noise, seeded. Planning is timed in one child process, each case many times;
the median counts, the worst is told. Whether a plan is the best is a matter of tests (`tests/core/test_clean.py`).
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks.result import Row, at_most, child, info

NAME: Final = "when"
QUESTION: Final = "how long does it take to plan the cleanest start within a week, once the intensity is known?"

LIMIT_MS: Final = 200.0
"""A week of half hours; the others are held to the same."""

CHILD: Final = """
import json, math, random, statistics, sys, time

from aiocarbon._core.clean import plan
from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._core.profile import continued

rounds = int(sys.argv[1])
NOW, DAY = 1_795_268_220.0, 86400.0
AVERAGE = IntensityValue(g_per_kwh=300.0, low_g_per_kwh=250.0, high_g_per_kwh=350.0, source="made", zone="DE",
                         quality=Quality.AVERAGE)

def week(step_s, begin_s, end_s, quality):
    chance = random.Random(4)
    at, steps = begin_s // step_s * step_s, []
    while at < end_s:
        g = 300.0 + 150.0 * math.sin(at / DAY * math.tau) + chance.gauss(0.0, 20.0)
        steps.append((at, at + step_s, IntensityValue(g_per_kwh=g, low_g_per_kwh=g * 0.85, high_g_per_kwh=g * 1.15,
                                                      source="made", zone="DE", quality=quality)))
        at += step_s
    return steps

def timed(act):
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        act()
        took.append((time.perf_counter() - began) * 1e3)
    return [statistics.median(took), max(took)]

told = {}
for name, step_s in (("half hours", 1800.0), ("5 minutes", 300.0)):
    steps = week(step_s, NOW, NOW + 7 * DAY, Quality.FORECAST)
    def best(duration_h, **more):
        return plan(steps, now_s=NOW, until_s=NOW + 7 * DAY, duration_s=duration_h * 3600.0, power_w=300.0, **more)
    told[f"one start, 8 h, {name}"] = timed(lambda: best(8))
    told[f"one start, 72 h, {name}"] = timed(lambda: best(72))
    told[f"3 blocks of 1 h at least, 8 h, {name}"] = timed(lambda: best(8, blocks=3, least_s=3600.0))
    told[f"24 blocks, 72 h, {name}"] = timed(lambda: best(72, blocks=24))
    past = week(step_s, NOW - 7 * DAY, NOW, Quality.LIVE)
    told[f"a week's daily profile, {name}"] = timed(lambda: continued(past, NOW + 7 * DAY, AVERAGE))
print(json.dumps(told))
"""


def run(*, quick: bool) -> list[Row]:
    """Time each case.

    Args:
        quick: Few rounds.
    """
    told: dict[str, Any] = child(CHILD, str(3 if quick else 30))
    rows: list[Row] = []
    for name, (median, worst) in told.items():
        rows.append(at_most(name, median, "ms", LIMIT_MS, f"worst {worst:.3g} ms"))
    rows.append(info("steps of a week", 7 * 48, "", "half hours; 2016 of 5 minutes"))
    return rows
