"""`exit_on_signals` in real processes: what a scheduler sends, and that nobody's handlers are touched unasked."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import aiocarbon
from aiocarbon import ConfigError, UsageError, exit_on_signals

ROOT = str(Path(aiocarbon.__file__).parents[1])
ENVIRON = os.environ | {"PYTHONPATH": ROOT}

BLOCKING = """
import json, sys, time
from aiocarbon import exit_on_signals
from aiocarbon.sync import Tracker
with exit_on_signals({names}):
    tracker = Tracker(meters="simulated:250", location="DK")
    try:
        with tracker:
            print("begun", flush=True)
            sys.stdin.readline()
    finally:
        report = tracker.report()
        print(json.dumps([report.is_final, report.ended_well, report.it_energy_kwh]), flush=True)
"""

ASYNC = """
import asyncio, json, sys
from aiocarbon import Tracker, exit_on_signals
async def main():
    tracker = Tracker(meters="simulated:250", location="DK")
    try:
        async with tracker:
            print("begun", flush=True)
            await asyncio.{wait}
    finally:
        report = tracker.report()
        print(json.dumps([report.is_final, report.ended_well, report.it_energy_kwh]), flush=True)
with exit_on_signals():
    {run}(main())
"""


def start(code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=ENVIRON,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def ended(process: subprocess.Popen[str]) -> list[object]:
    assert process.stdout is not None
    line = process.stdout.readline()  # before stdin is closed, which would end the block by itself
    _, err = process.communicate()  # closes it: what a worker thread waits for, that nobody can break off
    assert "Traceback" not in err, err
    told: list[object] = json.loads(line)
    return told


@pytest.mark.parametrize(
    "code",
    [
        BLOCKING.format(names=""),
        ASYNC.format(wait="sleep(60)", run="asyncio.run"),
        ASYNC.format(wait="to_thread(sys.stdin.readline)", run="asyncio.run"),
        ASYNC.format(wait="sleep(60)", run="__import__('uvloop').run"),
    ],
    ids=["blocking", "asyncio", "asyncio in a worker", "uvloop"],
)
def test_two_sigterms_and_a_sigcont_end_with_one_final_report(code: str) -> None:
    if "uvloop" in code:
        pytest.importorskip("uvloop")
    process = start(code)
    for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGCONT, signal.SIGTERM):
        process.send_signal(number)
    assert process.stdout is not None
    while not select.select([process.stdout], [], [], 1.0)[0]:
        process.send_signal(signal.SIGTERM)  # all came just between Python's look for signals and its going to sleep
    is_final, ended_well, kwh = ended(process)
    assert (is_final, ended_well) == (True, False)
    assert isinstance(kwh, float)
    assert kwh > 0.0
    assert process.returncode == 128 + signal.SIGTERM


def test_a_signal_that_comes_amid_an_import_ends_a_loop_that_has_nothing_to_do() -> None:
    """Put off until the import is through, it has to wake the selector in which the loop waits by then."""
    importing = "exec(compile('signal.raise_signal(signal.SIGTERM)', '<frozen importlib._bootstrap>', 'exec'))"
    process = start("import signal\n" + ASYNC.format(wait=f"sleep({importing} or 60)", run="asyncio.run"))
    assert ended(process)[:2] == [True, False]


def test_other_signals_by_name_and_the_code_names_them() -> None:
    process = start(BLOCKING.format(names="'SIGUSR1', 'SIGTERM'"))
    process.send_signal(signal.SIGUSR1)
    # One that comes between the interpreter's last look and the read that blocks is seen with the next one only.
    while not select.select([process.stdout], [], [], 5.0)[0]:
        process.send_signal(signal.SIGUSR1)
    assert ended(process)[:2] == [True, False]
    assert process.returncode == 128 + signal.SIGUSR1


def test_a_block_that_ends_by_itself_leaves_handlers_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with exit_on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_handler_that_was_there_is_called_first_and_once() -> None:
    came = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: came.append(number))
    try:
        with pytest.raises(SystemExit) as left, exit_on_signals("SIGUSR2"):
            try:
                signal.raise_signal(signal.SIGUSR2)
            finally:
                signal.raise_signal(signal.SIGUSR2)  # while leaving: ignored
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert left.value.code == 128 + signal.SIGUSR2
    assert came == [signal.SIGUSR2]


@pytest.mark.parametrize("name", ["TERM", "SIGNOTHING", "SIG_IGN", "SIG_BLOCK", "", 15])
def test_what_is_no_signal_is_refused_and_nothing_is_changed(name: object) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ConfigError, match="SIGTERM"), exit_on_signals("SIGTERM", name):  # type: ignore[arg-type] # the point
        pass
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_it_is_misuse() -> None:
    caught: list[BaseException] = []

    def enter() -> None:
        try:
            with exit_on_signals():
                pass
        except UsageError as error:
            caught.append(error)

    thread = threading.Thread(target=enter)  # noqa: TID251 # the test's own
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_a_tracker_by_itself_touches_no_handler() -> None:
    code = (
        "import signal, sys\nfrom aiocarbon.sync import Tracker\n"
        "before = [signal.getsignal(n) for n in signal.valid_signals()]\n"
        "with Tracker(meters='simulated:250', location='DK'):\n"
        "    assert before == [signal.getsignal(n) for n in signal.valid_signals()]\n"
    )
    subprocess.run([sys.executable, "-c", code], env=ENVIRON, check=True)
