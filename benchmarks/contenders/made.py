"""A machine whose joules are known, for unmodified programs: GPUs by the compiled fake NVML, CPUs by a powercap tree.

The tree is put over /sys/class in a mount namespace of the child's own, which needs no root where the kernel lets a
user make one; /sys/class is then empty but for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.fake_nvml import NoCompilerError, build, child_environ
from benchmarks.result import ROOT, with_root

ONE_GPU: Final = "gpu NVIDIA H100\nwave 0 square 2 0.5 60 600\n"
RANGE_UJ: Final = 5_000_000_000
"""Where the tree's counters wrap: 5 kJ, more than passes between two readings of the rarest reader (15 s), as the real
65 kJ and 262 kJ are. That a run holds a wrap is `moved`'s matter."""


def library() -> tuple[Path | None, str]:
    """The fake NVML, and why there is none."""
    try:
        return build(ROOT / "benchmarks" / "fake_nvml" / "build"), ""
    except NoCompilerError as error:
        return None, str(error)


def gpus(
    made: Path | None,
    scenario: str,
    folder: Path,
    *,
    t0_ns: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The environment of a child that meets GPUs.

    Args:
        made: The library; None: the machine's own GPUs are all there are.
        scenario: Their text.
        folder: Where its files are put.
        t0_ns: Scenario time zero on CLOCK_MONOTONIC; None: now.
        environ: What it is made from.
    """
    if made is None:
        return dict(environ)
    file, tools = folder / "scenario", folder / "tools"
    file.write_text(scenario)
    tools.mkdir(exist_ok=True)
    smi = tools / "nvidia-smi"
    # Where there is a driver there is this program; codecarbon takes its presence as the sign of one.
    smi.write_text("#!/bin/sh\nexit 0\n")
    smi.chmod(0o755)
    path = os.pathsep.join((str(tools), environ.get("PATH", "")))
    return child_environ(made, file, t0_ns=t0_ns, environ={**environ, "PATH": path})


def powercap(folder: Path, sockets: int = 1) -> list[Path]:
    """A tree as the kernel lays it out, with its counters at zero.

    Args:
        folder: Where; it must not exist.
        sockets: How many packages.

    Returns:
        The files that hold the counters, as the child sees them moved: links are kept.
    """
    control = folder / "intel-rapl"
    control.mkdir(parents=True)
    (control / "subsystem").symlink_to("..")
    (control / "enabled").write_text("1\n")
    files = []
    for index in range(sockets):
        zone = control / f"intel-rapl:{index}"
        zone.mkdir()
        (zone / "name").write_text(f"package-{index}\n")
        (zone / "enabled").write_text("1\n")
        (zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        (zone / "energy_uj").write_text("0\n")
        (folder / f"intel-rapl:{index}").symlink_to(f"intel-rapl/intel-rapl:{index}")
        files.append(zone / "energy_uj")
    return files


MOVER: Final = """
import math, os, sys, time
from benchmarks import truth
gpu = truth.parse(sys.argv[1]).gpus[0]
parent, t0_ns, range_uj, zero_s = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
files = [os.open(name, os.O_WRONLY) for name in sys.argv[6:]]
step = round(gpu.counter_s * 1e9)
zero_j = gpu.trace.energy_j(zero_s)
while os.getppid() == parent:  # whoever inherits it, process 1 or another: it ends
    since = (time.monotonic_ns() - t0_ns) // step
    value = int((gpu.trace.energy_j(since * step * 1e-9) - zero_j) * 1e6) % range_uj
    for file in files:
        os.pwrite(file, f"{value:<12d}\\n".encode(), 0)  # as long each time: whoever reads meanwhile reads a number
    time.sleep(max(((since + 1) * step + t0_ns - time.monotonic_ns()) * 1e-9, 0.0))
"""


@contextmanager
def moved(files: Sequence[Path], text: str, t0_ns: int, zero_s: float = 0.0) -> Iterator[None]:
    """Counters of a tree move as the first device of a scenario says, as often as its counter is refreshed.

    Args:
        files: That hold the counters, in microjoules.
        text: The scenario.
        t0_ns: Its time zero on CLOCK_MONOTONIC.
        zero_s: Scenario time at which the counters stand at zero: what comes before is short of a wrap there.
    """
    told = (str(os.getpid()), str(t0_ns), str(RANGE_UJ), repr(zero_s))
    command = [sys.executable, "-c", MOVER, text, *told, *map(str, files)]
    mover = subprocess.Popen(command, env=with_root(os.environ))
    try:
        yield
    finally:
        mover.kill()
        mover.wait()


def over_sys_class(folder: Path) -> Sequence[str]:
    """A command put before another one, which then finds a tree at /sys/class/powercap.

    The files of the tree are bound, not copied: whoever writes into `folder` moves the counters that the child reads.
    """
    script = (
        "mount -t tmpfs none /sys/class && mkdir /sys/class/powercap && "
        'mount --bind "$0" /sys/class/powercap && exec "$@"'
    )
    return ("unshare", "-rm", "sh", "-c", script, str(folder))


def why_no_powercap(folder: Path) -> str:
    """Why a child cannot be shown a tree; empty if it can."""
    if shutil.which("unshare") is None:
        return "there is no program unshare"
    command = [*over_sys_class(folder), "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode == 0:
        return ""
    return f"no powercap tree can be shown: {' '.join(done.stderr.split()) or 'this user may make no mount namespace'}"
