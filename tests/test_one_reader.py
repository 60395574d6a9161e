"""Processes of one machine that track the same devices: one reads, the others follow, and each joule counts once.

All processes here are real ones; the machine is simulated, so that its joules are known.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocarbon.journal import load

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes share devices on Linux")

POWER_W = 250
CHILD = """
import json, os, sys, time
from aiocarbon import sync

def tell(report):
    print(json.dumps({
        "pid": os.getpid(),
        "energy_j": report.it_energy_kwh * 3.6e6,
        "duration_s": report.duration_s,
        "coverage": report.coverage,
        "readings": report.overhead.readings,
        # Not those of a busy machine: the journal's end takes longer than a run waits for it, and readings come late.
        "warnings": [t for t in report.warnings if "the disk is slow" not in t and "readings vouch for" not in t],
        "notes": [device.note for device in report.devices],
        "epochs_w": [epoch.it_energy_kwh * 3.6e6 / epoch.duration_s for epoch in report.epochs],
    }), flush=True)

arguments = json.loads(sys.argv[1])
word = ""
while word != "end":
    with sync.Tracker(intensity=400, pue=1.0, location="DE", offline=True, **arguments) as tracker:
        tell(tracker.snapshot())
        for line in sys.stdin:
            word = line.strip()
            if word in ("again", "rest", "end"):
                break
            if word == "fork" and os.fork() == 0:
                time.sleep(600)
            if word == "epoch":
                with tracker.epoch():
                    time.sleep(0.2)  # what this epoch does
            tell(tracker.snapshot())
    if word == "rest":
        tell(tracker.report())
        sys.stdin.readline()
tell(tracker.report())
"""


class Rank:
    """A process that tracks, and says how it goes when it is asked."""

    def __init__(self, environ: dict[str, str], prefix: tuple[str, ...], arguments: dict[str, Any]) -> None:
        self.child = subprocess.Popen(
            [*prefix, sys.executable, "-c", CHILD, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
            process_group=0,
        )

    def heard(self) -> dict[str, Any]:
        assert self.child.stdout is not None
        told: dict[str, Any] = json.loads(self.child.stdout.readline() or "{}")
        return told

    def say(self, word: str) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(word + "\n")
        self.child.stdin.flush()

    def ask(self, word: str = "how") -> dict[str, Any]:
        self.say(word)
        return self.heard()

    def ask_until(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask until something is so; the test's own limit ends what never comes."""
        while not is_so(told := self.ask()):
            pass
        return told

    def end(self) -> dict[str, Any]:
        told = self.ask("end")
        assert self.child.wait() == 0
        return told

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()

    def clean(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


class Machine:
    """Where ranks run."""

    def __init__(self, folder: Path) -> None:
        self.locks = folder / "locks"
        self.journal = folder / "journal"
        self.ranks: list[Rank] = []

    def start(self, count: int = 1, *, prefix: tuple[str, ...] = (), locks: str = "", **arguments: Any) -> list[Rank]:
        """Ranks that have all begun; they begin at one time."""
        environ = {"AIOCARBON_LOCK_DIR": locks or str(self.locks)}
        given = {"meters": [f"simulated:{POWER_W}"], "journal": str(self.journal), "run_id": "one", "interval_s": 0.1}
        ranks = [Rank(environ, prefix, {**given, **arguments}) for _ in range(count)]
        self.ranks += ranks
        for rank in ranks:
            assert rank.heard()["pid"]
        return ranks

    def left(self) -> list[str]:
        """What lies in the folder of locks."""
        return [path.name for path in self.locks.rglob("*") if not path.is_dir()]

    def rings(self) -> list[str]:
        return sorted(name for name in self.left() if not name.startswith(("bell.", ".")))

    def windows(self) -> list[tuple[int, int]]:
        """The stretches of boot time that the journals tell of, from their marks, and tails where they broke off."""
        found = []
        for path in self.journal.rglob("*.jsonl"):
            records = [json.loads(line) for line in path.read_text().splitlines()]
            marks = [r["t"] for r in records if r.get("k") == "mark"]
            told = [r for r in records if r.get("k") in ("mark", "tick")]
            tail = path.with_suffix(".tail")
            if tail.exists():
                told.append(json.loads(tail.read_bytes()[18:]))
            # Where it broke off late behind its last reading, no reading vouches for the milliseconds between.
            newest = max(r["t"] - r.get("x", {}).get("0", [0, 0, 0])[2] for r in told)
            found.append((min(marks), newest))
        return found

    def check(self) -> None:
        """The merged journals hold the joules of the union of all windows, but for the rounding to microjoules."""
        total_j = load(self.journal).total.it_energy_kwh * 3.6e6
        assert total_j == pytest.approx(POWER_W * union_ns(self.windows()) / 1e9, rel=1e-9, abs=1e-5)


def union_ns(windows: list[tuple[int, int]]) -> int:
    total, upto = 0, 0
    for begin, end in sorted(windows):
        total += max(end - max(begin, upto), 0)
        upto = max(upto, end)
    return total


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    # In memory, as by default: a disk that others are busy with would be waited for.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as memory:
        machine.locks = Path(memory) / "locks"
        yield machine
        for rank in machine.ranks:
            rank.clean()


def is_reading(told: dict[str, Any]) -> bool:
    return "for this one" not in told["notes"][0]


def reader_of(ranks: list[Rank]) -> Rank:
    """The one of some ranks that reads."""
    reading = [rank for rank in ranks if is_reading(rank.ask())]
    assert len(reading) == 1
    return reading[0]


def test_twelve_racing_trackers_have_one_reader_and_count_each_joule_once(machine: Machine) -> None:
    ranks = machine.start(12)
    reader_of(ranks)
    assert len(machine.rings()) == 1
    for rank in ranks:
        rank.say("epoch")
    for rank in ranks:
        assert len(rank.heard()["epochs_w"]) == 1
    ends = [rank.end() for rank in ranks]
    assert sum(end["readings"] > 0 for end in ends) >= 1
    for end in ends:
        assert end["energy_j"] == pytest.approx(POWER_W * end["duration_s"], rel=1e-4)
        assert end["coverage"] == 1.0
        assert end["epochs_w"][0] == pytest.approx(POWER_W, rel=0.1)
    machine.check()
    naive_j = sum(end["energy_j"] for end in ends)
    assert naive_j > 5 * load(machine.journal).total.it_energy_kwh * 3.6e6
    assert machine.left() == []


def test_two_jobs_on_one_machine_have_one_reader_and_each_its_own_record(machine: Machine) -> None:
    (one,) = machine.start(run_id="one")
    (other,) = machine.start(run_id="other")
    reader_of([one, other])
    ends = [other.end(), one.end()]
    loaded = load(machine.journal)
    assert {run.run_id for run in loaded.runs} == {"one", "other"}
    for end in ends:
        assert end["energy_j"] == pytest.approx(POWER_W * end["duration_s"], rel=1e-4)
    machine.check()


def test_the_reader_killed_twice_with_its_forked_children_alive(machine: Machine) -> None:
    ranks = machine.start(4)
    for rank in ranks:
        rank.ask("fork")
    for count in (1, 2):
        reader = reader_of(ranks)
        ranks.remove(reader)
        reader.kill()
        for rank in ranks:
            told = rank.ask_until(lambda told, count=count: len(told["warnings"]) == count)  # type: ignore[misc]
            assert f"process {reader.child.pid}, which read simulated-0 for this one, ended" in told["warnings"][-1]
    for rank in ranks:
        end = rank.end()
        assert end["coverage"] == 1.0
        assert end["energy_j"] == pytest.approx(POWER_W * end["duration_s"], rel=1e-4)
    machine.check()


def test_a_reader_that_stands_still_is_replaced_and_follows_when_it_goes_on(machine: Machine) -> None:
    ranks = machine.start(3)
    reader = reader_of(ranks)
    others = [rank for rank in ranks if rank is not reader]
    reader.child.send_signal(signal.SIGSTOP)
    for rank in others:
        rank.ask("epoch")  # its marks wait for the counter to be read again, and lose nothing
        rank.ask_until(lambda told: len(told["warnings"]) == 1)
    reader_of(others)
    reader.child.send_signal(signal.SIGCONT)
    told = reader.ask_until(lambda told: not is_reading(told) and told["warnings"])
    assert "this process, which read simulated-0, stood still" in told["warnings"][0]
    reader_of(ranks)
    for rank in ranks:
        end = rank.end()
        assert end["energy_j"] == pytest.approx(POWER_W * end["duration_s"], rel=1e-4)
        assert end["coverage"] == 1.0
    machine.check()


def test_a_reader_that_ends_hands_over_without_a_word(machine: Machine) -> None:
    ranks = machine.start(3)
    while len(ranks) > 1:
        reader = reader_of(ranks)
        ranks.remove(reader)
        assert not any("ended" in line for line in reader.end()["warnings"])
        ranks[0].ask_until(lambda _: any(is_reading(rank.ask()) for rank in ranks))
    end = ranks[0].end()
    assert not any("ended" in line for line in end["warnings"])
    assert end["readings"] > 0
    machine.check()
    assert machine.left() == []


def test_one_that_comes_back_again_and_again_finds_the_same_device(machine: Machine) -> None:
    """Its short runs end before a follower has said that it is there."""
    (comes,) = machine.start()
    (stays,) = machine.start()
    comes.ask_until(lambda told: told["duration_s"] > 0.5)
    for _ in range(4):
        comes.ask("again")
    for rank in (comes, stays):
        rank.ask_until(lambda told: told["duration_s"] > 2.0)
        told = rank.end()
        assert told["energy_j"] == pytest.approx(POWER_W * told["duration_s"], rel=1e-3)
        assert not any("stood still" in line for line in told["warnings"])
    machine.check()


def test_one_that_comes_back_when_others_have_begun_the_device_anew_counts_what_it_is_there_for(
    machine: Machine,
) -> None:
    (comes,) = machine.start()
    comes.ask_until(lambda told: told["duration_s"] > 0.5)
    comes.ask("rest")
    assert machine.left() == []
    (stays,) = machine.start()
    comes.ask()
    for rank in (comes, stays):
        rank.ask_until(lambda told: told["duration_s"] > 1.0)
        told = rank.end()
        assert told["energy_j"] == pytest.approx(POWER_W * told["duration_s"], rel=1e-3)
    machine.check()


def test_a_follower_s_epoch_has_a_reading_behind_its_end_however_seldom_the_reader_reads(machine: Machine) -> None:
    (reader,) = machine.start(interval_s=30)
    (follower,) = machine.start(interval_s=30)
    assert is_reading(reader.ask())
    before = reader.ask()["readings"]
    told = follower.ask("epoch")
    assert told["epochs_w"][0] == pytest.approx(POWER_W, rel=0.1)
    assert not is_reading(follower.ask())
    assert reader.ask()["readings"] > before + 1


def test_a_lock_left_by_a_dead_process_is_nobody_s(machine: Machine) -> None:
    (dead,) = machine.start()
    dead.ask_until(lambda told: told["duration_s"] > 0.5)  # its journal tells of each tenth of a second
    dead.kill()
    assert len(machine.rings()) == 1
    (living,) = machine.start()
    told = living.ask()
    assert is_reading(told)
    assert told["warnings"] == []
    assert len(machine.rings()) == 1
    living.end()
    assert machine.left() == []
    machine.check()


def test_the_time_between_two_lives_is_nobody_s(machine: Machine) -> None:
    (first,) = machine.start()
    first.end()
    (second,) = machine.start()
    second.end()
    begin, end = (f(t) for f, t in ((min, [b for b, _ in machine.windows()]), (max, [e for _, e in machine.windows()])))
    assert union_ns(machine.windows()) < end - begin
    machine.check()


@pytest.mark.parametrize("what", ["files", "folder"])
def test_a_folder_that_is_emptied_in_the_middle_costs_nothing(machine: Machine, what: str) -> None:
    ranks = machine.start(3)
    if what == "folder":
        shutil.rmtree(machine.locks)
    else:
        for path in machine.locks.rglob("*"):
            if not path.is_dir():
                path.unlink()
    for rank in ranks:
        rank.ask("epoch")
        rank.ask_until(lambda told: told["duration_s"] > 2)
    for rank in ranks:
        end = rank.end()
        assert end["energy_j"] == pytest.approx(POWER_W * end["duration_s"], rel=1e-4)
        assert end["coverage"] == 1.0
    machine.check()


def test_a_counter_whose_reader_stands_still_is_read_by_who_ends_an_epoch(machine: Machine) -> None:
    reader, follower = *machine.start(interval_s=30), *machine.start(interval_s=30)
    reader.child.send_signal(signal.SIGSTOP)
    told = follower.ask("epoch")
    assert told["epochs_w"][0] == pytest.approx(POWER_W, rel=0.1)
    assert told["coverage"] == 1.0
    assert told["readings"] > 0


def test_where_nothing_shall_be_shared_each_reads_and_the_merge_is_right(machine: Machine) -> None:
    ranks = machine.start(3, locks="none")
    assert all(is_reading(rank.ask()) for rank in ranks)
    assert all(rank.end()["readings"] > 0 for rank in ranks)
    machine.check()
    assert not machine.locks.exists()


@pytest.mark.parametrize("where", ["file", "link", "open to all"])
def test_a_folder_that_cannot_be_used_is_one_line_in_warnings(machine: Machine, tmp_path: Path, where: str) -> None:
    own = machine.locks / f"aiocarbon-{os.geteuid()}"
    if where == "file":
        machine.locks.write_text("")
    elif where == "link":
        machine.locks.mkdir()
        own.symlink_to(tmp_path)
    else:
        own.mkdir(parents=True)
        own.chmod(0o777)
    ranks = machine.start(2)
    for rank in ranks:
        end = rank.end()
        assert [line for line in end["warnings"] if "AIOCARBON_LOCK_DIR" in line] == end["warnings"]
        assert len(end["warnings"]) == 1
        assert end["readings"] > 0
    machine.check()


ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts, and runs as others")


def unshared(mount: str) -> tuple[str, ...]:
    """A prefix that runs a command behind a mount that only it sees; the test is skipped where none can be made."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no namespace can be made here")
    return ("unshare", "-m", "sh", "-c", f'{mount} && exec "$0" "$@"')


@ROOT
def test_containers_with_memory_of_their_own_do_not_meet_and_the_merge_is_right(machine: Machine) -> None:
    machine.locks.mkdir()
    private = unshared(f"mount -t tmpfs tmpfs {machine.locks}")
    ranks = machine.start(2, prefix=private) + machine.start(2)
    assert sum(is_reading(rank.ask()) for rank in ranks) == 3
    for rank in ranks:
        assert rank.end()["warnings"] == []
    machine.check()


@ROOT
def test_a_full_folder_is_one_line_in_warnings(machine: Machine) -> None:
    machine.locks.mkdir()
    (rank,) = machine.start(prefix=unshared(f"mount -t tmpfs -o size=16k tmpfs {machine.locks}"))
    end = rank.end()
    assert len(end["warnings"]) == 1
    assert "No space left" in end["warnings"][0]
    assert end["coverage"] == 1.0


@ROOT
def test_other_users_do_not_meet_and_the_merge_is_right() -> None:
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        Path(folder).chmod(0o755)
        for shared in (machine.locks, machine.journal):
            shared.mkdir()
            shared.chmod(0o1777)
        try:
            (mine,) = machine.start()
            (theirs,) = machine.start(
                prefix=("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"), run_id="b"
            )
            assert is_reading(mine.ask())
            assert is_reading(theirs.ask())
            assert mine.end()["warnings"] == theirs.end()["warnings"] == []
            machine.check()
        finally:
            for rank in machine.ranks:
                rank.clean()


def test_a_child_that_tracks_by_itself_after_a_fork_follows_its_parent(machine: Machine) -> None:
    code = """
import os, sys
from aiocarbon import sync
given = dict(meters=["simulated:250"], intensity=400, pue=1.0, location="DE", offline=True, interval_s=0.1)
with sync.Tracker(**given) as tracker:
    pid = os.fork()
    if pid == 0:
        with sync.Tracker(**given) as own:
            pass
        followed = f"read by process {os.getppid()} " in own.report().devices[0].note
        os._exit(0 if followed else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(status, tracker.report().devices[0].note, tracker.report().warnings)
"""
    environ = {**os.environ, "AIOCARBON_LOCK_DIR": str(machine.locks)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert done.stdout == "0 simulated: nothing was measured ()\n", done.stderr
