"""The form of every benchmark's result, and how it is printed, kept and how subjects are run.

A benchmark is a module here with `NAME`, `QUESTION` and `run(quick) -> list[Row]`. What is measured runs in child
processes, so that one contender never warms another one up.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = Path(__file__).with_name("results")
OURS: Final = "AIOCARBON_"
ENDED: Final = "ended by Ctrl-C before"
"""The note of a figure that was still to be taken as Ctrl-C came; what is such has rows of this kind."""
PACKAGES: Final = ("aiocarbon", "anyio", "nvidia-ml-py", "structlog", "tenacity", "uvloop")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        metric: What was measured.
        value: The figure; None where it could not be measured, `note` then says why.
        unit: Its unit.
        limit: What it may be at most; None for a figure that only explains others.
        ok: Whether the limit is kept; None without one, or without a figure.
        note: Spread, conditions, reasons.
        data: The single values behind the figure, where a plot needs them.
    """

    metric: str
    value: float | None
    unit: str
    limit: float | None = None
    ok: bool | None = None
    note: str = ""
    data: tuple[float, ...] = ()


def at_most(metric: str, value: float, unit: str, limit: float, note: str = "") -> Row:
    """A figure that keeps its limit if it is not above it; what is not finite keeps none."""
    return Row(metric, value, unit, limit, math.isfinite(value) and value <= limit, note)


def info(metric: str, value: float, unit: str, note: str = "") -> Row:
    """A figure without a limit."""
    return Row(metric, value, unit, note=note)


def skipped(metric: str, unit: str, why: str, limit: float | None = None) -> Row:
    """A figure that could not be had here."""
    return Row(metric, None, unit, limit, note=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A benchmark's result, as `--json` writes it."""

    name: str
    question: str
    command: str
    quick: bool
    rows: list[Row]
    machine: dict[str, str | int] = field(default_factory=lambda: machine())
    versions: dict[str, str] = field(default_factory=lambda: versions())
    commit: str = field(default_factory=lambda: commit())
    took_s: float | None = None

    def to_json(self) -> str:
        """The result as JSON text."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON has it: a row without single values has no word of them, what is not finite is null."""
        made = asdict(self)
        for row in made["rows"]:
            if row["value"] is not None and not math.isfinite(row["value"]):
                row["note"] = f"{row['value']}; {row['note']}".removesuffix("; ")
                row["value"] = None
            if not row["data"]:
                del row["data"]
        return made

    def to_text(self) -> str:
        """The result as a table for people."""
        about = f"{self.machine['cpu']}, {self.machine['cores']} cores, Python {self.machine['python']}"
        took = "" if self.took_s is None else f", {self.took_s:.0f} s"
        lines = [f"{self.name}: {self.question}", f"{about}, commit {self.commit}, {self.command}{took}", ""]
        table = [("", "", "limit", "", "")]
        for row in self.rows:
            value = "-" if row.value is None else f"{row.value:.4g} {row.unit}"
            limit = "" if row.limit is None else f"{row.limit:g} {row.unit}"
            verdict = {True: "ok", False: "MISSED", None: ""}[row.ok]
            table.append((row.metric, value, limit, verdict, row.note))
        widths = [max(len(line[i]) for line in table) for i in range(4)]
        for metric, value, limit, verdict, note in table:
            columns = (
                metric.ljust(widths[0]),
                value.rjust(widths[1]),
                limit.rjust(widths[2]),
                verdict.ljust(widths[3]),
            )
            lines.append("  ".join((*columns, note)).rstrip())
        return "\n".join(lines)


def machine() -> dict[str, str | int]:
    """Where this runs."""
    cpu = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not a Linux: the platform module's word stays
    return {"cpu": cpu, "cores": os.cpu_count() or 0, "python": platform.python_version(), "os": platform.platform()}


def versions() -> dict[str, str]:
    """Versions of what took part, as far as it is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def commit() -> str:
    """The commit of this checkout, with "+" if files differ from it; empty outside one."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--", "aiocarbon", "benchmarks/*.py") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def has_loopback() -> bool:
    """Whether programs of this machine reach each other at 127.0.0.1; in a network namespace of its own none may."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()[:2], 5.0):
            return True
    except OSError:
        return False


class ChildError(RuntimeError):
    """A child process failed; the message holds what it printed."""

    @property
    def last_line(self) -> str:
        """What it printed last, which tells why."""
        return str(self).strip().splitlines()[-1]


def with_root(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment whose Python finds this repository, and keeps byte code: who compiles each time is no measure."""
    return {k: v for k, v in environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPATH": str(ROOT)}


def child(
    code: str,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    options: Sequence[str] = (),
    timeout_s: float = 600.0,
    python: str = sys.executable,
    cwd: Path | str = "/",
) -> Any:
    """Run Python code in a fresh process and return the JSON value that it printed last.

    Args:
        code: The program; it sees the repository on its path and `arguments` in `sys.argv[1:]`.
        arguments: Likewise.
        environ: Its environment; None: this one's. Settings of aiocarbon in it are left out either way.
        before: A command put before the interpreter, such as `unshare`.
        options: Options of the interpreter.
        timeout_s: Longest run.
        python: Path of the interpreter.
        cwd: Where it runs.

    Raises:
        ChildError: It failed or took too long.
    """
    env = with_root({k: v for k, v in (environ or os.environ).items() if not k.startswith(OURS) or "FAKE_NVML" in k})
    # Made-up devices have one id in all runs: they must not be taken for those of another run beside this one.
    env["AIOCARBON_LOCK_DIR"] = "none"
    command = [*before, python, *options, "-c", code, *arguments]
    try:
        done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ChildError(f"{shlex.join(command[:3])}: {error}") from error
    if done.returncode != 0 or not done.stdout.strip():
        raise ChildError(f"a child ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])
