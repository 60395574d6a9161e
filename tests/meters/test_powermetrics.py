"""Macs: a real child process plays a recorded stream; refusals, torn documents and deaths first.

The stream is written after powermetrics(1) and recordings in public repositories: one property list a sample, a NUL
byte before each but the first.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from aiocarbon._core.derive import Derivation
from aiocarbon.errors import MeterLostError, MeterPermissionError, MeterUnavailableError, ReadError
from aiocarbon.meters import Basis, Device, Part, Reading
from aiocarbon.meters.powermetrics import PowermetricsMeter, _default_command

S = 1_000_000_000

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
<key>is_delta</key><true/>
<key>elapsed_ns</key><integer>{elapsed_ns}</integer>
<key>hw_model</key><string>Mac14,6</string>
<key>timestamp</key><date>2026-01-05T10:00:00Z</date>
<key>processor</key>
<dict>
"""
TAIL = """</dict>
<key>gpu</key><dict><key>freq_hz</key><real>4.44e+08</real><key>idle_ratio</key><real>0.97</real></dict>
</dict>
</plist>
"""


def document(elapsed_ns: int = 1_010_000_000, **values: object) -> bytes:
    values = values or {"cpu_energy": 1923, "gpu_energy": 57, "ane_energy": 0}
    kinds = {int: "integer", float: "real", str: "string"}
    body = "".join(f"<key>{key}</key><{kinds[type(v)]}>{v}</{kinds[type(v)]}>\n" for key, v in values.items())
    return (HEAD.format(elapsed_ns=elapsed_ns) + body + TAIL).encode()


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now_ns = 100 * S

    def __call__(self) -> int:
        return self.now_ns


class Player:
    """A child that passes on what a test writes into its pipe, as powermetrics passes on its samples."""

    def __init__(self, path: Path, machine: str = "arm64") -> None:
        os.mkfifo(path)
        self.clock = Hand()
        script = f"import os,sys\nf=os.open({str(path)!r},os.O_RDONLY)\nwhile b:=os.read(f,65536): os.write(1,b)"
        self.meter = PowermetricsMeter(
            command=[sys.executable, "-S", "-c", script],
            platform="darwin",
            machine=machine,
            clock=self.clock,
            startup_s=0,
        )
        self.devices = self.meter.open().devices
        self.pipe: IO[bytes] = path.open("wb", buffering=0)

    def device(self, name: str) -> Device:
        return next(device for device in self.devices if device.id == f"powermetrics:{name}")

    def play(self, data: bytes, *, at_s: float) -> None:
        """Write, set the clock, and wait until the child has passed on every byte."""
        stream = self.meter._stream
        assert stream is not None
        before = len(stream._buffer)
        for start in range(0, len(data), 1 << 12):  # less than the pipes hold, so that nobody waits for the other
            piece = data[start : start + (1 << 12)]
            assert self.pipe.write(piece) == len(piece)
            while len(stream._buffer) < before + start + len(piece):
                select.select([stream._stdout], [], [])
                assert not stream._drain()
        self.clock.now_ns = 100 * S + round(at_s * S)

    def end(self) -> None:
        """End the child, and wait until it is gone."""
        self.pipe.close()
        stream = self.meter._stream
        assert stream is not None
        stream._child.wait()


@pytest.fixture
def player(tmp_path: Path) -> Iterator[Player]:
    player = Player(tmp_path / "stream")
    yield player
    player.meter.close()
    player.pipe.close()


def test_elsewhere_than_on_a_mac_it_is_unavailable() -> None:
    for platform in ("linux", "win32"):
        with pytest.raises(MeterUnavailableError, match="macOS") as caught:
            PowermetricsMeter(platform=platform).open()
        assert not isinstance(caught.value, MeterPermissionError)


@pytest.mark.parametrize(
    "words",
    [
        "sudo: a password is required",
        "powermetrics must be invoked as the superuser",
        "user is not in the sudoers file",
        "Sorry, user ada is not allowed to execute '/usr/bin/powermetrics' as root",
    ],
)
def test_a_refusal_is_a_permission_with_the_line_that_mends_it(words: str) -> None:
    meter = PowermetricsMeter(command=["/bin/sh", "-c", f'echo "{words}" >&2; exit 1'], platform="darwin")
    with pytest.raises(MeterPermissionError, match="password") as caught:
        meter.open()
    assert caught.value.remedy.startswith('echo "$USER ALL=(root) NOPASSWD: /usr/bin/powermetrics" | sudo tee')
    meter.close()


@pytest.mark.parametrize("command", [["/none/powermetrics"], ["/bin/sh", "-c", "echo bad sampler >&2; exit 64"]])
def test_a_program_that_is_not_there_or_will_not_run_is_unavailable(command: list[str]) -> None:
    with pytest.raises(MeterUnavailableError) as caught:
        PowermetricsMeter(command=command, platform="darwin").open()
    assert not isinstance(caught.value, MeterPermissionError)


@pytest.mark.parametrize(
    "garbage",
    [
        b"<plist><dict><key>elapsed_ns</key></plist>",
        b"\x00\xff\xfe</plist>",
        b"Second underflow occured.\n</plist>",
        document(elapsed_ns=0),
        document(elapsed_ns=-5),
        document().replace(b"elapsed_ns", b"elapsed"),
        document().replace(b"processor", b"cpu"),
        document()[200:],
    ],
)
def test_a_document_that_is_none_is_a_gap_behind_which_the_counter_begins_anew(player: Player, garbage: bytes) -> None:
    cpu = player.device("cpu")
    player.play(document() + b"\0" + document(), at_s=2.1)
    assert player.meter.read(cpu).value == 3_846_000
    player.play(b"\0" + garbage, at_s=3.1)
    with pytest.raises(ReadError, match="1 so far") as caught:
        player.meter.read(cpu)
    assert caught.value.device == cpu.id
    player.play(b"\0" + document(), at_s=4.1)
    after = player.meter.read(cpu)
    assert after.value == 1_923_000  # less than before: a reset, and no energy is invented for the hole
    assert after.t0_ns <= 100 * S + round(4.05 * S) <= after.t1_ns <= player.clock.now_ns


def test_a_flood_without_an_end_is_not_kept(player: Player) -> None:
    assert player.meter._stream is not None
    player.meter._stream.most_bytes = 10_000
    player.play(b"x" * 10_001, at_s=1)
    with pytest.raises(ReadError):
        player.meter.read(player.device("cpu"))
    stream = player.meter._stream
    assert stream is not None
    assert stream._buffer == b""


@pytest.mark.parametrize("value", [-5, "many", float("nan"), float("inf")])
def test_a_value_that_is_none_is_a_gap_of_that_device_only(player: Player, value: object) -> None:
    player.play(document(cpu_energy=1000, gpu_energy=value), at_s=1.1)
    assert player.meter.read(player.device("cpu")).value == 1_000_000
    for name, key in (("gpu", "gpu_energy"), ("ane", "ane_energy")):
        with pytest.raises(ReadError, match=key):
            player.meter.read(player.device(name))


def test_a_child_that_ends_is_lost_after_its_last_word_was_told_of_each_device(player: Player) -> None:
    player.play(document() + b"\0" + b"<plist", at_s=1.1)
    player.end()
    assert player.meter.read(player.device("cpu")).value == 1_923_000
    assert player.meter.read(player.device("gpu")).value == 57_000
    for name in ("cpu", "gpu"):
        with pytest.raises(MeterLostError, match="ended"):
            player.meter.read(player.device(name))


def test_a_child_that_dies_before_its_first_word_is_lost(player: Player) -> None:
    player.end()
    with pytest.raises(MeterLostError, match="it said nothing"):
        player.meter.read(player.device("cpu"))


def test_closing_ends_a_child_that_will_not_hear(tmp_path: Path) -> None:
    deaf = "import os,signal,time\nsignal.signal(15,signal.SIG_IGN)\nos.write(1,b'<')\ntime.sleep(600)"
    meter = PowermetricsMeter(command=[sys.executable, "-S", "-c", deaf], platform="darwin", machine="arm64")
    meter.open()
    stream = meter._stream
    assert stream is not None
    while not stream._buffer:  # until it is deaf
        select.select([stream._stdout], [], [])
        stream._drain()
    meter.close()
    assert stream._child.returncode == -9


def test_the_devices_of_apple_silicon(player: Player) -> None:
    assert [(device.id, *device.covers) for device in player.devices] == [
        ("powermetrics:cpu", Part.CPU),
        ("powermetrics:gpu", Part.GPU),
        ("powermetrics:ane", Part.ACCELERATOR),
    ]
    for device in player.devices:
        assert device.basis is Basis.MODEL  # the chip's estimate, as the manual says
        assert device.low_factor < 1 < device.high_factor
        assert "estimate" in device.note


def test_before_the_first_document_the_counter_stands_at_its_beginning(player: Player) -> None:
    player.clock.now_ns += S
    assert player.meter.read(player.device("cpu")) == Reading(100 * S, 100 * S, 0)


def test_energies_add_up_over_the_time_that_really_passed(player: Player) -> None:
    cpu, gpu, ane = (player.device(name) for name in ("cpu", "gpu", "ane"))
    first = document(1_010_000_000, cpu_energy=1000, gpu_energy=20, ane_energy=3)
    player.play(first, at_s=1.2)  # its NUL comes only with the next one
    reading = player.meter.read(cpu)
    assert reading == Reading(100 * S + 1_010_000_000, 100 * S + 1_200_000_000, 1_000_000)
    assert player.meter.read(gpu).value == 20_000
    player.clock.now_ns += S // 2
    assert player.meter.read(cpu) == reading  # nothing new has come: the same statement, with its stamps

    second = document(1_020_000_000, cpu_energy=500.5, gpu_energy=1, ane_energy=0)
    player.play(b"\0" + second[:100], at_s=2.0)
    assert player.meter.read(cpu) == reading  # half a document says nothing yet
    player.play(second[100:], at_s=2.13)
    reading = player.meter.read(cpu)
    assert reading.value == 1_500_500
    assert isinstance(reading.value, int)
    # it arrived 0.1 s after the elapsed times alone: the stream began at most that much after the child
    assert (reading.t0_ns, reading.t1_ns) == (100 * S + 2_030_000_000, 100 * S + 2_130_000_000)
    assert (player.meter.read(gpu).value, player.meter.read(ane).value) == (21_000, 3_000)


def test_after_a_sleep_of_the_machine_the_stamps_follow_the_clock(player: Player) -> None:
    player.play(document(S), at_s=1.1)
    player.play(b"\0" + document(S), at_s=601.1)
    reading = player.meter.read(player.device("cpu"))
    assert 100 * S + 599.5 * S <= reading.t0_ns <= reading.t1_ns == player.clock.now_ns


def test_many_documents_at_once_are_all_counted(player: Player) -> None:
    player.play(b"\0".join([document(S)] * 50), at_s=50.2)
    reading = player.meter.read(player.device("cpu"))
    assert reading.value == 50 * 1_923_000
    assert (reading.t0_ns, reading.t1_ns) == (150 * S, 150 * S + S // 5)


def test_an_intel_mac_tells_the_joules_of_its_package(tmp_path: Path) -> None:
    player = Player(tmp_path / "stream", machine="x86_64")
    (device,) = player.devices
    assert (device.id, device.covers) == ("powermetrics:package", frozenset({Part.CPU}))
    player.play(document(package_joules=2.48), at_s=1.1)
    assert player.meter.read(device).value == 2_480_000
    player.meter.close()
    player.pipe.close()


def test_the_child_is_powermetrics_without_a_prompt() -> None:
    command = _default_command()
    assert " ".join(command).endswith(
        "/usr/bin/powermetrics --samplers cpu_power,gpu_power,ane_power -i 1000 -f plist -b 0"
    )
    assert command[:2] == ["sudo", "-n"] or os.geteuid() == 0


def test_no_child_outlives_its_meter(player: Player) -> None:
    stream = player.meter._stream
    assert stream is not None
    child: subprocess.Popen[bytes] = stream._child
    assert child.poll() is None
    player.meter.close()
    assert child.returncode is not None
    player.meter.close()


@pytest.mark.parametrize(("is_stamped", "lies_at_s"), [(True, 3.0), (False, 2.5)])
def test_a_sample_lies_at_its_own_instant_and_not_half_an_interval_before(
    player: Player, is_stamped: bool, lies_at_s: float
) -> None:
    device = player.device("cpu")
    assert device.is_stamped
    derivation = Derivation(replace(device, is_stamped=is_stamped))
    for n in range(6):
        derivation.add(Reading(n * 10**9, n * 10**9, n * 100_000_000))
    assert derivation.curve.state_at(round(lies_at_s * 1e9)).energy_j == pytest.approx(300.0)
