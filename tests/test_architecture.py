"""The tree is the architecture: who may import whom, what an import may do, what is public."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "aiocarbon"
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the right to the left of the data's way; a layer may import itself and those listed.
SHARED = {"errors", "_version", "_logging", "_forks"}
ALLOWED: dict[str, set[str]] = {
    "_core": set(),
    "errors": set(),
    "_version": set(),
    "_logging": set(),
    "_forks": set(),
    "data": set(),
    "meters": {"_core", "data", *SHARED},
    "intensity": {"_core", "data", *SHARED},
    "budget": {"_core", *SHARED},
    "_checks": {"_core", "meters", "intensity", "budget", *SHARED},
    "settings": {"_core", "_checks", "budget", "intensity", "meters", *SHARED},
    "journal": {"_core", "intensity", "data", *SHARED},
    "imports": {"_core", "intensity", "journal", *SHARED},
    "_engine": {"_core", "meters", "intensity", "journal", "settings", "budget", *SHARED},
    "render": {"_core", *SHARED},
    "page": {"_core", "intensity", "journal", "render", *SHARED},
    "testing": {"_core", "meters", "intensity", *SHARED},
    "waiting": {"_core", "_engine", "settings", *SHARED},
    "confirm": {"_core", "_engine", "render", *SHARED},
    "span": {"_core", "_engine", *SHARED},
    "_marks": {"_core", "_engine", "span", *SHARED},
    "tracker": {"_core", "_engine", "_marks", "meters", "settings", "budget", "waiting", *SHARED},
    "sync": {"_core", "_engine", "_marks", "tracker", "settings", "waiting", "confirm", *SHARED},
    "decorator": {"_engine", "span", "tracker", "sync", *SHARED},
    "ending": {*SHARED},
    "compat": {"_core", "imports", "journal", "meters", "render", "settings", "sync", *SHARED},
    "integrations": {"_core", "_engine", "_marks", "budget", "journal", "settings", "span", "tracker", "sync", *SHARED},
    "__init__": {
        "_engine",
        "ending",
        "budget",
        "confirm",
        "decorator",
        "journal",
        "settings",
        "tracker",
        "sync",
        "waiting",
        *SHARED,
    },
    "__main__": {"cli"},
}


def layer(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "aiocarbon" else [f"aiocarbon.{a.name}" for a in node.names]
        found.update(name for name in names if name.split(".")[0] == "aiocarbon")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_from_the_right_to_the_left(path: Path) -> None:
    mine = layer(path)
    if mine in {"cli"}:
        return
    for name in imports(path):
        parts = name.split(".")
        theirs = parts[1] if len(parts) > 1 else "__init__"
        known = theirs in ALLOWED or theirs in {"cli", "__init__"}
        target = theirs if known else "__init__"
        assert target == mine or target in ALLOWED[mine], f"{mine} must not import {name}"


def test_the_core_is_pure() -> None:
    banned = {"asyncio", "anyio", "threading", "time", "os", "socket", "subprocess", "logging", "pathlib", "io"}
    for path in (PACKAGE / "_core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not banned & {name.split(".")[0] for name in names}, path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_stays_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_importing_does_nothing_and_loads_nothing_heavy() -> None:
    code = """
import json, signal, sys, threading
HEAVY = {"aiohttp", "pynvml", "numpy", "structlog", "torch", "anyio", "psutil", "tenacity"}
before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
import warnings; filters = list(warnings.filters)
import aiocarbon
import logging
print(json.dumps({
    "heavy": sorted(HEAVY & set(sys.modules)),
    "threads": threading.active_count(),
    "handlers": len(logging.getLogger().handlers),
    "signals": before == {s: signal.getsignal(s) for s in before},
    "filters": filters == list(warnings.filters),
}))
"""
    told = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert told == {"heavy": [], "threads": 1, "handlers": 0, "signals": True, "filters": True}


@pytest.mark.parametrize(
    "name", ["aiocarbon", "aiocarbon.sync", "aiocarbon.testing", "aiocarbon.meters", "aiocarbon.intensity",
             "aiocarbon.journal", "aiocarbon.render", "aiocarbon.errors", "aiocarbon.imports",
             "aiocarbon.compat.carbontracker"]
)  # fmt: skip
def test_what_is_public_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__all__ == sorted(module.__all__)
    for public in module.__all__:
        assert getattr(module, public) is not None
        assert public == "__version__" or getattr(module, public).__doc__


def test_the_contract_s_import_line_works() -> None:
    from aiocarbon import Budget, Tracker, track

    assert all((Budget, Tracker, track))


def test_one_version() -> None:
    import aiocarbon

    stated = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert aiocarbon.__version__ == stated
