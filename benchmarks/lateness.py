"""How late does a coroutine wake while a tracker enters, runs, marks epochs and leaves, whatever the network does?

A ticker in the user's loop sleeps 1 ms again and again; how much later than asked it wakes is its lateness. The same
ticker without a tracker, in the same process, tells what the machine itself does; it is shown beside, never subtracted.
Packages are there already: what their import stalls is `latency`'s.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.grid import at_place, serving
from benchmarks.pairs import bootstrap
from benchmarks.progress import each
from benchmarks.result import Row, at_most, child, has_loopback, info, skipped
from benchmarks.workloads.lateness import CONTROL
from benchmarks.workloads.steps import SEED

NAME: Final = "lateness"
QUESTION: Final = "how late does a coroutine wake beside a tracker, with a network, a dead one and a black hole?"

OFFLINE: Final = "no packet"
NETWORKS: Final = {"a source answers": "answers", "dead network": "refuses", "black hole": "swallows"}
"""By what it is called, how it answers (`benchmarks.grid.serving`)."""

CHILD: Final = """
import json, sys
from benchmarks.workloads.lateness import lateness
print(json.dumps(lateness(json.loads(sys.argv[1]))))
"""

LIMIT_MS: Final = 3.0

Late = dict[str, list[float]]
"""How late each sleep ended, ms, by what went on meanwhile."""


def run(*, quick: bool) -> list[Row]:
    """Each loop with each network, in turn, so that a slow moment of the machine meets all."""
    rounds, seconds = (1, 0.4) if quick else (10, 1.0)
    networks = [OFFLINE, *(NETWORKS if has_loopback() else ())]
    loops = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else ())]
    cases = [(loop, network) for loop in loops for network in networks]
    heard: dict[tuple[str, str], list[Late]] = {case: [] for case in cases}
    for case in each(cases * rounds, ", ".join):
        heard[case].append(_one(*case, seconds))
    rows = [row for case, runs in heard.items() for row in rows_of(", ".join(case), runs)]
    if len(networks) == 1:
        rows.append(skipped("lateness by a network", "ms", "127.0.0.1 cannot be reached here: no source answers"))
    if len(loops) == 1:
        rows.append(skipped("uvloop", "ms", "uvloop is not installed"))
    return rows


def _one(loop: str, network: str, seconds: float) -> Late:
    asked = {"loop": loop, "seconds": seconds, "settings": {"location": "GB", "offline": network == OFFLINE}}
    if network == OFFLINE:
        return _heard(asked)
    with serving(NETWORKS[network]) as url:
        return _heard({**asked, "environ": at_place(url)})


def _heard(asked: dict[str, object]) -> Late:
    late: Late = child(CHILD, json.dumps(asked))
    return late


def rows_of(case: str, runs: Sequence[Late]) -> Iterator[Row]:
    """A row for each phase.

    Args:
        case: Which loop and network.
        runs: Of each process, at least 1.
    """
    for phase in runs[0]:
        p50, p99, longest = zip(*(_quantiles(late[phase]) for late in runs), strict=True)
        note = f"p50 {statistics.median(p50):.2f} ms, longest {statistics.median(longest):.2f} ms"
        note += f"; medians of {len(runs)} processes"
        if len(runs) > 2:
            low, high = bootstrap(p99, seed=SEED)
            note += f", 95 % interval of the p99 {low:.2f} to {high:.2f}"
        if phase == CONTROL:
            yield info(f"{case}: {phase}: p99", statistics.median(p99), "ms", note)
        else:
            yield at_most(f"{case}: while it {phase}: p99", statistics.median(p99), "ms", LIMIT_MS, note)


def _quantiles(late: Sequence[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and the longest."""
    hundredths = statistics.quantiles(late, n=100, method="inclusive")
    return hundredths[49], hundredths[98], max(late)
