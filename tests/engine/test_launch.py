"""What launched a process, found out in real processes: launchers that set what torchrun sets, with shells between.

torchrun itself is not needed: what it gives to its workers is documented (docs.pytorch.org, "torchrun (Elastic
Launch)", environment variables) and was compared with what torch 2.13 sets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import aiocarbon
from aiocarbon._engine.launch import identify, launcher_of, machine_id, new_name, numbered, time_namespace
from aiocarbon.journal import load

ROOT = str(Path(aiocarbon.__file__).parents[1])
LAUNCHED = ("AIOCARBON_RUN_ID", "SLURM", "TORCHELASTIC", "OMPI_", "PMI", "RANK", "WORLD_SIZE")
ENVIRON = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHED)} | {
    "PYTHONPATH": ROOT,
    "AIOCARBON_OFFLINE": "true",
    "AIOCARBON_CACHE": "none",
}

LAUNCHER = """\
import os, subprocess, sys
count, command = int(sys.argv[1]), sys.argv[2:]
workers = []
for rank in range(count):
    told = {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0", "RANK": str(rank),
            "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0",
            "GROUP_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    # As the agent has it, each worker in a session of its own.
    workers.append(subprocess.Popen(command, env=os.environ | told, start_new_session=True))
sys.exit(max(worker.wait() for worker in workers))
"""

DEEPSPEED = """\
import os, subprocess, sys
count, command = int(sys.argv[1]), sys.argv[2:]
workers = []
for rank in range(count):
    told = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_SIZE": str(count),
            "CROSS_RANK": "0", "CROSS_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    workers.append(subprocess.Popen(command, env=os.environ | told))
sys.exit(max(worker.wait() for worker in workers))
"""
"""What DeepSpeed's launcher gives its workers (deepspeedai/DeepSpeed: deepspeed/launcher/launch.py)."""

MPIRUN = """\
import os, subprocess, sys
count, command = int(sys.argv[1]), sys.argv[2:]
workers = []
for rank in range(count):
    told = {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": str(count),
            "OMPI_COMM_WORLD_LOCAL_RANK": str(rank), "OMPI_COMM_WORLD_LOCAL_SIZE": str(count)}
    workers.append(subprocess.Popen(command, env=os.environ | told))
sys.exit(max(worker.wait() for worker in workers))
"""

WHO = """\
import dataclasses, json, os
from aiocarbon._engine.launch import identify
os.write(1, (json.dumps(dataclasses.asdict(identify())) + "\\n").encode())  # in one piece
"""

TRAIN = """\
import time
from aiocarbon.sync import Tracker
with Tracker(epochs=2, location="DK", pue=1.0) as tracker:
    for _ in range(2):
        with tracker.epoch():
            time.sleep(0.25)
"""


def launched(count: int, *command: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", LAUNCHER, str(count), *command]
    return subprocess.run(words, env=ENVIRON | environ, cwd=folder, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("wrapper", [(), ("sh", "-c", '"$0" "$@"; true')], ids=["direct", "shell"])
def test_workers_of_one_launcher_agree_and_those_of_another_do_not(tmp_path: Path, wrapper: tuple[str, ...]) -> None:
    starts = []
    for _ in range(2):
        done = launched(3, *wrapper, sys.executable, "-c", WHO, folder=tmp_path)
        starts.append([json.loads(line) for line in done.stdout.splitlines()])
    for ranks in starts:
        assert len(ranks) == 3
        assert len({(rank["run_id"], rank["attempt"]) for rank in ranks}) == 1
        assert sorted(rank["rank"] for rank in ranks) == [0, 1, 2]
        assert ranks[0]["run_id"].startswith("torchrun-")
    assert starts[0][0]["run_id"] != starts[1][0]["run_id"]


def test_four_ranks_with_a_tracker_each_are_one_report(tmp_path: Path) -> None:
    environ = {"AIOCARBON_METERS": "simulated:250", "AIOCARBON_JOURNAL": str(tmp_path / "runs")}
    launched(4, sys.executable, "-c", TRAIN, folder=tmp_path, **environ)
    assert len(list((tmp_path / "runs").rglob("*.jsonl"))) == 4
    (run,) = load(tmp_path / "runs").runs
    assert run.run_id.startswith("torchrun-")
    assert run.epochs_total == 2
    assert run.it_energy_kwh * 3.6e6 == pytest.approx(250.0 * run.duration_s, rel=0.005)  # each joule once


def test_the_first_rank_of_tracked_commands_reports_for_all(tmp_path: Path) -> None:
    words = (sys.executable, "-m", "aiocarbon", "run", "--meters", "simulated:250", "--location", "DK")
    work = ("--", sys.executable, "-c", "import time; time.sleep(0.4)")
    done = launched(3, *words, *work, folder=tmp_path)
    assert done.stderr.count("aiocarbon: torchrun-") == 1
    assert "rank" not in done.stderr.partition("\n")[0]
    asked = launched(2, *words, "--no-quiet", *work, folder=tmp_path)
    assert asked.stderr.count("aiocarbon: torchrun-") == 2
    assert launched(2, *words, "--quiet", *work, folder=tmp_path).stderr == ""


def test_the_first_rank_s_json_holds_the_job(tmp_path: Path) -> None:
    words = (sys.executable, "-m", "aiocarbon", "run", "--meters", "simulated:250", "--location", "DK", "--json", "F")
    launched(2, *words, "--", sys.executable, "-c", "import time; time.sleep(0.4)", folder=tmp_path)
    told = json.loads((tmp_path / "F").read_text())
    assert told["it_energy_kwh"] * 3.6e6 == pytest.approx(250.0 * told["duration_s"], rel=0.005)
    assert told["run_id"].startswith("torchrun-")


# -- by hand -------------------------------------------------------------------------------------------------------


def tree(root: Path, processes: dict[int, tuple[int, str, str]]) -> Path:
    """A /proc of processes: parent, start time, and the variable that they were given."""
    (root / "sys/kernel/random").mkdir(parents=True)
    (root / "sys/kernel/random/boot_id").write_text("b007\n")
    for pid, (parent, began, variable) in processes.items():
        folder = root / str(pid)
        (folder / "ns").mkdir(parents=True)
        (folder / "ns/pid").symlink_to("pid:[1]")
        (folder / "stat").write_text(f"{pid} (a) b (c) S {parent} {' '.join('0' * 17)} {began} 0\n")
        (folder / "environ").write_bytes(f"A=1\0{variable}\0".encode())
    return root


WORKER = {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"}


def test_the_launcher_is_the_nearest_ancestor_without_its_own_variable(tmp_path: Path) -> None:
    mark = "TORCHELASTIC_RUN_ID=none"
    proc = tree(tmp_path, {9: (8, "90", mark), 8: (7, "80", mark), 5: (7, "50", mark), 7: (1, "70", "X=1")})
    assert launcher_of(WORKER, proc=proc, pid=9) == launcher_of(WORKER, proc=proc, pid=5) != ""
    assert launcher_of({"HOME": "/"}, proc=proc, pid=9) == ""
    other = tree(tmp_path / "later", {9: (7, "90", mark), 7: (1, "71", "X=1")})  # the same number, another life
    assert launcher_of(WORKER, proc=other, pid=9) != launcher_of(WORKER, proc=proc, pid=9)


@pytest.mark.parametrize("content", [None, "", "9 (x) S", "9 (x) S y z"])
def test_a_proc_that_hides_or_lies_leaves_a_process_its_own(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "9").mkdir()
    if content is not None:
        (tmp_path / "9/stat").write_text(content)
    assert launcher_of(WORKER, proc=tmp_path, pid=9) == ""
    assert identify(WORKER, proc=tmp_path, pid=9).run_id != identify(WORKER, proc=tmp_path, pid=9).run_id


def test_ancestors_in_a_circle_end(tmp_path: Path) -> None:
    mark = "TORCHELASTIC_RUN_ID=none"
    proc = tree(tmp_path, {9: (8, "90", mark), 8: (9, "80", mark)})
    assert launcher_of(WORKER, proc=proc, pid=9)


def test_second_runs_of_a_process_in_one_job_are_numbered() -> None:
    name = f"slurm-{new_name()}"
    assert [numbered(name) for _ in range(3)] == [name, f"{name}-2", f"{name}-3"]
    assert len(numbered("x" * 100 + name)) >= 100
    assert len(numbered(("x" * 100)[:100])) <= 100


def test_what_tells_machines_and_clocks(tmp_path: Path) -> None:
    (tmp_path / "machine-id").write_text("0123456789abcdef\n")
    told = machine_id(tmp_path)
    assert len(told) == 12
    assert "0123456789ab" not in told
    assert machine_id(tmp_path / "none") == ""
    assert time_namespace(tmp_path) == ""


@pytest.mark.parametrize("launcher", [LAUNCHER, DEEPSPEED, MPIRUN], ids=["torchrun", "deepspeed", "mpirun"])
def test_a_command_whose_workers_track_themselves_counts_each_joule_once(tmp_path: Path, launcher: str) -> None:
    environ = ENVIRON | {
        "AIOCARBON_METERS": "simulated:250",
        "AIOCARBON_LOCATION": "DK",
        "AIOCARBON_PUE": "1",
        "AIOCARBON_LOCK_DIR": str(tmp_path / "locks"),
        "AIOCARBON_JOURNAL": "runs",
    }
    run = [sys.executable, "-m", "aiocarbon", "run", "--json", "own.json", "--"]
    command = [*run, sys.executable, "-c", launcher, "2", sys.executable, "-c", TRAIN]
    subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True)
    own = json.loads((tmp_path / "own.json").read_text(encoding="utf-8"))
    assert own["it_energy_kwh"] * 3.6e6 == pytest.approx(250 * own["duration_s"], rel=1e-3)  # and not thrice that
    found = load(tmp_path / "runs")
    assert len(found.runs) == 2  # the command, and its workers together
    assert sorted(len(run.epochs) for run in found.runs) == [0, 2]
    assert found.total.it_energy_kwh == pytest.approx(own["it_energy_kwh"], rel=1e-6)
