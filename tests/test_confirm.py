"""Asking on the terminal: yes, no, rubbish, nobody there, and a loop that goes on meanwhile."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

import aiocarbon
from aiocarbon import sync
from aiocarbon._core.report import Prediction
from aiocarbon.confirm import TRIES, asked

PREDICTION = Prediction(
    as_of=datetime.now(UTC),
    is_bounded=True,
    epochs=10,
    epochs_seen=1,
    energy_kwh=12.0,
    energy_kwh_low=11.0,
    energy_kwh_high=13.0,
    co2eq_g=4000.0,
    co2eq_g_low=3500.0,
    co2eq_g_high=4500.0,
    remaining_duration_s=7200.0,
)


class Scripted:
    def __init__(self, *lines: str | None) -> None:
        self.lines = list(lines)
        self.shown: list[str] = []

    def ask(self, text: str, is_over: threading.Event) -> str | None:
        self.shown.append(text)
        return self.lines.pop(0)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["y\n"], True),
        (["  YES \n"], True),
        (["n\n"], False),
        (["\n"], False),
        ([None], False),
        (["what\n", "y\n"], True),
        (["what\n"] * TRIES, False),
    ],
)
def test_only_a_yes_is_a_yes(lines: list[str | None], expected: bool) -> None:
    terminal = Scripted(*lines)
    assert asked(PREDICTION, threading.Event(), terminal) is expected
    assert terminal.lines == []
    assert "12.0 kWh (11.0 to 13.0 kWh)" in terminal.shown[0]
    assert "4.00 kg CO2eq" in terminal.shown[0]
    assert "[y/N]" in terminal.shown[0]


def test_both_are_public_and_ask_once_a_run() -> None:
    assert aiocarbon.confirm_on_terminal.asks_once  # type: ignore[attr-defined]
    assert sync.confirm_on_terminal.asks_once  # type: ignore[attr-defined]


ENVIRON = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
PROGRAM = """
import asyncio, sys
import aiocarbon
from aiocarbon import Tracker, TrainingStoppedError

ticks = 0
async def tick():
    global ticks
    while True:
        ticks += 1
        await asyncio.sleep(0.005)
        if ticks % 20 == 0:
            print("tick", flush=True)

async def main():
    task = asyncio.create_task(tick())
    settings = dict(epochs=3, meters="simulated:250", location="DK", pue=1, intensity=100)
    try:
        async with Tracker(on_prediction=aiocarbon.confirm_on_terminal, **settings) as tracker:
            while tracker._handle._session.foresight._predictor is None:
                await asyncio.sleep(0.002)
            for _ in range(3):
                await asyncio.sleep(0.02)
                await tracker.epoch()
        print("trained", tracker.report().is_final, flush=True)
    except TrainingStoppedError:
        print("stopped", tracker.report().is_final, flush=True)

asyncio.run(main())
"""


@contextmanager
def on_a_terminal(program: str) -> Iterator[tuple[int, int]]:
    """A program whose controlling terminal is ours to type on: its process, and the terminal's other end."""
    process, terminal = pty.fork()
    if process == 0:  # the child: nothing but exec may happen here
        os.execve(
            sys.executable, [sys.executable, "-c", program], {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        )
    try:
        yield process, terminal
    finally:
        try:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(terminal)


def read_until(terminal: int, *words: str) -> str:
    """What was printed up to one of some words, or up to the end."""
    said = ""
    while not any(word in said for word in words):
        assert select.select([terminal], [], [], 60.0)[0], said
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            return said
        if not part:
            return said
        said += part.decode(errors="replace")
    return said


@pytest.mark.parametrize(("typed", "expected"), [(b"y\n", "trained True"), (b"n\n", "stopped True")])
def test_a_training_asks_its_terminal_once_while_its_loop_goes_on(typed: bytes, expected: str) -> None:
    with on_a_terminal(PROGRAM) as (_, terminal):
        said = read_until(terminal, "[y/N]")
        assert "whole run ~" in said
        read_until(terminal, "tick")  # the loop goes on while nobody has answered
        os.write(terminal, typed)
        said = read_until(terminal, "trained", "stopped") + read_until(terminal, "\n")
        assert expected in said
        assert "[y/N]" not in said


def test_ctrl_c_at_the_question_ends_the_program_at_once() -> None:
    with on_a_terminal(PROGRAM) as (process, terminal):
        read_until(terminal, "[y/N]")
        os.write(terminal, b"\x03")
        said = read_until(terminal, "trained", "stopped")
        assert "KeyboardInterrupt" in said
        _, status = os.waitpid(process, 0)
        assert status != 0


def test_without_a_terminal_the_answer_is_no() -> None:
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env=ENVIRON,
        check=False,
    )
    assert done.stdout.split("\n")[-2] == "stopped True", done.stderr


ASKS = """
import threading, time
from aiocarbon.confirm import OwnTerminal
print("ready", flush=True)
while not input().startswith("typed"): pass
print("heard", repr(OwnTerminal().ask("go on? [y/N]", threading.Event())), flush=True)
"""


def test_what_was_typed_before_the_question_is_no_answer_to_it() -> None:
    with on_a_terminal(ASKS) as (_, terminal):
        read_until(terminal, "ready")
        os.write(terminal, b"typed\n\n")  # Enter, pressed once too often
        read_until(terminal, "[y/N]")
        os.write(terminal, b"y\n")
        assert "'y\\n'" in read_until(terminal, "heard") + read_until(terminal, "\n")
