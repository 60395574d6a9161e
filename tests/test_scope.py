"""Scopes as people use them: real processes beside each other, a device whose watts are known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import aiocarbon
from aiocarbon import ConfigError, Tracker, sync
from aiocarbon.meters import Device, Reading
from aiocarbon.testing import ScriptedMeter
from tests.deadly import kill_engine

ROOT = str(Path(aiocarbon.__file__).parents[1])
ENVIRON = {k: v for k, v in os.environ.items() if not k.startswith("AIOCARBON_")} | {
    "PYTHONPATH": ROOT,
    "AIOCARBON_LOCK_DIR": "none",
    "AIOCARBON_OFFLINE": "true",
}
KNOWN = {"location": "DK", "pue": 1.0, "meters": "simulated:250"}

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="shares are told by Linux's /proc")

BURN = "import time\nwhile time.process_time() < {cpu_s}: pass"
SLEEP = "import time; time.sleep({s})"


def start(folder: Path, code: str, *options: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    words = (
        *prefix, sys.executable, "-m", "aiocarbon", "run", "--meters", "simulated:250", "--location", "DK",
        "--interval-s", "0.2", "--json", "out.json", *options, "--", sys.executable, "-c", code,
    )  # fmt: skip
    return subprocess.Popen(words, cwd=folder, env=ENVIRON, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)


def report_of(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    report: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return report


def parts_of(scope: dict[str, Any]) -> list[float]:
    return [scope[f"{part}_it_energy_kwh"] for part in ("own", "idle", "others", "unknown")]


# -- bad days ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["", "Machine", "user", None, 7, True])
def test_a_scope_that_there_is_not_is_refused_at_once(scope: Any) -> None:
    with pytest.raises(ConfigError, match='"machine" or "process" or "cgroup"'):
        Tracker(scope=scope)


def test_a_run_in_which_nothing_happens_has_no_share_and_no_error() -> None:
    with sync.Tracker(scope="process", **KNOWN) as tracker:  # type: ignore[arg-type]  # a dict of mixed values
        pass
    report = tracker.report()
    assert report.is_final
    assert report.it_energy_kwh >= 0.0
    assert report.it_energy_kwh_high >= report.it_energy_kwh >= report.it_energy_kwh_low


class Deadly(ScriptedMeter):
    """Kills the engine at its third read."""

    def read(self, device: Device) -> Reading:
        if self.reads >= 2:
            kill_engine()
        return super().read(device)


def test_an_engine_that_dies_leaves_a_report_of_what_was_known() -> None:
    with sync.Tracker(
        scope="process", meters=[Deadly(energy_uj=[0, 10**6])], location="DK", interval_s=0.05
    ) as tracker:
        time.sleep(0.3)
        with tracker.epoch():
            time.sleep(0.05)
    report = tracker.report()
    assert report.is_final
    assert len([text for text in report.warnings if "engine died" in text]) == 1
    assert report.scope.name == "process"


# -- what is right -----------------------------------------------------------------------------------------------------


def test_who_burns_has_the_larger_share_and_the_parts_make_the_machine(tmp_path: Path) -> None:
    folders = [tmp_path / "burns", tmp_path / "sleeps"]
    running = [
        start(folders[0], BURN.format(cpu_s=2.0), "--scope", "process", "--no-journal"),
        start(folders[1], SLEEP.format(s=2.0), "--scope", "process", "--no-journal"),
    ]
    burns, sleeps = (report_of(process, folder) for process, folder in zip(running, folders, strict=True))
    assert burns["it_energy_kwh"] > 3.0 * sleeps["it_energy_kwh"]
    for report in (burns, sleeps):
        scope = report["scope"]
        assert scope["name"] == "process"
        assert sum(parts_of(scope)) == pytest.approx(scope["machine_it_energy_kwh"], rel=1e-9)
        assert scope["own_it_energy_kwh"] == pytest.approx(report["it_energy_kwh"], rel=1e-9)
        assert min(parts_of(scope)) >= 0.0
        truth_kwh = 250.0 * report["duration_s"] * report["coverage"] / 3.6e6
        assert scope["machine_it_energy_kwh"] == pytest.approx(truth_kwh, rel=0.1)
        assert report["basis"] == "model"  # a share is an estimate, whatever the device is
        assert report["coverage"] > 0.9


def test_children_that_come_and_go_are_billed_to_who_started_them(tmp_path: Path) -> None:
    child = BURN.format(cpu_s=0.3)
    code = f"import subprocess, sys\nfor _ in range(4): subprocess.run([sys.executable, '-c', {child!r}])"
    report = report_of(start(tmp_path, code, "--scope", "process", "--no-journal"), tmp_path)
    # 1.2 s of CPU time on a machine that may be busy with other tests.
    share = 1.2 / (report["duration_s"] * (os.cpu_count() or 1))
    assert report["it_energy_kwh"] / report["scope"]["machine_it_energy_kwh"] > 0.5 * min(share, 1.0)


TRACKED = """
import json, subprocess, sys, time
from aiocarbon import sync
BURN = {burn!r}
with sync.Tracker(scope="process", interval_s=0.2, location="DK", pue=1.0, meters="simulated:250") as tracker:
    with tracker.epoch() as idle, tracker.span("waits"):
        time.sleep(0.5)
    with tracker.epoch() as busy, tracker.span("works"):
        subprocess.run([sys.executable, "-c", BURN], check=True)
print(json.dumps(tracker.report().to_dict()))
"""


def test_a_tracker_counts_what_its_own_process_and_its_children_use_and_splits_it_among_spans() -> None:
    # On a machine where nobody else did anything, all of it would be ours also while we wait.
    with subprocess.Popen([sys.executable, "-c", BURN.format(cpu_s=50.0)]) as other:
        code = TRACKED.format(burn=BURN.format(cpu_s=0.6))
        done = subprocess.run([sys.executable, "-c", code], env=ENVIRON, capture_output=True, text=True, check=False)
        other.kill()
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    idle, busy = report["epochs"]
    # What works has its share of the CPUs, however many others are there; who waits leaves it to them.
    assert busy["it_energy_kwh"] * 3.6e6 > 0.5 * 0.6 / (os.cpu_count() or 1) * 250.0
    assert idle["power_w"] < 0.5 * 250.0
    epochs = sum(epoch["it_energy_kwh"] for epoch in report["epochs"]) + report["outside"]["it_energy_kwh"]
    assert epochs == pytest.approx(report["it_energy_kwh"], rel=1e-9)
    spans = {span["name"]: span["it_energy_kwh"] for span in report["spans"]}
    assert spans["works"] > 2.0 * spans["waits"]
    parts = sum(spans.values()) + report["unattributed"]["it_energy_kwh"]
    assert parts == pytest.approx(report["it_energy_kwh"], rel=1e-9)


def test_machine_scope_is_as_ever_and_tells_no_shares() -> None:
    with sync.Tracker(**KNOWN) as tracker:  # type: ignore[arg-type]
        time.sleep(0.1)
    scope = tracker.report().scope
    assert scope.name == "machine"
    assert scope.machine_it_energy_kwh is None
    assert scope.how == ()


def test_two_processes_of_one_machine_add_up_in_their_journals(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    journal = ("--journal", str(tmp_path / "runs"), "--scope", "process")
    running = [start(folder, BURN.format(cpu_s=0.8), *journal) for folder in folders]
    apart = sum(report_of(process, folder)["it_energy_kwh"] for process, folder in zip(running, folders, strict=True))
    out = tmp_path / "all.json"
    subprocess.run(
        [sys.executable, "-m", "aiocarbon", "report", str(tmp_path / "runs"), "--json", str(out)],
        env=ENVIRON, check=True, capture_output=True,
    )  # fmt: skip
    assert json.loads(out.read_text())["total"]["it_energy_kwh"] == pytest.approx(apart, rel=1e-3)


def test_the_text_says_whose_energy_it_was(tmp_path: Path) -> None:
    process = start(tmp_path, BURN.format(cpu_s=0.3), "--scope", "process", "--no-journal")
    _, said = process.communicate()
    text = said.decode()
    assert "  scope       process; " in text
    assert "only its own counts above" in text
    assert "by CPU time" in text
    assert "ESTIMATED, model" in text


def test_a_job_with_less_than_all_cpus_is_told_that_it_is_billed_the_whole(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this process may use one CPU only: nothing can be taken from it")
    cpu = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{cpu}]); from aiocarbon import sync\n"
    code += "with sync.Tracker(meters='model', location='DK', scope={scope!r}) as t: pass\n"
    code += "print([text for text in t.report().warnings if 'bills it the whole' in text])"
    for scope, is_told in (("machine", True), ("process", False)):
        done = subprocess.run(
            [sys.executable, "-c", code.format(scope=scope)], env=ENVIRON, cwd=tmp_path, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert ("CPUs (affinity)" in done.stdout) is is_told
