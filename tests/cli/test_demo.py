"""The demo's network learns, and the demo shows it."""

from __future__ import annotations

import asyncio
import io
import re

import pytest

pytest.importorskip("numpy", reason="the demo's network needs the extra demo")

from aiocarbon.cli.demo import demo
from aiocarbon.cli.digits import Trainer, steps_for
from aiocarbon.cli.output import Shown

SIMULATED = {"meters": "simulated:250", "location": "DK", "pue": 1.0}


def test_the_network_learns() -> None:
    trainer = Trainer(steps=150, rate=2e-3)
    guess = trainer.accuracy()
    first = trainer.train_epoch()
    last = trainer.train_epoch()
    assert guess < 0.3
    assert last.loss < first.loss / 2
    assert last.accuracy > 0.8


def test_the_same_seed_gives_the_same_losses() -> None:
    assert list(Trainer(steps=5).losses()) == pytest.approx(list(Trainer(steps=5).losses()), rel=1e-4)
    assert list(Trainer(steps=5, seed=2).losses()) != pytest.approx(list(Trainer(steps=5).losses()), rel=1e-4)


def test_steps_follow_the_machine_s_speed() -> None:
    ticks = iter(range(1000))
    assert steps_for(50.0, clock=lambda: float(next(ticks))) == 50


def test_a_short_demo_tells_each_epoch_and_ends_with_its_report() -> None:
    out = io.StringIO()
    report = asyncio.run(demo(epochs=3, seconds=0.3, stream=out, tracker_options=SIMULATED))
    text = out.getvalue()
    assert text.count("epoch 1/3  loss") == text.count("epoch 3/3  loss") == 1
    assert "aiocarbon demo" in text
    assert report.is_final
    assert report.epochs_total == 3
    assert all(epoch.steps > 0 for epoch in report.epochs)
    assert report.it_energy_kwh * 3.6e6 == pytest.approx(250 * report.duration_s, rel=0.05)


@pytest.mark.parametrize("is_full", [False, True])
def test_a_demo_that_nobody_can_see_ends_well(is_full: bool) -> None:
    with open("/dev/full", "w") as full:
        out = Shown(full if is_full else None)
        report = asyncio.run(demo(epochs=2, seconds=0.2, stream=out, tracker_options=SIMULATED))
    assert report.epochs_total == 2
    assert ("No space left" if is_full else "it is closed") in out.problem


def test_a_demo_is_shown_where_only_ascii_can_be() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    out = Shown(stream)
    asyncio.run(demo(epochs=2, seconds=0.2, stream=out, tracker_options=SIMULATED | {"meters": "simulated:0.0005"}))
    stream.seek(0)
    text = stream.read()
    assert "epoch 2/2  loss" in text
    assert "?W" in text  # microwatts
    assert out.problem == ""


def test_the_last_picture_on_a_terminal_has_nothing_left() -> None:
    pytest.importorskip("rich", reason="the demo's display needs the extra demo")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    asyncio.run(demo(epochs=3, seconds=1.0, stream=out, tracker_options=SIMULATED))
    picture = out.getvalue().rpartition("whole run")[2].partition("aiocarbon: ")[0]
    words = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", picture).split()  # a narrow terminal breaks the line anywhere
    assert " 0 s left" in " ".join(words)
