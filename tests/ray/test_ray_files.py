"""Pieces of journals on their way: come they twice, late, torn or never, what is kept begins as the file does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon.journal.records import sealed

pytest.importorskip("ray", reason="needs the extra ray: pip install 'aiocarbon[ray]'")

from aiocarbon.integrations._ray_files import MOST_BYTES, Inbox, Outbox, Piece

NODE = "0123456789abcdef0123"
NAME = "n1-7-0.jsonl"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def kept(folder: Path) -> Path:
    return folder / NODE[:16] / NAME


def test_nothing_is_sent_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert Outbox(tmp_path / "none").pieces() == []


def test_a_line_that_is_being_written_is_sent_once_it_is_whole(here: Path, tmp_path: Path) -> None:
    outbox, inbox = Outbox(here), Inbox(tmp_path / "there")
    assert inbox.told_s(NODE) is None
    (here / NAME).write_bytes(b"one\ntw")
    pieces = outbox.pieces()
    outbox.arrived(pieces, inbox.take(NODE, pieces))
    assert kept(tmp_path / "there").read_bytes() == b"one\n"
    assert outbox.pieces() == []
    assert inbox.told_s(NODE) == kept(tmp_path / "there").stat().st_mtime
    (here / NAME).write_bytes(b"one\ntwo\n")
    pieces = outbox.pieces()
    assert [(piece.offset, piece.data) for piece in pieces] == [(4, b"two\n")]
    outbox.arrived(pieces, inbox.take(NODE, pieces))
    assert kept(tmp_path / "there").read_bytes() == b"one\ntwo\n"


def test_a_new_sender_begins_again_and_changes_nothing(here: Path, tmp_path: Path) -> None:
    (here / NAME).write_bytes(b"one\ntwo\n")
    inbox = Inbox(tmp_path / "there")
    inbox.take(NODE, Outbox(here).pieces())
    again = Outbox(here)
    pieces = again.pieces()
    again.arrived(pieces, inbox.take(NODE, pieces))
    assert kept(tmp_path / "there").read_bytes() == b"one\ntwo\n"
    assert again.pieces() == []


def test_a_receiver_that_lost_its_files_gets_them_again(here: Path, tmp_path: Path) -> None:
    (here / NAME).write_bytes(b"one\n")
    outbox, inbox = Outbox(here), Inbox(tmp_path / "there")
    pieces = outbox.pieces()
    outbox.arrived(pieces, inbox.take(NODE, pieces))
    shutil.rmtree(tmp_path / "there")
    with (here / NAME).open("ab") as file:
        file.write(b"two\n")
    for _ in range(2):
        pieces = outbox.pieces()
        outbox.arrived(pieces, inbox.take(NODE, pieces))
    assert kept(tmp_path / "there").read_bytes() == b"one\ntwo\n"


def test_long_files_go_in_several_pieces_and_long_lines_whole(here: Path, tmp_path: Path) -> None:
    data = b"a" * (MOST_BYTES + 5) + b"\n" + b"b\n" * MOST_BYTES
    (here / NAME).write_bytes(data)
    outbox, inbox = Outbox(here), Inbox(tmp_path / "there")
    while pieces := outbox.pieces():
        assert all(piece.data.endswith(b"\n") and len(piece.data) <= 2 * MOST_BYTES for piece in pieces)
        outbox.arrived(pieces, inbox.take(NODE, pieces))
    assert kept(tmp_path / "there").read_bytes() == data


def test_what_could_not_be_kept_is_sent_again(here: Path) -> None:
    (here / NAME).write_bytes(b"one\n")
    (here / NAME).with_suffix(".tail").write_bytes(sealed({"k": "tick", "t": 1}))
    outbox = Outbox(here)
    pieces = outbox.pieces()
    outbox.arrived(pieces, {})
    assert outbox.pieces() == pieces


def test_an_older_tail_that_comes_late_is_left(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    old, new = sealed({"k": "tick", "t": 1}), sealed({"k": "tick", "t": 2})
    for tail in (new, old, new[:-5], b"", b"rubbish"):
        inbox.take(NODE, [Piece(NAME, 0, b"", tail)])
        assert kept(tmp_path).with_suffix(".tail").read_bytes() == new


@pytest.mark.parametrize("name", ["../x.jsonl", "/etc/x.jsonl", "x.py", ""])
def test_only_journals_are_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a journal"):
        Inbox(tmp_path / "a").take(NODE, [Piece(name, 0, b"x\n", b"")])


@given(data=st.binary(max_size=60), cuts=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=30))
def test_pieces_in_any_order_make_the_beginning_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("there")
    inbox = Inbox(folder)
    length = 0
    for offset, size in cuts:
        told = inbox.take(NODE, [Piece(NAME, offset, data[offset : offset + size], b"")])
        if offset <= length:
            length = max(length, min(offset + size, len(data)))
        assert told == {NAME: length}
        assert kept(folder).read_bytes() == data[:length]
