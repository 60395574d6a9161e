"""A fork waits for imports of ours that are under way, so that its child may import whatever it likes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aiocarbon._forks import Forks, importing_for_us

FORKING = """
import os, signal, sys, threading, time

from aiocarbon import _forks
from aiocarbon._engine import host

begun = threading.Event()

def is_waited_for():
    frame = sys._current_frames()[threading.main_thread().ident]
    while frame is not None and frame.f_code is not _forks.Forks.wait.__code__:
        frame = frame.f_back
    return frame is not None

def load():
    import slow

lease = host.lease()
lease.call(lambda engine: engine.blocking(load))
begun.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    import slow
    os._exit(0 if slow.is_whole else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
host.release(lease)
"""

SLOW = """
import __main__, time
__main__.begun.set()
limit = time.monotonic() + 5.0
while not __main__.is_waited_for() and time.monotonic() < limit:
    time.sleep(0.001)
is_whole = True
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_amid_an_import_of_ours_may_import_the_same(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "main.py").write_text(FORKING)
    done = subprocess.run([sys.executable, tmp_path / "main.py"], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("0", "")


def test_an_import_that_does_not_end_is_waited_for_once() -> None:
    told = [{1}, {1}, set(), {1}, {1}]
    forks = Forks(lambda: told.pop(0), limit_s=0.0)
    for left in (4, 3, 2, 1):  # given up at once, known to be stuck, done, another one
        forks.wait()
        forks.over()
        assert len(told) == left


def test_a_fork_waits_until_an_import_is_done() -> None:
    told: list[set[int]] = [{1, 2}, {2}, set()]
    forks = Forks(lambda: told.pop(0), limit_s=60.0)
    forks.wait()
    assert not told


def test_no_fork_falls_between_two_modules_that_are_loaded_in_turn() -> None:
    asked, waiting = threading.Event(), threading.Event()

    def importing() -> set[int]:
        waiting.set()
        return set()

    forks, order = Forks(importing, limit_s=60.0), []

    def load() -> None:
        with forks.kept_off():
            asked.set()
            assert waiting.wait(30)
            order.append("loaded")

    with ThreadPoolExecutor(1) as pool:
        loaded = pool.submit(load)
        assert asked.wait(30)
        forks.wait()
        order.append("fork")
        begun = pool.submit(load)  # waits for the fork
        forks.over()
        loaded.result(30)
        begun.result(30)
    assert order == ["loaded", "fork", "loaded"]


def test_imports_of_the_training_s_own_threads_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "of_the_training.py").write_text("import test_forks_gate as g\ng.begun.set()\ng.go_on.wait(30)\n")
    (tmp_path / "test_forks_gate.py").write_text(
        "import threading\nbegun, go_on = threading.Event(), threading.Event()"
    )
    import test_forks_gate as gate  # type: ignore[import-not-found]  # written above

    with ThreadPoolExecutor(1) as pool:
        pool.submit(__import__, "of_the_training")
        try:
            assert gate.begun.wait(30)
            assert not importing_for_us()
        finally:
            gate.go_on.set()
