"""What goes on behind the entering: where it fails, the run lacks that and no reading."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import anyio
import pytest

from aiocarbon._core.identity import alone
from aiocarbon._engine.engine import Engine
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from tests.engines import running

KNOWN = {"location": "DK", "pue": 1.0, "offline": True, "interval_s": 0.02}


async def _ended(engine: Engine, lacks: str) -> Any:
    """The report of a run whose end comes after something was told."""
    async with running(engine):
        meter = SimulatedMeter(wave=Constant(250.0), refresh_s=0.001)
        session = await engine.open({"meters": (meter,), **KNOWN}, alone("run"))
        while not any(lacks in text for text in session.warnings):
            await engine.snapshot(session)
        return await engine.close(session, time.monotonic_ns(), 0, ended_well=True)


def test_what_asks_for_the_intensity_and_cannot_be_loaded_costs_the_run_nothing_else() -> None:
    def broken(*_: object) -> Any:
        raise ImportError("email: broken installation")

    report = anyio.run(_ended, Engine(poller=broken), "broken installation")
    assert report.is_final
    assert report.coverage == pytest.approx(1.0)
    assert report.warnings == ("the carbon intensity cannot be followed: ImportError: email: broken installation",)


def test_a_module_of_the_user_s_in_the_way_costs_predictions_and_no_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    # Stands for a `statistics.py` beside the script: no part that could be handed in loads it.
    monkeypatch.delitem(sys.modules, "aiocarbon._core.foretell", raising=False)
    monkeypatch.setitem(sys.modules, "aiocarbon._core.foretell", None)
    report = anyio.run(_ended, Engine(), "cannot be followed")
    assert report.is_final
    assert report.coverage == pytest.approx(1.0)


NO_FILES = """
import os, resource
from aiocarbon import sync

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
held = []

def fill():
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass

with sync.Tracker(meters="simulated:250", location="DK", pue=1.0, offline=True) as tracker:
    tracker.snapshot()
    fill()
    with tracker.epoch():
        pass
for file in held:
    os.close(file)
report = tracker.report()
print(report.is_final, report.coverage)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of open files")
def test_a_run_that_may_open_no_file_any_more_ends_and_reports_what_was_measured() -> None:
    done = subprocess.run([sys.executable, "-c", NO_FILES], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("True 1.0\n", "")
