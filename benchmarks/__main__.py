"""`python -m benchmarks NAME [--json FILE] [--quick]`: one benchmark, or `all`; exit code 1 if a limit is missed."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.result import RESULTS, Result

NAMES: Final = (
    "accuracy", "startup", "latency", "grid", "when", "overhead", "memory", "one_reader", "cluster", "prediction",
    "spans", "durability", "records",
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Run what was asked for and print its table.

    Returns:
        0 if every limit was kept, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=(*NAMES, "all"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
    parser.add_argument("--quick", action="store_true", help="shorter runs: a check that it works, not a result")
    parser.add_argument("--only", metavar="TEXT", default="", help="cases of accuracy whose name holds this text")
    parser.add_argument("--keep", action="store_true", help="write the result into benchmarks/results")
    asked = parser.parse_args(argv)
    if asked.json and asked.name == "all":
        parser.error("--json takes one benchmark; --keep keeps all")
    if asked.only and asked.name != "accuracy":
        parser.error("--only goes with accuracy")
    is_good = True
    for name in NAMES if asked.name == "all" else (asked.name,):
        benchmark = importlib.import_module(f"benchmarks.{name}")
        options = (" --quick" if asked.quick else "") + (f" --only {asked.only!r}" if asked.only else "")
        command = f"python -m benchmarks {name}{options}"
        rows = benchmark.run(quick=asked.quick, **({"only": asked.only} if asked.only else {}))
        result = Result(name=name, question=benchmark.QUESTION, command=command, quick=asked.quick, rows=rows)
        print(result.to_text() + "\n", flush=True)
        for path in filter(None, (asked.json, RESULTS / f"{name}.json" if asked.keep else None)):
            path.write_text(result.to_json(), encoding="utf-8")
        is_good = is_good and all(row.ok is not False for row in rows)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
