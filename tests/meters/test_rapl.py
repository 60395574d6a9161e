"""The RAPL meter on powercap trees as kernels make them; the bad days first."""

from __future__ import annotations

import errno
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon.errors import (
    ConfigError,
    MeterLostError,
    MeterPermissionError,
    MeterUnavailableError,
    ReadError,
)
from aiocarbon.meters.base import Meter
from aiocarbon.meters.rapl import CONTAINER_REMEDY, GROUP_REMEDY, RaplMeter

RANGE_UJ = 262_143_328_850
DRAM_RANGE_UJ = 65_712_999_613
S = 1_000_000_000


def add_zone(
    root: Path, zone_id: str, name: str, *, energy: str = "1000000\n", range_uj: int = RANGE_UJ, **files: str
) -> Path:
    """A zone as Linux lays it out: nested below devices, linked flat from class; the path of its energy_uj."""
    control, *numbers = zone_id.split(":")
    ids = [":".join([control, *numbers[: i + 1]]) for i in range(len(numbers))]
    path = root.parent.parent / "devices" / "virtual" / "powercap" / control / Path(*ids)
    path.mkdir(parents=True)
    root.mkdir(parents=True, exist_ok=True)
    (root / zone_id).symlink_to(Path("../..", path.relative_to(root.parent.parent)))
    if not (root / control).is_symlink():
        (root / control).symlink_to(Path("../../devices/virtual/powercap", control))
    (path / "name").write_text(f"{name}\n")
    (path / "enabled").write_text("1\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    (path / "energy_uj").write_text(energy)
    for file, content in files.items():
        (path / file).write_text(f"{content}\n")
    return path / "energy_uj"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "sys" / "class" / "powercap"
    path.mkdir(parents=True)
    return path


def two_sockets(root: Path) -> None:
    """A two-socket Xeon: core, uncore and dram below each package, psys beside, the MMIO copy of the first package."""
    limits = {"constraint_0_power_limit_uw": "205000000", "constraint_0_max_power_uw": "205000000"}
    for socket in range(2):
        add_zone(root, f"intel-rapl:{socket}", f"package-{socket}", **limits)
        add_zone(root, f"intel-rapl:{socket}:0", "core")
        add_zone(root, f"intel-rapl:{socket}:1", "uncore")
        add_zone(root, f"intel-rapl:{socket}:2", "dram", range_uj=DRAM_RANGE_UJ)
    add_zone(root, "intel-rapl:2", "psys")
    add_zone(root, "intel-rapl-mmio:0", "package-0", **limits)


def by_id(devices: Iterable[Device]) -> dict[str, Device]:
    return {device.id: device for device in devices}


class Ticks:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class ScriptedPread:
    """`os.pread` that fails as often as told: what a plain file never does."""

    def __init__(self) -> None:
        self.failures: list[int] = []

    def __call__(self, fd: int, length: int, offset: int) -> bytes:
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return os.pread(fd, length, offset)


# --- what cannot be read ----------------------------------------------------------------------------------------------


def as_nobody(root: Path, code: str) -> str:
    """Run code, which finds the opened `meter` and `errors`, as a user who owns nothing; what it printed.

    The child imports first and drops its rights then, and reaches the tree from its working directory, so that neither
    interpreter nor temporary directory need be open to that user.
    """
    prelude = (
        "import os\n"
        "from pathlib import Path\n"
        "from aiocarbon import errors\n"
        "from aiocarbon.meters.rapl import RaplMeter\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "meter = RaplMeter(root=Path('.'))\n"
    )
    repository = Path(__file__).parents[2]
    environ = os.environ | {"PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, "-c", prelude + code], cwd=root, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_zones_unreadable_is_a_permission_error_with_the_line_that_mends_it(root: Path) -> None:
    for zone_id, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "dram")):
        add_zone(root, zone_id, name).chmod(0o400 if os.getuid() == 0 else 0)
    code = (
        "try: meter.open()\n"
        "except errors.MeterPermissionError as error: print(error); print(error.remedy)\n"
        "else: print('opened')\n"
    )
    message, remedy = as_nobody(root, code).splitlines()
    assert "rapl:package-0, rapl:package-0/dram" in message
    assert "CVE-2020-8694" in message
    assert remedy == GROUP_REMEDY


def test_one_unreadable_zone_is_a_warning_and_the_others_are_read(root: Path) -> None:
    add_zone(root, "intel-rapl:0", "package-0").chmod(0o444)
    add_zone(root, "intel-rapl:0:0", "dram").chmod(0o400 if os.getuid() == 0 else 0)
    code = (
        "inventory = meter.open()\n"
        "print([d.id for d in inventory.devices])\n"
        "for f in inventory.findings: print(f.event, f.is_warning, bool(f.remedy), '0/dram' in f.message)\n"
    )
    devices, findings = as_nobody(root, code).splitlines()
    assert devices == "['rapl:package-0']"
    assert findings == "meter.permission True True True"


def test_refused_by_the_read_itself_is_a_permission_error_too(root: Path) -> None:
    add_zone(root, "intel-rapl:0", "package-0")
    pread = ScriptedPread()
    pread.failures = [errno.EPERM]
    with pytest.raises(MeterPermissionError) as caught:
        RaplMeter(root=root, pread=pread).open()
    assert caught.value.remedy == GROUP_REMEDY


def test_the_remedy_is_one_line_of_valid_shell_that_opens_the_counters_to_a_group_only() -> None:
    assert "\n" not in GROUP_REMEDY
    subprocess.run(["sh", "-n", "-c", GROUP_REMEDY], check=True)
    assert "g+r" in GROUP_REMEDY
    for open_to_all in ("444", "a+r", "o+r", "chmod -R", "+rw"):
        assert open_to_all not in GROUP_REMEDY


def test_no_tree_an_empty_tree_and_a_control_type_without_counters_are_unavailable(root: Path, tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailableError, match="no energy counter"):
        RaplMeter(root=tmp_path / "nothing").open()
    with pytest.raises(MeterUnavailableError, match="no energy counter"):
        RaplMeter(root=root).open()
    add_zone(root, "dtpm:0", "system").unlink()
    with pytest.raises(MeterUnavailableError, match="no energy counter") as caught:
        RaplMeter(root=root).open()
    assert not isinstance(caught.value, MeterPermissionError)


def test_links_that_lead_nowhere_are_a_container_that_hides_them(root: Path) -> None:
    (root / "intel-rapl:0").symlink_to("../../devices/virtual/powercap/intel-rapl/intel-rapl:0")
    with pytest.raises(MeterUnavailableError, match="container") as caught:
        RaplMeter(root=root).open()
    assert caught.value.remedy == CONTAINER_REMEDY


@pytest.mark.parametrize("garbage", ["", "\n", "unknown\n", "0x10\n", "12 13\n", "1_000\n", "1.5\n", "\0\0"])
def test_what_is_no_number_is_never_a_value(root: Path, garbage: str) -> None:
    energy = add_zone(root, "intel-rapl:0", "package-0")
    meter = RaplMeter(root=root)
    (device,) = meter.open().devices
    energy.write_text(garbage)
    with pytest.raises(ReadError, match="not a number"):
        meter.read(device)
    energy.write_text("7\n")
    assert meter.read(device).value == 7


def test_a_negative_counter_is_never_a_value(root: Path) -> None:
    energy = add_zone(root, "intel-rapl:0", "package-0")
    meter = RaplMeter(root=root)
    (device,) = meter.open().devices
    energy.write_text("-5\n")
    with pytest.raises(ReadError, match="-5"):
        meter.read(device)


def test_a_zone_of_garbage_is_left_out_and_told(root: Path) -> None:
    add_zone(root, "intel-rapl:0", "package-0")
    add_zone(root, "intel-rapl:1", "package-1", energy="broken\n")
    inventory = RaplMeter(root=root).open()
    assert [device.id for device in inventory.devices] == ["rapl:package-0"]
    (finding,) = inventory.findings
    assert (finding.event, finding.device, finding.is_warning) == ("meter.unreadable", "rapl:package-1", True)


def test_a_tree_of_garbage_alone_is_unavailable_and_says_why(root: Path) -> None:
    add_zone(root, "intel-rapl:1", "package-1", energy="broken\n")
    with pytest.raises(MeterUnavailableError, match="broken"):
        RaplMeter(root=root).open()


def test_eio_once_is_a_read_error_and_the_next_read_works(root: Path) -> None:
    add_zone(root, "intel-rapl:0", "package-0")
    pread = ScriptedPread()
    meter = RaplMeter(root=root, pread=pread)
    (device,) = meter.open().devices
    pread.failures = [errno.EIO]
    with pytest.raises(ReadError) as caught:
        meter.read(device)
    assert not isinstance(caught.value, MeterLostError)
    assert caught.value.device == "rapl:package-0"
    assert meter.read(device).value == 1_000_000


def test_eio_while_opening_does_not_lose_the_zone(root: Path) -> None:
    add_zone(root, "intel-rapl:0", "package-0")
    pread = ScriptedPread()
    pread.failures = [errno.EIO]
    meter = RaplMeter(root=root, pread=pread)
    (device,) = meter.open().devices
    assert meter.read(device).value == 1_000_000


def test_a_zone_that_comes_back_is_opened_again(root: Path) -> None:
    energy = add_zone(root, "intel-rapl:0", "package-0")
    pread = ScriptedPread()
    meter = RaplMeter(root=root, pread=pread)
    (device,) = meter.open().devices
    energy.unlink()
    energy.write_text("42\n")  # another file under the same name, as after a module was loaded again
    pread.failures = [errno.ENODEV]
    assert meter.read(device).value == 42


def test_a_zone_that_vanishes_is_lost_and_the_other_goes_on(root: Path) -> None:
    gone = add_zone(root, "intel-rapl:0", "package-0")
    add_zone(root, "intel-rapl:1", "package-1")
    pread = ScriptedPread()
    meter = RaplMeter(root=root, pread=pread)
    first, second = meter.open().devices
    gone.unlink()
    pread.failures = [errno.ENODEV]
    with pytest.raises(MeterLostError, match="gone"):
        meter.read(first)
    with pytest.raises(MeterLostError):
        meter.read(first)
    assert meter.read(second).value == 1_000_000


@pytest.mark.parametrize(("second", "outcome"), [(errno.ENODEV, MeterLostError), (errno.EIO, ReadError)])
def test_a_zone_that_is_there_again_but_fails_is_judged_by_that_failure(
    root: Path, second: int, outcome: type[Exception]
) -> None:
    add_zone(root, "intel-rapl:0", "package-0")
    pread = ScriptedPread()
    meter = RaplMeter(root=root, pread=pread)
    (device,) = meter.open().devices
    pread.failures = [errno.ENODEV, second]
    with pytest.raises(outcome):
        meter.read(device)


def test_reading_before_opening_and_after_closing_is_lost_not_a_value(root: Path) -> None:
    add_zone(root, "intel-rapl:0", "package-0")
    meter = RaplMeter(root=root)
    (device,) = meter.open().devices
    meter.close()
    meter.close()
    with pytest.raises(MeterLostError, match="not open"):
        meter.read(device)
    assert meter.check() == ()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
def test_no_descriptor_is_left_by_close_nor_by_opening_again(root: Path) -> None:
    two_sockets(root)
    add_zone(root, "intel-rapl:3", "package-3", energy="broken\n")

    def mine() -> int:
        links = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        return sum(str(root.parents[1]) in link for link in links)

    meter = RaplMeter(root=root)
    meter.open()
    meter.open()
    assert mine() == 5
    meter.close()
    assert mine() == 0


# --- what is counted --------------------------------------------------------------------------------------------------


def test_two_sockets_count_packages_and_dram_once_and_nothing_inside_them(root: Path) -> None:
    two_sockets(root)
    inventory = RaplMeter(root=root).open()
    devices = by_id(inventory.devices)
    assert {device.id for device in inventory.devices if device.counted} == {
        "rapl:package-0",
        "rapl:package-0/dram",
        "rapl:package-1",
        "rapl:package-1/dram",
    }
    assert [device.id for device in inventory.devices if not device.counted] == ["rapl:psys"]
    assert devices["rapl:psys"].kind is DeviceKind.PLATFORM
    package, dram = devices["rapl:package-1"], devices["rapl:package-1/dram"]
    assert (package.kind, package.covers, package.counter_range_uj) == (DeviceKind.CPU, {Part.CPU}, RANGE_UJ)
    assert (dram.kind, dram.covers, dram.counter_range_uj) == (DeviceKind.DRAM, {Part.MEMORY}, DRAM_RANGE_UJ)
    assert all(device.basis is Basis.COUNTER and device.quantity is Quantity.ENERGY for device in inventory.devices)
    (finding,) = inventory.findings
    assert (finding.event, finding.device, finding.is_warning) == ("meter.duplicate", "rapl:package-0", False)


def test_the_msr_zone_is_kept_and_not_its_mmio_copy(root: Path) -> None:
    add_zone(root, "intel-rapl-mmio:0", "package-0", energy="3780000\n")
    add_zone(root, "intel-rapl:0", "package-0", energy="3930000\n")
    meter = RaplMeter(root=root)
    (device,) = meter.open().devices
    assert meter.read(device).value == 3_930_000


def test_the_mmio_zone_is_kept_where_it_is_the_only_one(root: Path) -> None:
    add_zone(root, "intel-rapl-mmio:0", "package-0")
    inventory = RaplMeter(root=root).open()
    assert [device.id for device in inventory.devices] == ["rapl:package-0"]
    assert inventory.findings == ()


def test_the_mmio_zone_stands_in_for_an_msr_zone_that_cannot_be_read(root: Path) -> None:
    add_zone(root, "intel-rapl:0", "package-0", energy="broken\n")
    add_zone(root, "intel-rapl-mmio:0", "package-0", energy="77\n")
    meter = RaplMeter(root=root)
    inventory = meter.open()
    (device,) = inventory.devices
    assert meter.read(device).value == 77
    assert [finding.event for finding in inventory.findings] == ["meter.unreadable"]


def test_zone_ids_are_hexadecimal_and_ordered_as_numbers(root: Path) -> None:
    for n in range(17):
        add_zone(root, f"intel-rapl:{n:x}", f"package-{n}")
    ids = [device.id for device in RaplMeter(root=root).open().devices]
    assert ids == [f"rapl:package-{n}" for n in range(17)]


def test_amd_has_a_package_without_limits_and_no_memory(root: Path) -> None:
    add_zone(root, "intel-rapl:0", "package-0", range_uj=65_532_610_987)
    add_zone(root, "intel-rapl:0:0", "core", range_uj=65_532_610_987)
    (device,) = RaplMeter(root=root).open().devices
    assert (device.id, device.counter_range_uj, device.max_power_w) == ("rapl:package-0", 65_532_610_987, 1000.0)


def test_dies_are_devices_of_their_own_with_their_own_memory(root: Path) -> None:
    for die in range(2):
        add_zone(root, f"intel-rapl:{die}", f"package-0-die-{die}")
        add_zone(root, f"intel-rapl:{die}:0", "dram")
    devices = by_id(RaplMeter(root=root).open().devices)
    assert {i for i, d in devices.items() if d.counted} == {
        "rapl:package-0-die-0",
        "rapl:package-0-die-0/dram",
        "rapl:package-0-die-1",
        "rapl:package-0-die-1/dram",
    }
    assert devices["rapl:package-0-die-1"].name == "CPU package 0, die 1"


def test_dies_that_an_older_kernel_names_alike_are_still_two(root: Path) -> None:
    add_zone(root, "intel-rapl:0", "package-0", energy="1\n")
    add_zone(root, "intel-rapl:1", "package-0", energy="2\n")
    meter = RaplMeter(root=root)
    devices = meter.open().devices
    assert [device.id for device in devices] == ["rapl:package-0", "rapl:package-0@intel-rapl:1"]
    assert [meter.read(device).value for device in devices] == [1, 2]


def test_an_unknown_domain_is_shown_but_never_added(root: Path) -> None:
    add_zone(root, "intel-rapl:0", "package-0")
    add_zone(root, "intel-rapl:0:0", "accelerator")
    devices = by_id(RaplMeter(root=root).open().devices)
    assert not devices["rapl:package-0/accelerator"].counted
    assert devices["rapl:package-0/accelerator"].note


@pytest.mark.parametrize(
    ("files", "watts"),
    [
        ({}, 1000.0),
        ({"constraint_0_max_power_uw": "205000000"}, 410.0),
        ({"constraint_0_max_power_uw": "0", "constraint_0_power_limit_uw": "150000000"}, 300.0),
        ({"constraint_0_max_power_uw": "15000000", "constraint_1_power_limit_uw": "64000000"}, 64.0),
        ({"constraint_0_max_power_uw": "125000000", "constraint_1_power_limit_uw": "4095875000"}, 250.0),
        ({"constraint_0_max_power_uw": "unknown"}, 1000.0),
    ],
)
def test_the_most_a_zone_can_draw_comes_from_the_limits_it_states(
    root: Path, files: dict[str, str], watts: float
) -> None:
    add_zone(root, "intel-rapl:0", "package-0", **files)
    (device,) = RaplMeter(root=root).open().devices
    assert device.max_power_w == pytest.approx(watts)


def test_a_zone_without_a_stated_range_never_wraps(root: Path) -> None:
    energy = add_zone(root, "intel-rapl:0", "package-0")
    (energy.parent / "max_energy_range_uj").unlink()
    (device,) = RaplMeter(root=root).open().devices
    assert device.counter_range_uj is None


# --- reading ----------------------------------------------------------------------------------------------------------


def test_each_read_is_fresh_and_stamped_before_and_after(root: Path) -> None:
    energy = add_zone(root, "intel-rapl:0", "package-0")
    clock = itertools.count(100, 10)
    meter = RaplMeter(root=root, clock=lambda: next(clock))
    assert isinstance(meter, Meter)
    (device,) = meter.open().devices
    for value in (5_000_000, 6_000_000, 12):
        energy.write_text(f"{value}\n")
        reading = meter.read(device)
        assert reading.value == value
        assert reading.t1_ns - reading.t0_ns == 10


def test_a_counter_that_does_not_move_while_it_is_opened_is_slow_and_the_others_are_not(root: Path) -> None:
    quick, slow = (add_zone(root, f"intel-rapl:{i}", f"package-{i}") for i in range(2))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        quick.write_text(f"{1_000_000 + len(slept)}\n")

    first, second = RaplMeter(root=root, sleep=sleep).open().devices
    assert (first.refresh_s, second.refresh_s) == (0.001, None)
    assert sum(slept) == pytest.approx(0.02)
    slow.parent.joinpath("energy_uj").unlink()
    slept.clear()
    (only,) = RaplMeter(root=root, sleep=sleep).open().devices
    assert only.refresh_s == 0.001
    assert slept == [0.001]


def slept_until(moves_at_s: float, *files: Path) -> tuple[Callable[[float], None], list[float]]:
    """A sleep that has counters count from an instant on, and how long it slept."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if sum(slept) >= moves_at_s:
            for file in files:
                file.write_text(f"{len(slept)}\n")

    return sleep, slept


def test_counters_that_never_counted_are_none_and_one_that_counts_within_a_second_is(root: Path) -> None:
    energy = add_zone(root, "intel-rapl:0", "package-0", energy="0\n")
    sleep, slept = slept_until(math.inf)
    with pytest.raises(MeterUnavailableError, match="says 0 and does not move"):
        RaplMeter(root=root, sleep=sleep).open()
    assert sum(slept) == pytest.approx(1.12)
    sleep, slept = slept_until(0.99, energy)
    (device,) = RaplMeter(root=root, sleep=sleep).open().devices
    assert device.refresh_s is None
    assert sum(slept) < 1.0


def test_a_counter_that_never_counted_is_left_out_at_once_beside_one_that_moves(root: Path) -> None:
    energy = add_zone(root, "intel-rapl:0", "package-0", energy="0\n")
    add_zone(root, "intel-rapl:0:0", "dram", energy="0\n")
    sleep, slept = slept_until(0.001, energy)
    inventory = RaplMeter(root=root, sleep=sleep).open()
    assert [device.id for device in inventory.devices] == ["rapl:package-0"]
    (finding,) = inventory.findings
    assert (finding.event, finding.device, finding.is_warning) == ("meter.stuck", "rapl:package-0/dram", True)
    assert sum(slept) == pytest.approx(0.02)


def test_a_counter_that_stands_above_0_is_kept_and_not_waited_for(root: Path) -> None:
    add_zone(root, "intel-rapl:0", "package-0")
    add_zone(root, "intel-rapl:0:0", "dram", energy="0\n")
    sleep, slept = slept_until(math.inf)
    inventory = RaplMeter(root=root, sleep=sleep).open()
    assert [device.id for device in inventory.devices] == ["rapl:package-0", "rapl:package-0/dram"]
    assert sum(slept) == pytest.approx(0.02)


# --- counters that lie ------------------------------------------------------------------------------------------------


def test_a_counter_that_stands_for_two_seconds_is_an_error_and_told_once(root: Path) -> None:
    energy = add_zone(root, "intel-rapl:0", "package-0")
    clock = Ticks()
    meter = RaplMeter(root=root, clock=clock)
    (device,) = meter.open().devices
    for clock.now_ns in (10 * S, 11 * S, 12 * S - 1):
        assert meter.read(device).value == 1_000_000
    assert meter.check() == ()
    clock.now_ns = 12 * S
    with pytest.raises(ReadError, match="not moved"):
        meter.read(device)
    (finding,) = meter.check()
    assert (finding.event, finding.device, finding.is_warning) == ("meter.stuck", "rapl:package-0", True)
    assert meter.check() == ()
    energy.write_text("1000061\n")
    assert meter.read(device).value == 1_000_061
    clock.now_ns = 13 * S
    meter.read(device)
    clock.now_ns = 15 * S
    with pytest.raises(ReadError):
        meter.read(device)
    assert len(meter.check()) == 1


def test_psys_standing_is_no_warning_since_it_is_not_counted(root: Path) -> None:
    add_zone(root, "intel-rapl:0", "psys")
    clock = Ticks()
    meter = RaplMeter(root=root, clock=clock)
    (device,) = meter.open().devices
    meter.read(device)
    clock.now_ns = 60 * S
    with pytest.raises(ReadError):
        meter.read(device)
    assert meter.check() == ()


def run_dies(root: Path, second: Callable[[int, int], int], rounds: int, *, wrap_uj: int = RANGE_UJ) -> RaplMeter:
    """Two dies read once a second; the second's energy is made from the second and the first's."""
    files = [add_zone(root, f"intel-rapl:{die}", f"package-0-die-{die}", range_uj=wrap_uj) for die in range(2)]
    clock = Ticks()
    meter = RaplMeter(root=root, clock=clock)
    devices = meter.open().devices
    first_uj = 0
    for n in range(rounds):
        first_uj += 68_000_000 + 1_000_000 * (n % 7)
        files[0].write_text(f"{first_uj % wrap_uj}\n")
        files[1].write_text(f"{second(n, first_uj) % wrap_uj}\n")
        for device in devices:
            clock.now_ns = n * S + 50_000
            meter.read(device)
    return meter


def test_a_mirrored_die_is_told_once_and_how_to_leave_it_out(root: Path) -> None:
    meter = run_dies(root, lambda _, uj: uj + 5_000_000, 60)
    (finding,) = meter.check()
    assert finding.event == "meter.mirrored"
    assert "rapl:package-0-die-0" in finding.message
    assert "rapl:without=package-0-die-1" in finding.remedy
    assert meter.check() == ()


def test_a_mirrored_die_is_seen_across_a_wrap(root: Path) -> None:
    meter = run_dies(root, lambda _, uj: uj + 5_000_000, 60, wrap_uj=1_500_000_000)
    assert [finding.event for finding in meter.check()] == ["meter.mirrored"]


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(lambda _, uj: round(uj * 1.002), id="0.2 % more"),
        pytest.param(lambda n, uj: uj + 3_000_000 * (n // 30 * 30), id="apart every 30 s"),
    ],
)
def test_dies_that_are_only_alike_are_not_called_mirrored(root: Path, second: Callable[[int, int], int]) -> None:
    assert run_dies(root, second, 120).check() == ()


def test_four_windows_that_agree_are_not_enough(root: Path) -> None:
    assert run_dies(root, lambda _, uj: uj, 50).check() == ()


def test_a_domain_can_be_left_out_by_the_setting(root: Path) -> None:
    two_sockets(root)
    chosen = RaplMeter.from_argument("without=package-1+package-1/dram")
    meter = RaplMeter(root=root, without=chosen.without)
    inventory = meter.open()
    assert [d.id for d in inventory.devices if d.counted] == ["rapl:package-0", "rapl:package-0/dram"]
    assert {f.device for f in inventory.findings if f.event == "meter.excluded"} == {
        "rapl:package-1",
        "rapl:package-1/dram",
    }
    assert not any(finding.is_warning for finding in inventory.findings)


def test_of_dies_that_are_named_alike_the_mirror_can_be_left_out_as_its_finding_says(root: Path) -> None:
    files = [add_zone(root, f"intel-rapl:{die}", "package-0") for die in range(2)]
    clock = Ticks()
    meter = RaplMeter(root=root, clock=clock)
    devices = meter.open().devices
    for n in range(60):
        for file, device in zip(files, devices, strict=True):
            clock.now_ns = n * S
            file.write_text(f"{(n + 1) * 68_000_000}\n")
            meter.read(device)
    (finding,) = meter.check()
    (spec,) = [word for word in finding.remedy.partition("=")[2].split(",") if word.startswith("rapl:")]
    chosen = RaplMeter.from_argument(spec.partition(":")[2])
    inventory = RaplMeter(root=root, without=chosen.without).open()
    assert [device.id for device in inventory.devices] == ["rapl:package-0"]
    assert [(f.event, f.device, f.is_warning) for f in inventory.findings] == [
        ("meter.excluded", "rapl:package-0@intel-rapl:1", False)
    ]


def test_a_name_to_leave_out_that_is_none_of_the_machine_s_is_told(root: Path) -> None:
    two_sockets(root)
    without = frozenset({"package-1", "package-2", "package-0/core"})
    inventory = RaplMeter(root=root, without=without).open()
    (finding,) = [f for f in inventory.findings if f.is_warning]
    assert "package-2, which" in finding.message
    assert "package-1/dram" in finding.message


@pytest.mark.parametrize("argument", ["package-1", "without", "without=", "without=a+", "with=a"])
def test_another_argument_is_a_config_error(argument: str) -> None:
    with pytest.raises(ConfigError, match="without=NAME"):
        RaplMeter.from_argument(argument)
