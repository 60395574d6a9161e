"""A compiled libnvidia-ml.so.1 whose GPUs follow a scenario file (format: top of fake_nvml.c; truth: benchmarks.truth).

A program run with `child_environ` meets those GPUs through any NVML binding, unmodified.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("fake_nvml.c")
LIBRARY: Final = "libnvidia-ml.so.1"
SCENARIO_VARIABLE: Final = "AIOCARBON_FAKE_NVML"
T0_VARIABLE: Final = "AIOCARBON_FAKE_NVML_T0"

# No contraction to fused operations: the Python twin rounds after each one.
_FLAGS: Final = (
    "-O2",
    "-std=gnu11",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
)


class NoCompilerError(RuntimeError):
    """The fake NVML cannot be built on this machine; the message says why."""


def build(directory: Path, *, compilers: Sequence[str] = ("cc", "gcc", "clang")) -> Path:
    """Compile the library into a folder of its own below `directory`, unless this source is compiled there already.

    Args:
        directory: Made if it is missing. Several processes may build into it at once.
        compilers: Names of C compilers, the first found is used.

    Returns:
        Path of the library; its folder is what LD_LIBRARY_PATH needs.

    Raises:
        NoCompilerError: This is no Linux, there is no C compiler, or it failed.
    """
    if not sys.platform.startswith("linux"):
        raise NoCompilerError(f"the fake NVML is made for Linux, and this is {sys.platform}")
    compiler = next(filter(None, map(shutil.which, compilers)), None)
    if compiler is None:
        raise NoCompilerError(f"no C compiler among {', '.join(compilers)}; install one, such as: apt-get install gcc")
    version = hashlib.sha256(SOURCE.read_bytes() + " ".join(_FLAGS).encode()).hexdigest()[:16]
    library = directory.absolute() / version / LIBRARY
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=library.parent, suffix=".so")
    os.close(handle)
    command = [compiler, *_FLAGS, "-o", unfinished, str(SOURCE), "-lm", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        Path(unfinished).unlink()
        raise NoCompilerError(f"{' '.join(command)} failed:\n{done.stderr}")
    Path(unfinished).chmod(0o755)
    os.replace(unfinished, library)  # whole or not at all, for others who build at the same time
    return library


def child_environ(
    library: Path, scenario: Path, *, t0_ns: int | None = None, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The environment in which a child process meets the GPUs of a scenario.

    Args:
        library: What `build` returned.
        scenario: The scenario file.
        t0_ns: Scenario time zero in nanoseconds of CLOCK_MONOTONIC; None: now.
        environ: What the child's environment is made from; variables that hide GPUs are left out.
    """
    hiding = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
    child = {name: value for name, value in environ.items() if name not in hiding}
    paths = [str(library.parent), environ.get("LD_LIBRARY_PATH", "")]
    child["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
    child[SCENARIO_VARIABLE] = str(scenario.absolute())
    child[T0_VARIABLE] = str(time.monotonic_ns() if t0_ns is None else t0_ns)
    return child
