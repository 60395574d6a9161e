"""Writing a journal on file systems as they are: full, read-only, shared."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiocarbon.errors import JournalError
from aiocarbon.journal import load
from aiocarbon.journal.records import sealed, unsealed
from aiocarbon.journal.write import JournalWriter, Whereabouts
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.sync import Tracker

HEADER = {"schema": "aiocarbon.journal/1"}


def lines(path: Path | None) -> list[bytes]:
    assert path is not None
    return path.read_bytes().splitlines()


class FillingDisk:
    """Takes so many bytes, then refuses until it is given more."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __call__(self, descriptor: int, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(descriptor, data[: self.room])
        self.room -= written
        return written


def test_a_full_disk_refuses_with_a_word_and_leaves_no_file(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "run", "host", put=FillingDisk(10))
    for _ in range(3):
        with pytest.raises(JournalError, match=r"No space left.*journal=DIR"):
            writer.open(HEADER)
    assert writer.path is None
    assert list((tmp_path / "run").iterdir()) == []


def test_a_line_torn_by_a_full_disk_does_not_spoil_the_next(tmp_path: Path) -> None:
    disk = FillingDisk(10**6)
    writer = JournalWriter(tmp_path, "run", "host", put=disk)
    writer.open(HEADER)
    disk.room = 25
    with pytest.raises(JournalError, match="No space left"):
        writer.append([{"k": "warning", "t": n} for n in range(3)])
    disk.room = 10**6
    writer.append([{"k": "warning", "t": n} for n in range(3)])
    writer.close()
    whole = []
    for line in lines(writer.path)[1:]:
        try:
            whole.append(json.loads(line)["t"])
        except ValueError:
            continue
    assert whole[-3:] == [0, 1, 2]


def test_a_disk_that_writes_a_few_bytes_at_a_time_gets_everything(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "run", "host", put=lambda descriptor, data: os.write(descriptor, data[:3]))
    writer.open(HEADER)
    writer.append([{"k": "tick", "t": 1}, {"k": "tick", "t": 2}])
    writer.close()
    assert [json.loads(line) for line in lines(writer.path)] == [HEADER, {"k": "tick", "t": 1}, {"k": "tick", "t": 2}]


def test_a_device_that_is_always_full_is_an_error_with_the_path(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        writer = JournalWriter(tmp_path, "run", "host", put=lambda _, data: os.write(full, data))
        with pytest.raises(JournalError, match=f"{tmp_path}/run cannot be opened: No space left"):
            writer.open(HEADER)
    finally:
        os.close(full)


def test_a_folder_that_is_a_file_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(JournalError, match=r"runs/run cannot be opened: .*journal=DIR"):
        JournalWriter(tmp_path / "runs", "run", "host").open(HEADER)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_an_error_with_the_path(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(JournalError, match="Permission denied"):
        JournalWriter(tmp_path, "run", "host").open(HEADER)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc, where not even root makes folders")
def test_a_folder_that_nobody_may_make_is_an_error_with_the_path() -> None:
    with pytest.raises(JournalError, match="/proc/nowhere/run cannot be opened"):
        JournalWriter(Path("/proc/nowhere"), "run", "host").open(HEADER)


def test_writing_before_opening_and_after_closing_is_an_error(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "run", "host")
    with pytest.raises(JournalError, match="is not open"):
        writer.append([{"k": "tick"}])
    writer.open(HEADER)
    writer.close()
    writer.close()
    with pytest.raises(JournalError, match="is not open"):
        writer.append([{"k": "tick"}])


def test_two_writers_of_one_process_never_share_a_file(tmp_path: Path) -> None:
    writers = [JournalWriter(tmp_path, "run", "a host/..", pid=7) for _ in range(3)]
    for writer in writers:
        writer.open(HEADER)
    names = [writer.path.name for writer in writers if writer.path is not None]
    assert names == [f"a_host_..-7-{n}.jsonl" for n in range(3)]
    for writer in writers:
        writer.close()


def test_a_writer_knows_whether_its_file_is_still_there(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "runs", "run", "host")
    assert writer.whereabouts() is Whereabouts.THERE  # nothing was begun
    writer.open(HEADER)
    first = writer.path
    assert first is not None
    assert writer.whereabouts() is Whereabouts.THERE
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert writer.whereabouts() is Whereabouts.MOVED
    (tmp_path / "elsewhere").rename(tmp_path / "runs")
    assert writer.whereabouts() is Whereabouts.THERE
    first.unlink()
    assert writer.whereabouts() is Whereabouts.GONE
    first.write_text("another file of its name")
    assert writer.whereabouts() is Whereabouts.GONE
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "runs").write_text("in the way")
    assert writer.whereabouts() is Whereabouts.GONE
    (tmp_path / "runs").unlink()
    writer.close()
    writer.open(HEADER)
    assert writer.path != first
    assert writer.whereabouts() is Whereabouts.THERE
    writer.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_a_file_that_nfs_keeps_only_for_its_writer_is_gone(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "run", "host")
    writer.open(HEADER)
    assert writer.path is not None
    writer.path.rename(tmp_path / "run" / ".nfs0000000000c0ffee00000001")
    assert writer.whereabouts() is Whereabouts.GONE
    writer.close()


def test_a_relative_folder_is_the_one_that_it_was_in_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    writer = JournalWriter(Path("runs"), "run", "host")
    writer.open(HEADER)
    monkeypatch.chdir(tmp_path / "other")
    assert writer.whereabouts() is Whereabouts.THERE
    writer.put_tail({"t": 1})
    writer.close(keep_tail=False)
    assert [path.suffix for path in (tmp_path / "runs" / "run").iterdir()] == [".jsonl"]


def test_the_tail_holds_the_newest_record_whatever_came_before(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "run", "host")
    writer.open(HEADER)
    assert writer.path is not None
    tail = writer.path.with_suffix(".tail")
    for record in ({"t": 1, "e": [10**9] * 5}, {"t": 2, "e": []}, {"t": 3, "e": [1]}):
        writer.put_tail(record)
        assert unsealed(tail.read_bytes()) == record
    writer.close(keep_tail=False)
    assert not tail.exists()


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_torn_tail_is_never_taken_for_a_record(cut: int) -> None:
    data = sealed({"k": "tick", "t": 123, "e": [1, 2, 3]})
    assert unsealed(data[:cut]) is None
    assert unsealed(data[:cut] + b"\0" + data[cut + 1 :]) is None


def test_coordinates_are_written_down_nowhere(tmp_path: Path) -> None:
    meter = SimulatedMeter(wave=Constant(100.0), refresh_s=0.001)
    with Tracker(meters=[meter], location="55.676123,12.568456", offline=True, journal=tmp_path) as tracker:
        pass
    assert tracker.report().location.latitude == 55.676123
    files = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any('"report"' in text for text in files)
    assert not any("55.67" in text or "12.56" in text for text in files)


def test_a_run_whose_journal_cannot_be_written_is_measured_with_one_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    meter = SimulatedMeter(wave=Constant(100))
    with Tracker(meters=[meter], journal=tmp_path / "file", location="DK", interval_s=0.02) as tracker:
        for _ in range(3):
            with tracker.epoch():
                time.sleep(0.05)  # the work that is measured
    report = tracker.report()
    (warning,) = report.warnings
    assert "the tracking goes on without it" in warning
    assert report.epochs_total == 3
    assert report.it_energy_kwh > 0


FILE_OF_A_HEADER_AT_MOST = """
import resource, sys, time
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.sync import Tracker

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
with Tracker(
    meters=[SimulatedMeter(wave=Constant(100))], journal=sys.argv[1], location="DK", interval_s=0.02, intensity=300
) as tracker:
    for _ in range(5):
        with tracker.epoch():
            time.sleep(0.1)
print(tracker.report().epochs_total, tracker.report().it_energy_kwh)
"""


def limited(folder: Path, bytes_at_most: int) -> tuple[Path, float]:
    """The journal of a run whose files may have so many bytes, and what its tracker said, kWh."""
    command = [sys.executable, "-c", FILE_OF_A_HEADER_AT_MOST, str(folder), str(bytes_at_most)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    epochs, kwh = done.stdout.split()
    assert epochs == "5"
    (path,) = folder.glob("*/*.jsonl")
    return path, float(kwh)


def test_a_disk_that_holds_the_first_line_and_no_more_collects_one_file(tmp_path: Path) -> None:
    roomy, _ = limited(tmp_path / "roomy", 1 << 20)
    full, _ = limited(tmp_path / "full", roomy.read_bytes().index(b"\n") + 20)
    assert full.read_bytes().count(b"\n") == 1


def test_a_disk_that_is_full_in_mid_run_has_the_newest_state_all_the_same(tmp_path: Path) -> None:
    roomy, _ = limited(tmp_path / "roomy", 1 << 20)
    begun = roomy.read_bytes().index(b'"k":"epoch"')  # devices and the first mark are told
    full, kwh = limited(tmp_path / "full", begun)
    (run,) = load(full.parent).runs
    assert run.it_energy_kwh == pytest.approx(kwh, rel=0.1)


def test_a_header_torn_by_a_full_disk_does_not_spoil_the_next_file(tmp_path: Path) -> None:
    disk = FillingDisk(10)
    writer = JournalWriter(tmp_path, "run", "host", put=disk)
    with pytest.raises(JournalError, match="No space left"):
        writer.open(HEADER)
    disk.room = 10**6
    writer.open(HEADER)
    writer.close()
    assert json.loads(lines(writer.path)[0]) == HEADER
