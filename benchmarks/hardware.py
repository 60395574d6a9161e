"""Do the ways to read a real GPU agree? For a machine with an NVIDIA GPU; elsewhere its one row says there is none.

Over one load, in one window: the counter itself read at both edges, aiocarbon's epoch, the power that NVML tells fifty
times a second and the power that `nvidia-smi` tells ten times a second, both integrated, and a window of Zeus. The load
alternates between multiplying matrices (torch with CUDA) and nothing, and the window begins and ends in nothing: the
edges of sensors that refresh slowly then hold little.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks import contenders
from benchmarks.contenders import ASYNC, in_child, why_not
from benchmarks.result import ChildError, Row, at_most, info, skipped

NAME: Final = "hardware"
QUESTION: Final = "do the ways to read a real GPU agree over a real load?"

versions = contenders.versions

LIMIT_PERCENT: Final = 1.0
COUNTER: Final = "its counter, read at both edges"
OURS: Final = "aiocarbon"
POWER: Final = "power by NVML every 20 ms, integrated"
SMI: Final = "power by nvidia-smi every 100 ms, integrated"
ZEUS: Final = "zeus"
WAYS: Final = (OURS, POWER, SMI, ZEUS)

Sample = tuple[int, float]
"""Monotonic nanoseconds, watts."""


def run(*, quick: bool) -> list[Row]:
    """All ways over one load."""
    if why := why_not(ASYNC):
        return [skipped(COUNTER, "J", why)]
    try:
        return rows_of(in_child("real_gpu:measure", {"rounds": 2 if quick else 12}, timeout_s=300.0))
    except ChildError as error:
        return [skipped(COUNTER, "J", f"failed: {error.last_line[:150]}")]


def rows_of(found: Mapping[str, Any]) -> list[Row]:
    """What a measured window says.

    Args:
        found: What `benchmarks.workloads.real_gpu.measure` gives.
    """
    if found["why"]:
        return [skipped(COUNTER, "J", found["why"])]
    begin_ns, end_ns = found["begin_ns"], found["end_ns"]
    seconds = (end_ns - begin_ns) / 1e9
    joules: dict[str, float | None] = {
        OURS: found["ours_j"],
        ZEUS: found["zeus_j"],
        **{
            way: _sum(joules_of(samples, begin_ns, end_ns) for samples in found["logs"][way].values())
            for way in (POWER, SMI)
        },
    }
    about = f"{', '.join(found['gpus'])}; {seconds:.1f} s, {found['load']}"
    counter = found["counter_j"]
    if counter is None:
        rows = [skipped(COUNTER, "J", f"the GPU has no energy counter; {about}")]
    else:
        rows = [info(COUNTER, counter, "J", about)]
    for way in WAYS:
        value, why = joules[way], found["whys"].get(way, "told nothing")
        if value is None:
            rows.append(skipped(way, "J", why))
            continue
        rows.append(info(way, value, "J", f"{value / seconds:.1f} W in the mean"))
        if counter:
            off = abs(value / counter - 1.0) * 100.0
            metric = f"{way}: away from the counter"
            rows.append(at_most(metric, off, "%", LIMIT_PERCENT) if way == OURS else info(metric, off, "%"))
    return rows


def joules_of(samples: Sequence[Sample], begin_ns: int, end_ns: int) -> float | None:
    """The integral of a power over a window by trapezoids; None where the samples do not hold the whole of it.

    Args:
        samples: In their order.
        begin_ns: Monotonic.
        end_ns: Later.
    """
    if not samples or samples[0][0] > begin_ns or samples[-1][0] < end_ns:
        return None
    total = 0.0
    for (a_ns, a_w), (b_ns, b_w) in itertools.pairwise(samples):
        from_ns, to_ns = max(a_ns, begin_ns), min(b_ns, end_ns)
        if from_ns < to_ns:
            slope = (b_w - a_w) / (b_ns - a_ns)
            middle_w = a_w + slope * ((from_ns + to_ns) / 2 - a_ns)
            total += middle_w * (to_ns - from_ns) / 1e9
    return total


def _sum(each: Any) -> float | None:
    """Of all GPUs; None if one is not known, or there is none."""
    values = list(each)
    return sum(values) if values and None not in values else None


def measured(environ: Mapping[str, str] = os.environ, *, rounds: int) -> dict[str, Any]:
    """One window in a child with this environment; for tests, which hand in made GPUs."""
    found: dict[str, Any] = in_child("real_gpu:measure", {"rounds": rounds}, environ=environ, timeout_s=120.0)
    return found
