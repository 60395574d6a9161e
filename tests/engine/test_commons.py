"""The folder in which processes meet: whose it is, what lies in it, and the days on which it cannot be used."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity
from aiocarbon._core.ringform import Pulse, Title
from aiocarbon._engine import ring
from aiocarbon._engine.bell import Bell, Message, Rope
from aiocarbon._engine.claims import place
from aiocarbon._engine.commons import Commons, is_shareable, key_of

IS_ROOT = os.geteuid() == 0
TITLE = Title(True, 1, 0, -1, "s", "bell.1")
PULSE = Pulse(0, 0, 1, 1, 1, True, False, False, False)


@pytest.fixture
def boot_id(tmp_path: Path) -> Path:
    path = tmp_path / "boot_id"
    path.write_text("0123456789abcdef\n")
    return path


@pytest.fixture
def commons(tmp_path: Path, boot_id: Path) -> Iterator[Commons]:
    folder = Commons(str(tmp_path / "locks"), boot_id=boot_id)
    yield folder
    folder.close()


def device(**changes: object) -> Device:
    fields = {
        "id": "rapl:package-0",
        "kind": DeviceKind.CPU,
        "name": "CPU",
        "quantity": Quantity.ENERGY,
        "basis": Basis.COUNTER,
        **changes,
    }
    return Device(**fields)  # type: ignore[arg-type]  # the tests' own mixture


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes share devices on Linux")
def test_where_processes_meet() -> None:
    assert place({}) == "/dev/shm"
    assert place({"AIOCARBON_LOCK_DIR": "/somewhere"}) == "/somewhere"
    assert place({"AIOCARBON_LOCK_DIR": "none"}) is None
    assert place({"AIOCARBON_LOCK_DIR": "NONE"}) is None


def test_the_folder_is_made_for_its_user_and_boot_alone(commons: Commons) -> None:
    own = Path(commons.path)
    assert own.parent.name == f"aiocarbon-{os.geteuid()}"
    assert own.name.startswith("01234567")
    assert stat.S_IMODE(own.parent.stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, boot_id: Path) -> None:
    own = tmp_path / f"aiocarbon-{os.geteuid()}"
    own.mkdir()
    own.chmod(0o777)
    with pytest.raises(PermissionError, match="others may write"):
        Commons(str(tmp_path), boot_id=boot_id)


def test_a_link_that_another_put_there_is_not_followed(tmp_path: Path, boot_id: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"aiocarbon-{os.geteuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"director|symbolic"):
        Commons(str(tmp_path), boot_id=boot_id)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(not IS_ROOT, reason="only root gives folders away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path, boot_id: Path) -> None:
    own = tmp_path / "aiocarbon-0"
    own.mkdir(0o700)
    os.chown(own, 12345, 12345)
    with pytest.raises(PermissionError, match="another user"):
        Commons(str(tmp_path), boot_id=boot_id)


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path, boot_id: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"[Ff]ile"):
        Commons(str(tmp_path / "file"), boot_id=boot_id)


def test_without_a_boot_id_nothing_is_shared(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Commons(str(tmp_path), boot_id=tmp_path / "missing")


def test_no_descriptor_is_left_open_by_a_folder_that_cannot_be_used(tmp_path: Path, boot_id: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    (tmp_path / f"aiocarbon-{os.geteuid()}").mkdir(0o777)
    (tmp_path / f"aiocarbon-{os.geteuid()}").chmod(0o777)
    with pytest.raises(PermissionError):
        Commons(str(tmp_path), boot_id=boot_id)
    assert (len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0) == before


def test_the_newest_ring_counts_and_foreign_files_do_not(commons: Commons) -> None:
    writers = [ring.make(commons.fd, name, TITLE, PULSE) for name in ("d.2", "d.10", "dd.11", "d-x.12")]
    Path(commons.path, "d.x").write_text("")
    Path(commons.path, "d.99").write_text("no ring")
    found = commons.newest("d")
    assert found is not None
    assert found[0] == 10
    commons.remove_before("d", 10)
    assert sorted(os.listdir(commons.fd)) == ["d-x.12", "d.10", "d.99", "d.x", "dd.11"]
    assert commons.newest("unknown") is None
    for writer in writers:
        assert writer is not None
        writer.close()


def test_old_files_of_dead_processes_are_removed_and_those_in_use_are_not(commons: Commons) -> None:
    living, dead = ring.make(commons.fd, "a.1", TITLE, PULSE), ring.make(commons.fd, "b.1", TITLE, PULSE)
    young = ring.make(commons.fd, "c.1", TITLE, PULSE)
    assert living is not None
    assert dead is not None
    assert young is not None
    dead.close()
    young.close()
    heard, deaf = Bell(commons.fd), Bell(commons.fd)
    deaf.close()
    ring.Users(commons.fd, "b").leave(lambda: None)
    users = ring.Users(commons.fd, "a")
    Path(commons.path, ".d.1.draft").write_text("")
    long_ago = time.time() - 400
    for name in os.listdir(commons.fd):
        if name != "c.1":
            os.utime(os.path.join(commons.path, name), (long_ago, long_ago))
    commons.tidy()
    assert sorted(os.listdir(commons.fd)) == sorted([".a.users", "a.1", "c.1", heard.name])
    users.leave(lambda: None)
    living.close()
    heard.close()


def test_the_last_of_those_who_share_a_device_knows_it_however_the_others_went(commons: Commons) -> None:
    alone: list[str] = []
    first, second = (ring.Users(commons.fd, "k") for _ in range(2))
    code = (
        "import sys; from aiocarbon._engine import ring; ring.Users(int(sys.argv[1]), 'k'); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(commons.fd)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[commons.fd],
    ) as third:
        assert third.stdout is not None
        third.stdout.readline()
        first.leave(lambda: alone.append("first"))
        third.kill()
    second.leave(lambda: alone.append("second"))
    assert alone == ["second"]
    assert second.fd == -1


def test_who_comes_while_the_last_one_clears_waits_and_has_a_file_that_the_others_see(commons: Commons) -> None:
    found: list[ring.Users] = []

    def clear() -> None:
        pool.submit(lambda: found.append(ring.Users(commons.fd, "k")))
        time.sleep(0.02)  # the other one tries meanwhile, in vain
        assert found == []
        commons.clear("k")

    with ThreadPoolExecutor(1) as pool:
        ring.Users(commons.fd, "k").leave(clear)
    (late,) = found
    assert os.fstat(late.fd).st_ino == os.stat(".k.users", dir_fd=commons.fd).st_ino
    late.leave(lambda: None)


def test_what_is_left_of_a_device_goes_with_the_last_who_shared_it(commons: Commons) -> None:
    users = ring.Users(commons.fd, "k")
    dead, other = (ring.make(commons.fd, name, TITLE, PULSE) for name in ("k.1", "j.1"))
    assert dead is not None
    assert other is not None
    dead.close()
    users.leave(lambda: commons.clear("k"))
    assert os.listdir(commons.fd) == ["j.1"]
    other.close()


def test_one_device_has_one_key_in_all_processes_and_others_have_others() -> None:
    one = key_of(device())
    assert one == key_of(device(name="called otherwise", note="differently", max_power_w=3.0))
    others = [device(id="rapl:package-1"), device(quantity=Quantity.POWER), device(counter_range_uj=5)]
    assert len({one, *map(key_of, others), key_of(device(), "simulated:250"), key_of(device(), "simulated:251")}) == 6
    assert "/" not in key_of(device(id="../../etc/passwd"))
    assert len(key_of(device(id="x" * 1000))) < 100


def test_models_are_each_process_s_own() -> None:
    assert is_shareable(device())
    assert is_shareable(device(basis=Basis.POWER))
    assert not is_shareable(device(basis=Basis.MODEL))
    assert not is_shareable(device(basis=Basis.ASSUMED))


def test_a_bell_tells_what_was_said_and_nobody_to_those_who_ring_in_vain(commons: Commons) -> None:
    bell = Bell(commons.fd)
    rope = Rope(commons.fd, bell.name)
    said = [Message(b"follower", 10**9, 0, True), Message(b"follower", 10**9, 17, False)]
    assert bell.messages() == []
    for message in said:
        assert rope.pull(message)
    assert bell.messages() == said
    bell.close()
    assert not rope.pull(said[0])
    assert not Rope(commons.fd, "bell.never").pull(said[0])


def test_a_bell_that_nobody_hears_for_long_stops_nobody(commons: Commons) -> None:
    bell = Bell(commons.fd)
    rope = Rope(commons.fd, bell.name)
    message = Message(b"follower", 1, 0, True)
    for _ in range(5000):  # more than a pipe holds
        assert rope.pull(message)
    assert bell.messages()[0] == message
    bell.close()
    rope.close()


@pytest.mark.skipif(not IS_ROOT, reason="only root mounts")
def test_a_full_file_system_is_an_error_and_leaves_nothing(tmp_path: Path, boot_id: Path) -> None:
    code = f"""
import os, errno, pathlib
from aiocarbon._engine import ring
from aiocarbon._engine.commons import Commons
from aiocarbon._core.ringform import Pulse, Title
folder = Commons({str(tmp_path / "full")!r}, boot_id=pathlib.Path({str(boot_id)!r}))
try:
    ring.make(folder.fd, "d.1", Title(True, 1, 0, -1, "s", "b"), Pulse(0, 0, 1, 1, 1, True, *[False] * 3))
except OSError as error:
    assert error.errno == errno.ENOSPC, error
    print(os.listdir(folder.fd))
"""
    (tmp_path / "full").mkdir()
    mounted = f"mount -t tmpfs -o size=16k tmpfs {tmp_path / 'full'} || exit 77; exec {sys.executable} -c '{code}'"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mounted.replace(code, code.replace("'", '"'))], capture_output=True, text=True
    )
    if done.returncode == 77:
        pytest.skip(f"no mount here: {done.stderr}")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
