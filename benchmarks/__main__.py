"""`python -m benchmarks NAME [--json FILE] [--quick] [--plot DIR]`: one benchmark, a group of them, or `all`.

The exit code is 1 if a limit is missed. What is compared with other tools needs `pip install 'aiocarbon[bench]'`, or
the interpreter of an environment that has it in AIOCARBON_BENCH_PYTHON; where a tool is missing its rows say so.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import result as results
from benchmarks.result import RESULTS, Result, Row

NAMES: Final = (
    "accuracy", "accuracy_peers", "hardware", "startup", "startup_peers", "latency", "lateness", "grid", "when",
    "overhead", "training", "memory", "one_reader", "cluster", "prediction", "spans", "scale", "durability", "records",
    "page", "frameworks",
)  # fmt: skip
GROUPS: Final = {
    "accuracy": ("accuracy", "accuracy_peers", "hardware"),
    "startup": ("startup", "startup_peers"),
    "latency": ("latency", "lateness", "grid", "spans"),
    "overhead": ("overhead", "training"),
    "scale": ("scale", "memory", "cluster", "records"),
    "all": NAMES,
}
"""What a name stands for, unless `--alone` is asked: the question asked of us, then beside the tools of others."""

ONLY: Final = ("accuracy", "accuracy_peers", "training")
"""Those whose cases can be chosen."""


def main(argv: Sequence[str]) -> int:
    """Run what was asked for and print its tables.

    Returns:
        0 if every limit was kept, else 1.
    """
    asked = _parsed(argv)
    names = (asked.name,) if asked.alone else GROUPS.get(asked.name, (asked.name,))
    done: list[Result] = []
    for name in (name for name in names if not asked.only or name in ONLY):
        result = _run(name, asked)
        if asked.only and not result.rows:
            continue
        print(result.to_text() + "\n", flush=True)
        if asked.keep:
            (RESULTS / f"{name}.json").write_text(result.to_json(), encoding="utf-8")
        done.append(result)
        if asked.json:  # after each: what ends early leaves what it has
            asked.json.write_text(_json(done), encoding="utf-8")
    if not done:
        print(f"no case holds {asked.only!r}")
        return 1
    if asked.plot:
        _plot(done, asked.plot)
    return 0 if all(row.ok is not False for result in done for row in result.rows) else 1


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=(*NAMES, "all"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too; of several, a list")
    parser.add_argument("--quick", action="store_true", help="shorter runs: a check that it works, not a result")
    parser.add_argument(
        "--only", metavar="TEXT", default="", help=f"cases whose name holds this text: {', '.join(ONLY)}"
    )
    parser.add_argument("--alone", action="store_true", help="this benchmark without the others of its group")
    parser.add_argument("--keep", action="store_true", help="write the results into benchmarks/results")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw them there as SVG and PNG; needs matplotlib")
    asked = parser.parse_args(argv)
    if asked.only and asked.name not in ONLY:
        parser.error(f"--only goes with {', '.join(ONLY)}")
    if asked.only and asked.keep:
        parser.error("--keep keeps whole results, and --only makes a part of one")
    return asked


def _run(name: str, asked: argparse.Namespace) -> Result:
    benchmark = importlib.import_module(f"benchmarks.{name}")
    options = (" --quick" if asked.quick else "") + (f" --only {asked.only!r}" if asked.only else "")
    more: dict[str, Any] = {"only": asked.only} if asked.only else {}
    began = time.monotonic()
    try:
        rows = benchmark.run(quick=asked.quick, **more)
    except Exception as error:  # one that fails is told, and the others go on
        traceback.print_exc()
        rows = [Row(name, None, "", ok=False, note=f"failed: {type(error).__name__}: {error}")]
    return Result(
        name=name,
        question=benchmark.QUESTION,
        command=f"python -m benchmarks {name}{options}",
        quick=asked.quick,
        rows=rows,
        versions=getattr(benchmark, "versions", results.versions)(),
        took_s=round(time.monotonic() - began, 1),
    )


def _json(done: Sequence[Result]) -> str:
    if len(done) == 1:
        return done[0].to_json()
    return json.dumps([result.to_dict() for result in done], indent=1, ensure_ascii=False) + "\n"


def _plot(done: Sequence[Result], folder: Path) -> None:
    from benchmarks import plots

    try:
        drawn = plots.draw(done, folder)
    except ImportError:
        print(f"nothing is drawn: {plots.REMEDY}")
        return
    for line in drawn:
        print(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
