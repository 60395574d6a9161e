"""`python -m benchmarks.figures`: writes the README's two tables of what was reached, from the results that are kept.

They show what the files hold and nothing else; a question that no file answers is a row that says so. A test holds the
README to it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from benchmarks import table
from benchmarks.result import ROOT

README: Final = ROOT / "README.md"
BLOCK: Final = re.compile(r"<!-- figures -->\n.*?<!-- /figures -->\n", re.DOTALL)
PEERS: Final = re.compile(r"<!-- peers -->\n.*?<!-- /peers -->\n", re.DOTALL)

INTRODUCTION: Final = """\
Measured on virtual machines ({where}), against simulated sensors whose joules are known exactly (a compiled fake NVML,
a powercap tree); the files are in `benchmarks/results/`, each with its commit, and `python -m benchmarks.figures` makes
this table of them. No real GPU was at hand: the NVML meter has not been run on one yet; `python -m benchmarks hardware`
compares its counter, its power, `nvidia-smi` and Zeus on yours. A longest stall is the median, over the processes of a
benchmark, of the longest in each; the longest of all stands in the file.
"""

CLOSE: Final = """\
An epoch with an NVML counter that refreshes every 100 ms is off by up to a few percent as `epoch()` returns it and
within the figures above in `report().epochs`, some 120 ms later.
"""

Rows = Sequence[Mapping[str, Any]]


class Line(NamedTuple):
    """A line of the table: the worst of those rows of one result that it picks.

    Attributes:
        label: What was asked; `{n}` is the number of rows picked.
        name: The benchmark.
        metric: Pattern that is found in the names of its rows.
        form: How the worst value is written.
        wanted: The limit, in words.
        limit: The rows' limit, where their names do not tell them apart.
        told: Pattern whose group is the value, in the notes of the rows; "" for the value itself.
    """

    label: str
    name: str
    metric: str
    form: str
    wanted: str
    limit: float | None = None
    told: str = ""

    def text(self, results: Mapping[str, Rows]) -> str:
        """The line as Markdown."""
        mine = [row for row in results.get(self.name, ()) if self.is_mine(row)]
        rows = [row for row in mine if row["value"] is not None]
        reached = self.form.format(max(map(self._value, rows))) if rows else "not measured"
        # Also by one that failed and has no value.
        missed = " (**missed**)" if not self.told and any(row["ok"] is False for row in mine) else ""
        label = self.label.format(n=len(rows) or "all")
        return f"| {label} | {reached}{missed} | {self.wanted} | `python -m benchmarks {self.name}` |"

    def _value(self, row: Mapping[str, Any]) -> float:
        found = re.search(self.told, row["note"]) if self.told else None
        return float(row["value"] if found is None else found[1])

    def is_mine(self, row: Mapping[str, Any]) -> bool:
        """Whether it picks a row."""
        return re.search(self.metric, row["metric"]) is not None and self.limit in (None, row["limit"])


CPU: Final = "{:.2f} % of a core"
BEYOND: Final = "CPU beyond the drivers' calls"

LINES: Final = (
    Line("error of a run's energy, counters, worst of {n} cases", "accuracy", ": run$", "{:.3f} %", "0.1 %", 0.1),
    Line(
        "error of a run's energy beyond what the sensor's refresh hides, power sensors, worst of {n} cases",
        "accuracy", ": run$", "{:.2f} %", "1 %", 1.0,
    ),
    Line(
        "the same with what the refresh hides (a load that jumps in step with the sensor is the worst)",
        "accuracy", ": run$", "{:.1f} %", "", 1.0, r"^[+-]([\d.]+) %",
    ),
    Line(
        "error of a 3 s epoch beyond what the sensor's refresh hides, counters",
        "accuracy", ": worst epoch$", "{:.2f} %", "0.5 %", 0.5,
    ),
    Line("the same of an epoch, power sensors", "accuracy", ": worst epoch$", "{:.1f} %", "3 %", 3.0),
    Line("windows with the truth outside the 90 % range", "accuracy", "^all: windows with", "{:.1f} %", "10 %"),
    Line(
        "the same under a load that jumps at random between samples, worst of {n} sensors and loads",
        "ranges", "", "{:.1f} %", "10 %", 10.0,
    ),
    Line("`import aiocarbon` over the bare interpreter", "startup", "^import aiocarbon over", "{:.0f} ms", "60 ms"),
    Line("to enter `async with`, first time in a process", "startup", "^enter, as it is", "{:.0f} ms", "70 ms"),
    Line("the same without a network", "startup", "^enter, without", "{:.0f} ms", "70 ms"),
    Line("process gone after its end", "startup", "^from the end of the program", "{:.0f} ms", "2 s"),
    Line(
        "longest stall of the loop while packages are imported",
        "latency", "", "{:.1f} ms", "15 ms", 15.0,
    ),
    Line("longest stall of the loop later", "latency", "", "{:.1f} ms", "3 ms", 3.0),
    Line(
        "how late a coroutine wakes (p99), worst of {n} phases, loops and networks",
        "lateness", ": while it", "{:.2f} ms", "3 ms", 3.0,
    ),
    Line("`await tracker.epoch()`, median", "latency", r": await epoch\(\), median$", "{:.2f} ms", "1 ms"),
    Line("`tracker.step()`", "latency", r"step\(\), median", "{:.2f} us", "2 us"),
    Line(f"{BEYOND}, one RAPL socket", "overhead", "^one RAPL socket$", CPU, "0.1 %"),
    Line(f"{BEYOND}, eight GPUs and four zones", "overhead", "^eight GPUs and four zones$", CPU, "0.15 %"),
    Line(f"{BEYOND}, power-only GPU, read every 20 ms", "overhead", "^power-only GPU, read every 20 ms$", CPU, "1 %"),
    Line("1,000 counters read every second", "scale", "^1,000 counters every second: of a core", CPU, ""),
    Line("128 power sensors read every 20 ms", "scale", "^128 power sensors every 20 ms: of a core", CPU, ""),
    Line("resident memory with everything running", "memory", "interpreter, all running$", "{:.1f} MiB", "40 MiB"),
    Line("growth of a curve over 10 million readings", "memory", "^growth over 10 million", "{:.1f} MiB", "1 MiB"),
    Line(
        "growth of the whole engine beyond the ten minutes of points that it keeps",
        "memory", "^growth through the engine beyond", "{:.1f} MiB", "2 MiB",
    ),
    Line(
        "a span, entered and left, worst of {n} forms (asyncio, uvloop, sync, tagged)",
        "spans", ": enter and leave, ", "{:.1f} us", "3 us",
    ),
    Line("10,000 spans open, 1,000 edges/s", "spans", "", CPU, "5 %", 5.0),
    Line("end of a run of a million spans, worst of {n} ways", "spans", "the run's end$", "{:.2f} s", "1 s", 1.0),
    Line("growth by a further million spans", "spans", "growth of memory", "{:.1f} MiB", "4 MiB"),
    Line("spans and the rest against the run", "spans", "against the run", "{:.0e}", "1e-9"),
    Line(
        "another process reads when the reader is killed or stopped, worst",
        "one_reader", "^worst take-over", "{:.2f} s", "2 s",
    ),
    Line(
        "journals of 10,000 nodes and an hour merged, worst of {n}",
        "cluster", "CPU time on one core$", "{:.1f} s", "20 s", 20.0,
    ),
    Line("memory of that beyond 1,000 nodes'", "cluster", "growth of the largest", "{:.1f} MiB", "16 MiB"),
    Line(
        "longest stall of the loop by a source, while packages are imported, worst of {n} ways to answer",
        "grid", "in the first run$", "{:.1f} ms", "15 ms", 15.0,
    ),
    Line("the same later", "grid", "in a later run$", "{:.1f} ms", "3 ms", 3.0),
    Line("`when` over 7 days, the slowest case", "when", "", "{:.0f} ms", "200 ms", 200.0),
    Line("one prediction after 100,000 epochs", "prediction", "^one call after 100000 epochs", "{:.0f} us", "100 us"),
    Line("energy of a run killed and resumed, worst", "durability", "^energy of a resumed run", "{:.1e}", "0.5 %"),
    Line("1,000 journals of an hour with ten devices reported", "records", "", "{:.1f} s", "10 s", 10.0),
    Line("a journal of 30 days reported", "records", "", "{:.1f} s", "3 s", 3.0),
    Line("page of a day drawn in Chromium", "page", "^until a day's page is drawn whole", "{:.2f} s", "1 s"),
    Line(
        "the slowest hook in a training framework between its begin and its end, the median",
        "frameworks", "slowest hook", "{:.2f} ms", "1 ms",
    ),
)  # fmt: skip


def rows_of(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Rows]:
    """The rows of results by the benchmark's name.

    Args:
        results: What `table.read` gives.
    """
    return {name: result["rows"] for name, result in results.items()}


def where(results: Mapping[str, Mapping[str, Any]]) -> str:
    """On which machines the results of the table were had: what most have, and which have another.

    Args:
        results: What `table.read` gives.
    """
    names: dict[str, list[str]] = {}
    for name in sorted({line.name for line in LINES} & results.keys()):
        machine = results[name]["machine"]
        names.setdefault(f"{machine['cpu']}, {machine['cores']} cores", []).append(name)
    first, *others = sorted(names, key=lambda machine: -len(names[machine]))
    return "; ".join([first, *(f"{machine}: {', '.join(f'`{n}`' for n in names[machine])}" for machine in others)])


def block(results: Mapping[str, Mapping[str, Any]]) -> str:
    """What stands in the README between its two marks.

    Args:
        results: What `table.read` gives.
    """
    rows = rows_of(results)
    lines = "\n".join(line.text(rows) for line in LINES)
    table = f"| | reached | wanted | command |\n|---|---|---|---|\n{lines}\n"
    introduction = textwrap.fill(INTRODUCTION.format(where=where(results)), 120, break_on_hyphens=False)
    return f"<!-- figures -->\n{introduction}\n\n{table}\n{CLOSE}<!-- /figures -->\n"


def peers() -> str:
    """The same for the table of the tools that users know."""
    return f"<!-- peers -->\n{table.table(table.read())}\n<!-- /peers -->\n"


def main() -> None:
    """Bring the README up to what is kept."""
    text = README.read_text(encoding="utf-8")
    text = BLOCK.sub(lambda _: block(table.read()), text)
    README.write_text(PEERS.sub(lambda _: peers(), text), encoding="utf-8")


if __name__ == "__main__":
    main()
