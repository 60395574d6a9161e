"""Rings as files: who holds one, who sees what, and what is left when a process dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiocarbon._core import ringform as form
from aiocarbon._core.ringform import Pulse, Title
from aiocarbon._engine import ring

TITLE = Title(True, 4711, 0, -1, "line-1", "bell.1")
PULSE = Pulse(0, 0, 1, 1, 1, True, False, False, False)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def made(folder: int, name: str = "d.1") -> ring.Writer:
    writer = ring.make(folder, name, TITLE, PULSE)
    assert writer is not None
    return writer


def opened(folder: int, name: str = "d.1") -> ring.Reader:
    reader = ring.read(folder, name)
    assert reader is not None
    return reader


def test_of_two_who_make_one_ring_one_succeeds(folder: int) -> None:
    writer = made(folder)
    assert ring.make(folder, "d.1", TITLE, PULSE) is None
    assert os.listdir(folder) == ["d.1"]  # the other one's draft is gone
    writer.close()


def test_readings_arrive_in_order_and_once(folder: int) -> None:
    writer, reader = made(folder), opened(folder)
    assert reader.take() == ([], False)
    for n in range(3):
        writer.append(n, 1, 10 * n)
    records, is_overrun = reader.take()
    assert [(r.number, r.t_ns, r.value) for r in records] == [(0, 0, 0), (1, 1, 10), (2, 2, 20)]
    assert not is_overrun
    assert reader.take() == ([], False)


def test_one_that_was_away_too_long_is_told_and_gets_what_is_left(folder: int) -> None:
    writer, reader = made(folder), opened(folder)
    writer.append(0, 0, 0)
    reader.take()
    for n in range(1, form.RECORDS + 5):
        writer.append(n, 0, n)
    records, is_overrun = reader.take()
    assert is_overrun
    assert [records[0].number, records[-1].number] == [5, form.RECORDS + 4]
    writer.append(form.RECORDS + 5, 0, 0)
    assert [r.number for r in reader.take()[0]] == [form.RECORDS + 5]


def test_a_reading_torn_in_the_middle_is_taken_once_it_is_whole(folder: int) -> None:
    writer, reader = made(folder), opened(folder)
    writer.append(0, 0, 0)
    whole = os.pread(writer.fd, form.RECORD_SIZE, form.record_at(0))
    os.pwrite(writer.fd, bytes(8), form.record_at(0) + 8)
    os.pwrite(writer.fd, b"\1", form.record_at(0) + 9)
    assert reader.take() == ([], False)
    os.pwrite(writer.fd, whole, form.record_at(0))
    assert [r.number for r in reader.take()[0]] == [0]


def test_a_ring_is_locked_until_its_writer_closes_it(folder: int) -> None:
    writer, reader = made(folder), opened(folder)
    assert reader.is_locked()
    assert opened(folder).is_locked()
    writer.close()
    assert not reader.is_locked()
    assert not reader.is_locked()  # asking does not lock it


def test_a_ring_that_was_replaced_says_so(folder: int, tmp_path: Path) -> None:
    writer, reader = made(folder), opened(folder)
    assert writer.is_current()
    assert reader.is_current()
    (tmp_path / "d.1").unlink()
    assert not writer.is_current()
    made(folder)
    assert not writer.is_current()
    assert not reader.is_current()


@pytest.mark.parametrize("content", [b"", b"not a ring", bytes(form.SIZE)])
def test_a_file_that_is_no_ring_is_none(folder: int, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.1").write_bytes(content)
    assert ring.read(folder, "d.1") is None


def test_a_link_is_not_followed(folder: int, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "d.1").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match=r"symbolic|Too many"):
        ring.read(folder, "d.1")


def test_a_writer_that_is_closed_writes_into_no_other_file(folder: int, tmp_path: Path) -> None:
    writer = made(folder)
    writer.close()
    with (tmp_path / "other").open("wb") as other:  # it may have got the number of the descriptor
        with pytest.raises(OSError, match="Bad file"):
            writer.append(1, 0, 1)
        assert os.fstat(other.fileno()).st_size == 0


HOLDER = """
import os, sys, time
from aiocarbon._engine import ring
from aiocarbon._core.ringform import Pulse, Title
folder = os.open(sys.argv[1], os.O_RDONLY)
writer = ring.make(folder, "d.1", Title(True, os.getpid(), 0, -1, "s", "b"), Pulse(0, 0, 1, 1, 1, True, *[False] * 3))
{then}
print("held", flush=True)
time.sleep(600)
"""

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    children = []

    def begin(then: str) -> subprocess.Popen[str]:
        code = HOLDER.format(then=then)
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, process_group=0
        )
        children.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        return child

    yield begin
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_the_lock_dies_with_its_holder(folder: int, start: Start) -> None:
    child = start("")
    reader = opened(folder)
    assert reader.is_locked()
    child.kill()
    child.wait()
    assert not reader.is_locked()


def test_a_stopped_holder_keeps_its_lock(folder: int, start: Start) -> None:
    child = start("")
    reader = opened(folder)
    child.send_signal(signal.SIGSTOP)
    assert reader.is_locked()


@pytest.mark.parametrize("generations", [1, 2])
def test_a_forked_child_that_lives_on_does_not_hold_the_lock(folder: int, start: Start, generations: int) -> None:
    child = start("if os.fork(): time.sleep(600)\n" * generations)  # the last of them says that it lives
    reader = opened(folder)
    assert reader.is_locked()
    child.kill()
    child.wait()
    assert not reader.is_locked()


def test_a_child_started_as_a_program_does_not_hold_the_lock(folder: int, start: Start) -> None:
    child = start("import subprocess\nsubprocess.Popen(['sleep', '600'], close_fds=False)")
    reader = opened(folder)
    child.kill()
    child.wait()
    assert not reader.is_locked()
