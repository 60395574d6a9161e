"""Who is compared: no tracker, aiocarbon in its three skins, and the tools that its users know.

Each is a small module here that does what the tool's own documents say; each runs in a process of its own, under the
interpreter of `python()`, cut off from every network. One that is not installed there is told so and never left out.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from benchmarks.result import PACKAGES, child

PYTHON_VARIABLE: Final = "AIOCARBON_BENCH_PYTHON"
"""Names the interpreter of an environment with `aiocarbon[bench]`; else the contenders run under this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a contender says of a run, of the kind of device that was asked for.

    Attributes:
        duration_s: How long it says that it measured; None if it does not say.
        energy_j: IT energy (without PUE) in that time, joules; None if it says none.
        epochs_j: Of each epoch; None where it says none.
        tasks_j: Of each task by its name; None where it says none.
    """

    duration_s: float | None = None
    energy_j: float | None = None
    epochs_j: Sequence[float | None] = ()
    tasks_j: Mapping[str, float | None] = field(default_factory=dict)


class Contender(Protocol):
    """A tracker as a training in an event loop would use it; one that blocks does so there as well.

    Attributes:
        joins: True if an epoch begins where the last one ended, False if there is a time between them.
        has_run: False if it knows no run beside its epochs.
    """

    joins: bool
    has_run: bool

    async def enter(self) -> None:
        """Begin to measure."""
        ...

    async def epoch(self) -> None:
        """End an epoch and begin the next one; the first begins with `begin_epochs`."""
        ...

    async def begin_epochs(self) -> None:
        """Begin the first epoch."""
        ...

    def task(self, name: str) -> AbstractAsyncContextManager[None]:
        """A piece of work with a total of its own; several may be open at once."""
        ...

    async def exit(self) -> None:
        """Measure no more."""
        ...

    def said(self) -> Said:
        """What it says afterwards."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A contender in the tables.

    Attributes:
        name: In the tables.
        module: In this package.
        maker: Class in it; called with the asked meters ("gpu", "cpu" or "all") and the interval or None.
        package: What has to be installed; "" for nothing.
        imports: What its users import.
        is_ours: True for aiocarbon.
        note: How it is used, where that needs a word.
        lacks: What part of the work it leaves out, so that its time to enter and its CPU time are no measure; "" if it
            does what the others do.
    """

    name: str
    module: str
    maker: str
    package: str
    imports: str = "pass"
    is_ours: bool = False
    note: str = ""
    lacks: str = ""


NONE: Final = Entry(name="no tracker", module="untracked", maker="Untracked", package="")
ASYNC: Final = Entry(
    name="aiocarbon async",
    module="ours",
    maker="Async",
    package="aiocarbon",
    imports="import aiocarbon",
    is_ours=True,
)
SYNC: Final = Entry(
    name="aiocarbon sync",
    module="ours",
    maker="Sync",
    package="aiocarbon",
    imports="import aiocarbon.sync",
    is_ours=True,
)
PEERS: Final = (
    Entry(
        name="carbontracker",
        module="carbontracker_",
        maker="Carbontracker",
        package="carbontracker",
        imports="from carbontracker.tracker import CarbonTracker",
        note="its PUE of 1.58 divided out",
    ),
    Entry(
        name="codecarbon",
        module="codecarbon_",
        maker="Codecarbon",
        package="codecarbon",
        imports="import codecarbon",
        note="OfflineEmissionsTracker, no file",
    ),
    Entry(
        name="zeus",
        module="zeus_",
        maker="Zeus",
        package="zeus",
        imports="from zeus.monitor import ZeusMonitor",
        note="sync_execution=False: no framework holds the GPU here",
        lacks="no CO2eq, and it reads nothing between marks",
    ),
)
TRACKERS: Final = (ASYNC, SYNC, *PEERS)
ALL: Final = (NONE, *TRACKERS)
BY_NAME: Final = {entry.name: entry for entry in ALL}


def python(environ: Mapping[str, str] = os.environ) -> str:
    """The interpreter that contenders run under."""
    return environ.get(PYTHON_VARIABLE) or sys.executable


ASK: Final = """
import json, sys
from importlib import metadata
found = {}
for name in json.loads(sys.argv[1]):
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
try:
    import aiocarbon
except ImportError as error:
    found["why"] = str(error)
else:
    found.setdefault("aiocarbon", aiocarbon.__version__)
print(json.dumps(found))
"""


@functools.lru_cache(maxsize=4)
def _found(interpreter: str) -> dict[str, str]:
    names = sorted({*PACKAGES, "numpy", "torch", "matplotlib", *(entry.package for entry in ALL if entry.package)})
    found: dict[str, str] = child(ASK, json.dumps(names), python=interpreter)
    return found


def versions() -> dict[str, str]:
    """Versions of what is installed where contenders run; "why" tells why aiocarbon cannot be imported there."""
    return dict(_found(python()))


def why_not(entry: Entry) -> str:
    """Why a contender cannot take part; empty if it can."""
    found = versions()
    if entry.package and entry.package not in found:
        if entry.is_ours:
            return f"aiocarbon cannot be imported by {python()}: {found.get('why', '')}"
        return f"not installed: pip install 'aiocarbon[bench]', or name its interpreter in {PYTHON_VARIABLE}"
    return ""


def make(name: str, meters: str = "all", interval_s: float | None = None) -> Contender:
    """A contender of this name, not yet begun; in the process that it is measured in.

    Args:
        name: Of an `Entry`.
        meters: "gpu", "cpu", or "all" that it finds.
        interval_s: Seconds between its readings; None: its own default.
    """
    entry = BY_NAME[name]
    module = importlib.import_module(f"benchmarks.contenders.{entry.module}")
    contender: Contender = getattr(module, entry.maker)(meters, interval_s)
    return contender


def in_child(
    function: str,
    asked: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    timeout_s: float = 600.0,
    cwd: Path | str = "/",
) -> Any:
    """Run `benchmarks.workloads.MODULE:FUNCTION(asked)` under the contenders' interpreter; what it returns.

    Whatever the contender prints goes to stderr.

    Raises:
        ChildError: It failed or took too long.
    """
    module, _, name = function.partition(":")
    code = (
        "import json, os, sys\n"
        "told = os.fdopen(os.dup(1), 'w'); os.dup2(2, 1)\n"
        "from benchmarks.contenders.offline import cut\n"
        "cut()\n"
        f"from benchmarks.workloads.{module} import {name}\n"
        "print(json.dumps(" + name + "(json.loads(sys.argv[1]))), file=told, flush=True)\n"
    )
    told = json.dumps(asked)
    return child(code, told, environ=environ, before=before, timeout_s=timeout_s, python=python(), cwd=cwd)


def threads_environ(threads: int, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which numeric libraries use so many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    made = dict(os.environ if environ is None else environ)
    return made | {name: str(threads) for name in names}


def succeeds(code: str) -> bool:
    """Whether the contenders' interpreter runs some code without an error."""
    done = subprocess.run([python(), "-c", code], capture_output=True, check=False, timeout=120)
    return done.returncode == 0
