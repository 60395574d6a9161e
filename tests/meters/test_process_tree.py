"""CPU time of a process tree: nothing lost when children end, nothing twice, no stranger's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocarbon.errors import ReadError
from aiocarbon.meters.process_tree import ProcessTree, parse_stat, read_stat


class Proc:
    """A /proc whose processes a test makes and ends."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.live: dict[int, list[int]] = {}  # pid -> parent, start, own, waited
        self._starts = 0

    def spawn(self, pid: int, parent: int, *, name: str = "python") -> None:
        self._starts += 1
        self.live[pid] = [parent, self._starts, 0, 0]
        (self.root / str(pid)).mkdir()
        self._name = name
        self._write(pid, name)

    def burn(self, pid: int, ticks: int) -> None:
        self.live[pid][2] += ticks
        self._write(pid)

    def end(self, pid: int, *, is_waited_for: bool = True, reaper: int = 1) -> None:
        """End a process; its children go to a reaper, its account to its parent if that waits."""
        parent, _, own, waited = self.live.pop(pid)
        shutil.rmtree(self.root / str(pid))
        for child, row in self.live.items():
            if row[0] == pid:
                row[0] = reaper
                self._write(child)
        if is_waited_for and parent in self.live:
            self.live[parent][3] += own + waited
            self._write(parent)

    def _write(self, pid: int, name: str = "python") -> None:
        parent, start, own, waited = self.live[pid]
        fields = ["S", parent, *[0] * 9, own, 0, waited, 0, 20, 0, 1, 0, start, *[0] * 20]
        (self.root / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(map(str, fields))}\n")

    def tree(self, pid: int = 100, **more: bool) -> ProcessTree:
        return ProcessTree(pid, proc=self.root, ticks_per_s=100, **more)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    made = Proc(tmp_path)
    (tmp_path / "sys").mkdir()
    made.spawn(1, 0)
    made.spawn(50, 1)
    made.spawn(100, 50)
    return made


# -- bad days ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "12 (python", "12 (python) S 1 2", "x (python) S " + "1 " * 40, "12 (p) S a b"])
def test_what_is_no_stat_line_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no line of /proc/PID/stat"):
        parse_stat(text)


def test_a_name_may_hold_brackets_and_blanks() -> None:
    stat = parse_stat("7 (a) b (c) S 3 " + " ".join(str(n) for n in range(5, 53)))
    assert (stat.pid, stat.parent, stat.own, stat.waited, stat.start) == (7, 3, 14 + 15, 16 + 17, 22)


def test_a_root_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no process 100"):
        Proc(tmp_path).tree().cpu_s()


def test_a_proc_that_cannot_be_listed_is_told_and_made_up_for(proc: Proc) -> None:
    tree = proc.tree()
    tree.cpu_s()
    proc.burn(100, 50)
    moved = proc.root.with_name("elsewhere")
    proc.root.rename(moved)
    with pytest.raises(ReadError, match="could not be listed"):
        tree.cpu_s()
    moved.rename(proc.root)
    assert tree.cpu_s() == 0.5


def test_a_member_that_cannot_be_read_is_made_up_for(proc: Proc) -> None:
    proc.spawn(101, 100)
    tree = proc.tree()
    tree.cpu_s()
    proc.burn(101, 30)
    (proc.root / "101" / "stat").write_text("garbage")
    assert tree.cpu_s() == 0.0
    proc.burn(101, 10)
    assert tree.cpu_s() == 0.4


def test_a_child_that_forks_and_ends_between_looks_is_counted_by_its_parent(proc: Proc) -> None:
    tree = proc.tree()
    tree.cpu_s()
    proc.spawn(101, 100)
    proc.spawn(102, 101)
    proc.burn(102, 70)
    proc.end(102)
    proc.burn(101, 20)
    proc.end(101)
    assert tree.cpu_s() == 0.9


def test_a_child_that_was_seen_is_not_counted_again_when_it_is_waited_for(proc: Proc) -> None:
    tree = proc.tree()
    tree.cpu_s()
    proc.spawn(101, 100)
    proc.burn(101, 70)
    assert tree.cpu_s() == 0.7
    proc.burn(101, 5)
    proc.end(101)
    assert tree.cpu_s() == 0.75
    assert tree.cpu_s() == 0.75


def test_what_a_child_had_used_before_the_first_look_is_nobodys_later(proc: Proc) -> None:
    proc.spawn(101, 100)
    proc.burn(101, 1000)
    tree = proc.tree()
    assert tree.cpu_s() == 0.0
    proc.burn(101, 1)
    proc.end(101)
    assert tree.cpu_s() == 0.01


def test_a_child_that_nobody_waits_for_costs_the_next_ones_nothing(proc: Proc) -> None:
    tree = proc.tree()
    tree.cpu_s()
    proc.spawn(101, 100)
    proc.burn(101, 70)
    tree.cpu_s()
    proc.end(101, is_waited_for=False)
    assert tree.cpu_s() == 0.7
    tree.cpu_s()
    proc.spawn(102, 100)
    proc.burn(102, 40)
    proc.end(102)
    assert tree.cpu_s() == pytest.approx(1.1)


def test_a_child_that_ends_while_we_look_is_counted_once(proc: Proc) -> None:
    tree = proc.tree()
    tree.cpu_s()
    proc.spawn(101, 100)
    proc.burn(101, 70)
    assert tree.cpu_s() == 0.7
    # Its parent was read before it ended, itself after that: it is gone, and its parent has not gained it yet.
    proc.end(101, is_waited_for=False)
    assert tree.cpu_s() == 0.7
    proc.live[100][3] += 75
    proc.burn(100, 0)
    assert tree.cpu_s() == 0.75


def test_an_orphan_stays_ours_when_the_one_between_ends(proc: Proc) -> None:
    proc.spawn(101, 100)
    proc.spawn(102, 101)
    tree = proc.tree()
    tree.cpu_s()
    proc.burn(101, 10)
    proc.end(101)
    proc.burn(102, 30)
    assert tree.cpu_s() == 0.4
    proc.spawn(103, 102)
    proc.burn(103, 5)
    assert tree.cpu_s() == 0.45


def test_an_orphan_that_a_reaper_of_ours_took_over_counts_once_when_it_ends(proc: Proc) -> None:
    proc.spawn(101, 100)
    proc.spawn(102, 101)
    tree = proc.tree()
    tree.cpu_s()
    proc.end(101, reaper=100)
    proc.burn(102, 30)
    assert tree.cpu_s() == 0.3
    proc.burn(102, 5)
    proc.end(102)
    assert tree.cpu_s() == 0.35


def test_a_chain_that_ends_at_once_is_counted_once(proc: Proc) -> None:
    tree = proc.tree()
    tree.cpu_s()
    for pid in (101, 102, 103):
        proc.spawn(pid, pid - 1)
        proc.burn(pid, 10)
    assert tree.cpu_s() == 0.3
    for pid in (103, 102, 101):
        proc.burn(pid, 1)
        proc.end(pid)
    assert tree.cpu_s() == 0.33


def test_a_number_that_is_used_again_is_another_process(proc: Proc) -> None:
    tree = proc.tree()
    proc.spawn(101, 100)
    tree.cpu_s()
    proc.burn(101, 10)
    tree.cpu_s()
    proc.end(101)
    proc.spawn(101, 50)  # a stranger's, with the same number
    proc.burn(101, 5000)
    assert tree.cpu_s() == 0.1
    proc.burn(101, 5000)
    assert tree.cpu_s() == 0.1
    assert tree.pids == {100}


def test_strangers_are_not_ours_and_are_looked_at_once(proc: Proc) -> None:
    proc.spawn(200, 1)
    tree = proc.tree()
    tree.cpu_s()
    proc.burn(200, 500)
    (proc.root / "200" / "stat").write_text("garbage")  # would be told if it were read again
    proc.spawn(201, 50)
    proc.burn(201, 500)
    assert tree.cpu_s() == 0.0
    assert tree.pids == {100}


def test_without_its_root_only_what_it_started_counts(proc: Proc) -> None:
    tree = proc.tree(with_root=False)
    tree.cpu_s()
    proc.burn(100, 500)
    proc.spawn(101, 100)
    proc.burn(101, 30)
    assert tree.cpu_s() == 0.3
    assert tree.pids == {101}
    proc.burn(101, 10)
    proc.end(101)
    assert tree.cpu_s() == 0.4
    assert tree.pids == frozenset()


def test_a_root_that_ended_leaves_what_was_seen(proc: Proc) -> None:
    tree = proc.tree()
    tree.cpu_s()
    proc.burn(100, 30)
    tree.cpu_s()
    proc.end(100)
    assert tree.cpu_s() == 0.3
    assert tree.cpu_s() == 0.3


# -- laws --------------------------------------------------------------------------------------------------------------

ACTIONS = st.lists(
    st.tuples(st.sampled_from(["spawn", "burn", "end", "look", "stranger"]), st.integers(0, 10**6), st.integers(1, 50)),
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(actions=ACTIONS)
def test_what_a_tree_used_is_counted_once_whoever_ends_when(actions, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    proc = Proc(tmp_path_factory.mktemp("proc"))
    proc.spawn(1, 0)
    proc.spawn(100, 1)
    tree = proc.tree()
    tree.cpu_s()
    ours, seen, used, last, next_pid = {100}, {100}, 0, 0.0, 101
    for what, choice, ticks in actions:
        alive = sorted(ours & proc.live.keys())
        pid = alive[choice % len(alive)]
        if what == "spawn":
            proc.spawn(next_pid, pid)
            ours.add(next_pid)
            next_pid += 1
        elif what == "burn":
            proc.burn(pid, ticks)
            used += ticks
        elif what == "end" and pid != 100 and proc.live[pid][0] in ours:
            if any(row[0] == pid for row in proc.live.values()):
                continue  # orphans that nobody has seen yet are told below not to be followed
            proc.end(pid)
        elif what == "stranger":
            proc.spawn(next_pid, 1)
            proc.burn(next_pid, ticks)
            next_pid += 1
        elif what == "look":
            now = tree.cpu_s()
            assert now >= last
            last, seen = now, ours & proc.live.keys()
            assert tree.pids == seen
    assert tree.cpu_s() == pytest.approx(used / 100)


# -- the real kernel ---------------------------------------------------------------------------------------------------

needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc")


@needs_proc
def test_real_children_and_grandchildren_count_also_after_they_have_ended() -> None:
    tree = ProcessTree(os.getpid(), with_root=False)
    tree.cpu_s()
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    subprocess.run([sys.executable, "-c", code], check=True)
    used = tree.cpu_s()
    assert 0.15 < used < 5.0
    assert tree.cpu_s() == used


@needs_proc
def test_this_process_is_there() -> None:
    stat = read_stat(Path("/proc"), os.getpid())
    assert stat is not None
    assert stat.parent == os.getppid()
