"""The README's table of aiocarbon beside the tools that its users know, from the results that are kept, as Markdown.

It shows what the files hold: a figure that no file holds is a dash, a result that is not kept is named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.accuracy_peers import SCENES
from benchmarks.contenders import ASYNC, PEERS
from benchmarks.result import ENDED, RESULTS
from benchmarks.startup_peers import FIGURES

WHO: Final = (ASYNC, *PEERS)
COSTS: Final = ("begin_ms", "stall_ms", "rss_mib", "cpu_s")
STEPS: Final = ("numpy", "cnn", "transformer")
NAMES: Final = ("accuracy_peers", "startup_peers", "training")


def read(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """The kept results, by the benchmark's name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The table.

    Args:
        results: What `read` gives; those of other benchmarks are left alone.

    Returns:
        Markdown: a line for each question, a column for each contender with its version, and where it comes from.
    """
    results = {name: results[name] for name in NAMES if name in results}
    versions: dict[str, str] = {}
    for result in results.values():
        versions |= result["versions"]
    heads = [f"{entry.package} {versions.get(entry.package, '')}".strip() for entry in WHO]
    lines = [f"| | {' | '.join(heads)} | from |", "|---" * (len(WHO) + 2) + "|"]
    for scene in SCENES:
        metrics = [f"{scene.name}: {entry.name}" for entry in WHO]
        lines.append(_line(f"error of the energy: {scene.name}", results, "accuracy_peers", metrics))
    for key in FIGURES:
        label, _ = FIGURES[key]
        metrics = [f"{label}: {entry.name}" for entry in WHO]
        line = _line(label, results, "startup_peers", metrics)
        if key in COSTS or "missed" in line:  # a miss is never left out
            lines.append(line)
    for step in STEPS:
        metrics = [f"{step}, {entry.name}: CPU time of a step" for entry in WHO]
        lines.append(_line(f"CPU time of a step more (95 % interval): {step}", results, "training", metrics))
    lacking = [name for name in NAMES if name not in results]
    told = [f"Not kept yet: {', '.join(f'`python -m benchmarks {name}`' for name in lacking)}.  "] if lacking else []
    held = [line for line in lines if not any(line.endswith(f"`python -m benchmarks {name}` |") for name in lacking)]
    return "\n".join([*held, "", *_about(results), *told])


def _line(label: str, results: Mapping[str, Mapping[str, Any]], name: str, metrics: Sequence[str]) -> str:
    rows = {row["metric"]: row for row in results.get(name, {}).get("rows", ())}
    cells = []
    for metric in metrics:
        # What was asked of a change stands in rows beside it: that it is told from none, and how narrowly.
        asked = [row["ok"] for other, row in rows.items() if other.startswith(f"{metric.partition(': ')[0]}: ")]
        cells.append(_cell(rows.get(metric), is_missed=name == "training" and False in asked))
    return f"| {label} | {' | '.join(cells)} | `python -m benchmarks {name}` |"


def _cell(row: Mapping[str, Any] | None, *, is_missed: bool) -> str:
    if row is None:
        return "-"
    if row["value"] is None:
        return "fails" if not row["note"].startswith(("not installed", "torch is not", ENDED)) else "-"
    missed = " (**missed**)" if row["ok"] is False or is_missed else ""
    value = row["value"]
    interval = re.match(r"95 % interval (\S+ to \S+)", row["note"])
    if interval is not None:  # a change, which may be none
        return f"{value:+.2f} % ({interval[1]}){missed}"
    number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{number} {row['unit']}".rstrip() + missed


def _about(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where, when and of what the results are; a quick one says so."""
    told = []
    for name, result in results.items():
        machine = result["machine"]
        quick = ", a quick run and no result" if result["quick"] else ""
        told.append(f"{name}: {machine['cpu']}, {machine['cores']} cores, commit {result['commit']}{quick}.  ")
    return told
