"""`python -m benchmarks NAME [--json FILE] [--quick] [--plot DIR]`: one benchmark, a group of them, or `all`.

The exit code is 1 if a limit is missed, 130 after Ctrl-C: what was measured until then is told. What is compared with
other tools needs `pip install 'aiocarbon[bench]'`, or the interpreter of an environment that has it in
AIOCARBON_BENCH_PYTHON; where a tool is missing its rows say so.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import plots
from benchmarks import result as results
from benchmarks.result import ENDED, RESULTS, Result, Row

NAMES: Final = (
    "accuracy", "accuracy_peers", "ranges", "hardware", "startup", "startup_peers", "latency", "lateness", "grid",
    "when", "overhead", "training", "memory", "one_reader", "cluster", "prediction", "spans", "scale", "durability",
    "records", "page", "frameworks",
)  # fmt: skip
GROUPS: Final = {
    "accuracy": ("accuracy", "accuracy_peers", "ranges", "hardware"),
    "startup": ("startup", "startup_peers"),
    "latency": ("latency", "lateness", "grid", "spans"),
    "overhead": ("overhead", "training"),
    "scale": ("scale", "memory", "cluster", "records"),
    "all": NAMES,
}
"""What a name stands for, unless `--alone` is asked: the question asked of us, then beside the tools of others."""

ONLY: Final = ("accuracy", "accuracy_peers", "training")
"""Those whose cases can be chosen."""

CTRL_C: Final = 130
"""Exit code of a program that Ctrl-C ended, as shells have it."""


def main(argv: Sequence[str]) -> int:
    """Run what was asked for and print its tables.

    Returns:
        0 if every limit was kept, else 1; `CTRL_C` if that ended it.
    """
    asked = _parsed(argv)
    names = (asked.name,) if asked.alone else GROUPS.get(asked.name, (asked.name,))
    done: list[Result] = []
    is_ended = False
    if asked.plot and importlib.util.find_spec("matplotlib") is None:  # told before the hours that it takes
        print(f"nothing will be drawn: {plots.REMEDY}", flush=True)
        asked.plot = None
    for name in (name for name in names if not asked.only or name in ONLY):
        try:
            result, is_whole = _run(name, asked)
        except KeyboardInterrupt:
            print(f"{name}: ended by Ctrl-C", flush=True)
            is_ended = True
            break
        if asked.only and not result.rows:
            continue
        print(result.to_text() + "\n", flush=True)
        if asked.keep and is_whole:
            _write(RESULTS / f"{name}.json", result.to_json())
        elif asked.keep:
            print(f"{name}: not kept, for it did not come to its end\n", flush=True)
        done.append(result)
        if asked.json:  # after each: what ends early leaves what it has
            _write(asked.json, _json(done))
        if is_ended := any(row.note == ENDED for row in result.rows):
            break
    if is_ended:
        return CTRL_C
    if not done:
        print(f"no case holds {asked.only!r}")
        return 1
    if asked.plot:
        _plot(done, asked.plot)
    return 0 if all(row.ok is not False for result in done for row in result.rows) else 1


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    groups = ", ".join(name for name in GROUPS if name != "all")
    parser.add_argument(
        "name", choices=(*NAMES, "all"), help=f"{groups} stand for groups of them, unless --alone is asked"
    )
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
    if asked.keep and asked.quick:
        parser.error("--keep keeps results, and --quick makes none")
    if asked.json and not (asked.json.parent.is_dir() and os.access(asked.json.parent, os.W_OK)):
        parser.error(f"--json: no file can be written in {asked.json.parent}")
    if asked.only and asked.keep:
        parser.error("--keep keeps whole results, and --only makes a part of one")
    return asked


def _run(name: str, asked: argparse.Namespace) -> tuple[Result, bool]:
    """A benchmark's result, and whether it came to its end."""
    benchmark = importlib.import_module(f"benchmarks.{name}")
    options = (" --quick" if asked.quick else "") + (f" --only {asked.only!r}" if asked.only else "")
    more: dict[str, Any] = {"only": asked.only} if asked.only else {}
    began = time.monotonic()
    is_whole, versions = True, results.versions()
    try:
        rows = benchmark.run(quick=asked.quick, **more)
        versions = getattr(benchmark, "versions", results.versions)()
    except Exception as error:  # one that fails is told, and the others go on
        traceback.print_exc()
        why = f"failed: {type(error).__name__}: {error}".strip().splitlines()
        rows, is_whole = [Row(name, None, "", ok=False, note=" ... ".join(dict.fromkeys((why[0], why[-1]))))], False
    result = Result(
        name=name,
        question=benchmark.QUESTION,
        command=f"python -m benchmarks {name}{options}",
        quick=asked.quick,
        rows=rows,
        versions=versions,
        took_s=round(time.monotonic() - began, 1),
    )
    return result, is_whole and all(row.note != ENDED for row in rows)


def _write(path: Path, text: str) -> None:
    """Put a file in the place of what is there: wholly, or, where it cannot be written, not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        print(f"not written: {path}: {error.strerror}", flush=True)


def _json(done: Sequence[Result]) -> str:
    if len(done) == 1:
        return done[0].to_json()
    return json.dumps([result.to_dict() for result in done], indent=1, ensure_ascii=False) + "\n"


def _plot(done: Sequence[Result], folder: Path) -> None:
    try:
        drawn = plots.draw(done, folder)
    except (ImportError, OSError) as error:
        print(f"not drawn: {error}")
        return
    for line in drawn:
        print(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
