"""The hwmon meter on trees as drivers make them: what is counted once, what is shown, and the bad days."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon.errors import MeterLostError, MeterPermissionError, MeterUnavailableError, ReadError
from aiocarbon.meters.base import Inventory, Meter
from aiocarbon.meters.hwmon import HwmonMeter

S = 1_000_000_000


class Tree:
    """A sysfs with hardware monitors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path / "class" / "hwmon"
        self.root.mkdir(parents=True)
        self.model = path / "model"
        self._numbers = itertools.count()

    def chip(self, name: str, owner: str, files: Mapping[str, object], *, is_old: bool = False) -> Path:
        """A monitor of the device at `owner`; an old driver keeps its files in the device's directory."""
        number = f"hwmon{next(self._numbers)}"
        device = self.path / "devices" / owner
        chip = device / "hwmon" / number
        chip.mkdir(parents=True)
        (chip / "device").symlink_to("../..")
        (self.root / number).symlink_to(Path("../..") / chip.relative_to(self.path))
        home = device if is_old else chip
        for file, content in {"name": name, **files}.items():
            path = home / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return home

    def meter(self, **parts: object) -> HwmonMeter:
        return HwmonMeter(root=self.root, model=self.model, **{"environ": {}, **parts})  # type: ignore[arg-type]  # parts of the tests


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "sys")  # one below: the temporary directory itself is its owner's only


def counted(inventory: Inventory) -> list[str]:
    return [device.id for device in inventory.devices if device.counted]


def shown(inventory: Inventory) -> list[str]:
    return [device.id for device in inventory.devices if not device.counted]


def find(inventory: Inventory, device_id: str) -> Device:
    return next(device for device in inventory.devices if device.id == device_id)


class ScriptedPread:
    """`os.pread` that fails as often as told."""

    def __init__(self, *failures: int) -> None:
        self.failures = list(failures)

    def __call__(self, fd: int, length: int, offset: int) -> bytes:
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return os.pread(fd, length, offset)


# --- bad days ---------------------------------------------------------------------------------------------------------


def test_no_tree_and_monitors_without_power_are_unavailable(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailableError, match="no sensor"):
        HwmonMeter(root=tmp_path / "nothing", environ={}).open()
    tree.chip("coretemp", "platform/coretemp.0", {"temp1_input": 45000})
    tree.chip("nvme", "pci0000:00/0000:01:00.0/nvme/nvme0", {"temp1_input": 38850})
    (tree.root / "hwmon9").symlink_to("../../devices/gone/hwmon/hwmon9")
    with pytest.raises(MeterUnavailableError, match="no sensor") as caught:
        tree.meter().open()
    assert not isinstance(caught.value, MeterPermissionError)


def test_sensors_that_only_others_may_read_are_a_permission_error(tree: Tree) -> None:
    home = tree.chip("amdgpu", "pci0000:00/0000:03:00.0", {"power1_average": 35_000_000})
    (home / "power1_average").chmod(0o400 if os.getuid() == 0 else 0)
    code = (
        "import os\n"
        "from pathlib import Path\n"
        "from aiocarbon.errors import MeterPermissionError\n"
        "from aiocarbon.meters.hwmon import HwmonMeter\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: HwmonMeter(root=Path('.')).open()\n"
        "except MeterPermissionError as error: print(error)\n"
    )
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    # The child reaches the tree from its working directory: the temporary directory need not be open to all.
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tree.root, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "may not read amdgpu:" in done.stdout


def test_a_read_that_is_refused_is_a_permission_error_too(tree: Tree) -> None:
    tree.chip("amdgpu", "pci0000:00/0000:03:00.0", {"power1_average": 35_000_000})
    with pytest.raises(MeterPermissionError):
        tree.meter(pread=ScriptedPread(errno.EACCES)).open()


def test_eio_once_is_a_read_error_and_a_removed_card_is_lost(tree: Tree) -> None:
    home = tree.chip("amdgpu", "pci0000:00/0000:03:00.0", {"power1_average": 35_000_000})
    pread = ScriptedPread()
    meter = tree.meter(pread=pread)
    (device,) = meter.open().devices
    pread.failures = [errno.EIO]
    with pytest.raises(ReadError):
        meter.read(device)
    assert meter.read(device).value == pytest.approx(35.0)
    (home / "power1_average").unlink()
    pread.failures = [errno.ENODEV]
    with pytest.raises(MeterLostError):
        meter.read(device)


@pytest.mark.parametrize("failure", [errno.EBUSY, errno.EPERM])  # amdgpu says EPERM while it resets or resumes
def test_a_card_in_reset_while_opening_is_kept(tree: Tree, failure: int) -> None:
    tree.chip("amdgpu", "pci0000:00/0000:03:00.0", {"power1_average": 35_000_000})
    meter = tree.meter(pread=ScriptedPread(failure))
    (device,) = meter.open().devices
    assert meter.read(device).value == pytest.approx(35.0)


@pytest.mark.parametrize("garbage", ["", "N/A", "12.5", "-1", "0"])
def test_what_no_gpu_can_draw_is_an_error_and_never_a_value(tree: Tree, garbage: str) -> None:
    home = tree.chip("amdgpu", "pci0000:00/0000:03:00.0", {"power1_average": 35_000_000})
    meter = tree.meter()
    (device,) = meter.open().devices
    (home / "power1_average").write_text(f"{garbage}\n")
    with pytest.raises(ReadError):
        meter.read(device)


def test_reading_after_closing_is_lost(tree: Tree) -> None:
    tree.chip("amdgpu", "pci0000:00/0000:03:00.0", {"power1_average": 35_000_000})
    meter = tree.meter()
    (device,) = meter.open().devices
    meter.close()
    meter.close()
    with pytest.raises(MeterLostError):
        meter.read(device)


# --- AMD GPUs ---------------------------------------------------------------------------------------------------------


def test_an_amd_gpu_is_read_by_its_mean_power_before_its_power(tree: Tree) -> None:
    home = tree.chip(
        "amdgpu",
        "pci0000:00/0000:03:00.0",
        {"power1_average": 203_000_000, "power1_input": 250_000_000, "power1_cap": 300_000_000},
    )
    (home.parents[1] / "product_name").write_text("AMD Instinct MI100\n")
    clock = itertools.count(0, 5)
    meter = tree.meter(clock=lambda: next(clock))
    assert isinstance(meter, Meter)
    inventory = meter.open()
    (device,) = inventory.devices
    assert (device.id, device.kind, device.name) == ("amdgpu:0000:03:00.0", DeviceKind.GPU, "AMD Instinct MI100")
    assert (device.quantity, device.basis, device.covers) == (Quantity.POWER, Basis.POWER, {Part.GPU})
    reading = meter.read(device)
    assert reading.value == pytest.approx(203.0)
    assert reading.t1_ns - reading.t0_ns == 5


def test_an_amd_gpu_without_a_mean_is_read_by_its_power(tree: Tree) -> None:
    tree.chip("amdgpu", "pci0000:00/0000:03:00.0", {"power1_input": 21_000_000})
    meter = tree.meter()
    (device,) = meter.open().devices
    assert meter.read(device).value == pytest.approx(21.0)


def test_an_amd_energy_counter_is_used_only_if_it_moves(tree: Tree) -> None:
    files = {"energy1_input": 1_000_000, "power1_average": 90_000_000}
    moving = tree.chip("amdgpu", "pci0000:00/0000:03:00.0", files)
    tree.chip("amdgpu", "pci0000:00/0000:83:00.0", files)

    def sleep(seconds: float) -> None:
        assert 0 < seconds <= 0.05
        (moving / "energy1_input").write_text("1900000\n")

    meter = tree.meter(sleep=sleep)
    first, second = meter.open().devices
    assert (first.quantity, first.basis) == (Quantity.ENERGY, Basis.COUNTER)
    assert meter.read(first).value == 1_900_000
    assert second.quantity is Quantity.POWER
    assert meter.read(second).value == pytest.approx(90.0)


def test_the_second_die_of_a_board_that_says_0_w_is_left_out_and_told(tree: Tree) -> None:
    tree.chip("amdgpu", "pci0000:00/0000:29:00.0", {"power1_average": 180_000_000})
    tree.chip("amdgpu", "pci0000:00/0000:2c:00.0", {"power1_average": 0})
    inventory = tree.meter().open()
    assert counted(inventory) == ["amdgpu:0000:29:00.0"]
    (finding,) = inventory.findings
    assert (finding.event, finding.device) == ("meter.unreadable", "amdgpu:0000:2c:00.0")


def test_an_apu_is_shown_but_not_added_to_the_cpu_that_it_holds(tree: Tree) -> None:
    home = tree.chip("amdgpu", "pci0000:00/0000:04:00.0", {"power1_average": 15_000_000})
    (home.parents[1] / "gpu_metrics").write_bytes(bytes([0x80, 0x00, 2, 3]) + bytes(124))
    inventory = tree.meter().open()
    assert shown(inventory) == ["amdgpu:0000:04:00.0"]
    assert "CPU" in inventory.devices[0].note


def test_a_board_with_a_metrics_table_is_counted(tree: Tree) -> None:
    home = tree.chip("amdgpu", "pci0000:00/0000:04:00.0", {"power1_average": 15_000_000})
    (home.parents[1] / "gpu_metrics").write_bytes(bytes([0x78, 0x00, 1, 3]) + bytes(116))
    assert counted(tree.meter().open()) == ["amdgpu:0000:04:00.0"]


def test_a_sleeping_card_is_kept_but_not_woken(tree: Tree) -> None:
    home = tree.chip("amdgpu", "pci0000:00/0000:03:00.0", {"power1_average": 35_000_000})
    status = home.parents[1] / "power" / "runtime_status"
    status.parent.mkdir()
    status.write_text("suspended\n")
    reads: list[int] = []

    def pread(fd: int, length: int, offset: int) -> bytes:
        reads.append(fd)
        return os.pread(fd, length, offset)

    meter = tree.meter(pread=pread)
    (device,) = meter.open().devices
    with pytest.raises(ReadError, match="sleeps"):
        meter.read(device)
    assert reads == []
    status.write_text("active\n")
    assert meter.read(device).value == pytest.approx(35.0)


def test_variables_that_hide_amd_gpus_are_told_since_they_cannot_be_followed(tree: Tree) -> None:
    for slot in ("03", "83"):
        tree.chip("amdgpu", f"pci0000:00/0000:{slot}:00.0", {"power1_average": 35_000_000})
    inventory = tree.meter(environ={"ROCR_VISIBLE_DEVICES": "1"}).open()
    assert len(counted(inventory)) == 2
    (finding,) = inventory.findings
    assert finding.event == "meter.scope"
    assert finding.is_warning
    assert "ROCR_VISIBLE_DEVICES=1" in finding.message
    assert tree.meter().open().findings == ()


# --- Intel GPUs -------------------------------------------------------------------------------------------------------


def test_an_xe_card_is_counted_and_the_package_it_holds_is_shown(tree: Tree) -> None:
    files = {"energy1_input": 9_000_000, "energy2_input": 6_000_000, "power1_rated_max": 150_000_000}
    tree.chip("xe", "pci0000:00/0000:03:00.0", files)
    meter = tree.meter()
    inventory = meter.open()
    assert counted(inventory) == ["xe:0000:03:00.0"]
    assert shown(inventory) == ["xe:0000:03:00.0/package"]
    card = find(inventory, "xe:0000:03:00.0")
    assert (card.quantity, card.counter_range_uj, card.max_power_w) == (Quantity.ENERGY, None, 300.0)
    assert [meter.read(device).value for device in inventory.devices] == [9_000_000, 6_000_000]


def test_an_xe_package_is_counted_where_the_card_has_no_counter(tree: Tree) -> None:
    tree.chip("xe", "pci0000:00/0000:03:00.0", {"energy2_input": 6_000_000})
    assert counted(tree.meter().open()) == ["xe:0000:03:00.0/package"]


def test_tiles_of_an_i915_card_are_not_added_to_the_card(tree: Tree) -> None:
    for name in ("i915", "i915_gt0", "i915_gt1"):
        tree.chip(name, "pci0000:00/0000:03:00.0", {"energy1_input": 5_000_000})
    inventory = tree.meter().open()
    assert [device.id for device in inventory.devices] == ["i915:0000:03:00.0"]


def test_a_gpu_counter_that_stands_for_two_seconds_is_a_gap_and_told_once(tree: Tree) -> None:
    home = tree.chip("i915", "pci0000:00/0000:03:00.0", {"energy1_input": 5_000_000})
    now = [0]
    meter = tree.meter(clock=lambda: now[0])
    (device,) = meter.open().devices
    meter.read(device)
    now[0] = 2 * S
    with pytest.raises(ReadError, match="not moved"):
        meter.read(device)
    (finding,) = meter.check()
    assert (finding.event, finding.device) == ("meter.stuck", "i915:0000:03:00.0")
    assert meter.check() == ()
    (home / "energy1_input").write_text("5000100\n")
    assert meter.read(device).value == 5_000_100


# --- ACPI power meters ------------------------------------------------------------------------------------------------


def grace(tree: Tree, kinds: Mapping[str, int], socket: int = 0, *, is_old: bool = True) -> None:
    for n, (kind, watts) in enumerate(kinds.items()):
        files = {
            "power1_oem_info": f"{kind} Power Socket {socket}",
            "power1_average": watts * 1_000_000,
            "power1_average_interval": 50,
            "power1_accuracy": "100.0%",
        }
        tree.chip("power_meter", f"LNXSYSTM:00/ACPI000D:{socket}{n}", files, is_old=is_old)


@pytest.mark.parametrize("is_old", [True, False])
def test_grace_hopper_counts_the_grace_socket_and_nothing_that_holds_it_or_lies_in_it(tree: Tree, is_old: bool) -> None:
    grace(tree, {"Module": 620, "Grace": 100, "CPU": 45, "SysIO": 10}, is_old=is_old)
    meter = tree.meter()
    inventory = meter.open()
    assert counted(inventory) == ["grace:grace-0"]
    assert set(shown(inventory)) == {"grace:module-0", "grace:cpu-0", "grace:sysio-0"}
    socket = find(inventory, "grace:grace-0")
    assert (socket.kind, socket.covers) == (DeviceKind.CPU, {Part.CPU, Part.MEMORY})
    assert (socket.refresh_s, socket.lag_s) == (0.05, pytest.approx(0.025))
    assert (socket.low_factor, socket.high_factor) == (0.90, 1.10)  # 100 % accuracy is nobody's
    assert meter.read(socket).value == pytest.approx(100.0)


def test_two_grace_sockets_are_both_counted(tree: Tree) -> None:
    for socket in range(2):
        grace(tree, {"Grace": 100 + socket, "CPU": 45, "SysIO": 10}, socket)
    assert counted(tree.meter().open()) == ["grace:grace-0", "grace:grace-1"]


def test_without_the_grace_sensor_its_rails_are_counted_and_the_module_still_is_not(tree: Tree) -> None:
    grace(tree, {"Module": 620, "CPU": 45, "SysIO": 10})
    inventory = tree.meter().open()
    assert counted(inventory) == ["grace:cpu-0", "grace:sysio-0"]
    assert shown(inventory) == ["grace:module-0"]


def test_a_servers_power_meter_is_shown_not_added_and_its_accuracy_believed(tree: Tree) -> None:
    files = {
        "power1_average": 412_000_000,
        "power1_average_interval": 1000,
        "power1_accuracy": "95.0%",
        "power1_oem_info": "",
    }
    tree.chip("power_meter", "LNXSYSTM:00/ACPI000D:00", files, is_old=True)
    meter = tree.meter()
    (device,) = meter.open().devices
    assert (device.id, device.kind, device.counted) == ("acpi:ACPI000D:00", DeviceKind.PLATFORM, False)
    assert (device.low_factor, device.high_factor) == (pytest.approx(0.95), pytest.approx(1.05))
    assert device.lag_s == pytest.approx(0.5)
    assert meter.read(device).value == pytest.approx(412.0)


def test_a_power_meter_that_was_never_valid_says_0_and_is_left_out(tree: Tree) -> None:
    tree.chip("power_meter", "LNXSYSTM:00/ACPI000D:00", {"power1_average": 0}, is_old=True)
    with pytest.raises(MeterUnavailableError, match="0 W"):
        tree.meter().open()


# --- NVIDIA Jetson ----------------------------------------------------------------------------------------------------


def rails(tree: Tree, address: str, labels: list[str], **files: object) -> Path:
    """An INA3221: three labelled channels at 5 V and 1, 2, 3 A, then shunt voltages and their sum."""
    channels: dict[str, object] = {"in7_label": "sum of shunt voltages", "in7_input": 3000, **files}
    for n, label in enumerate(labels, start=1):
        channels |= {f"in{n}_label": label, f"in{n}_input": 5000, f"curr{n}_input": 1000 * n, f"in{n + 3}_input": 1000}
    return tree.chip("ina3221", f"platform/c240000.i2c/i2c-1/{address}", channels)


def test_a_jetson_counts_its_input_and_shows_the_rails_inside(tree: Tree) -> None:
    home = rails(tree, "1-0040", ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"], update_interval=20)
    meter = tree.meter()
    inventory = meter.open()
    assert counted(inventory) == ["jetson:VDD_IN"]
    assert shown(inventory) == ["jetson:VDD_CPU_GPU_CV", "jetson:VDD_SOC"]
    whole = find(inventory, "jetson:VDD_IN")
    assert whole.kind is DeviceKind.PLATFORM
    assert whole.covers >= {Part.CPU, Part.GPU, Part.MEMORY}
    assert whole.refresh_s == pytest.approx(0.02)
    assert [meter.read(device).value for device in inventory.devices] == pytest.approx([5.0, 10.0, 15.0])
    (home / "curr2_input").write_text("0\n")  # a rail that is off
    assert meter.read(find(inventory, "jetson:VDD_CPU_GPU_CV")).value == 0
    (home / "curr1_input").write_text("0\n")
    with pytest.raises(ReadError, match="0 W"):
        meter.read(whole)
    assert inventory.findings == ()


def test_unknown_labels_of_the_same_chip_are_left_alone(tree: Tree) -> None:
    rails(tree, "1-0040", ["NC", "12V_ATX", "vbat"])
    with pytest.raises(MeterUnavailableError, match="no sensor"):
        tree.meter().open()


def test_agx_orin_has_no_whole_so_its_separate_rails_are_counted_and_that_is_told(tree: Tree) -> None:
    rails(tree, "1-0040", ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"])
    rails(tree, "1-0041", ["NC", "VDDQ_VDD2_1V8AO"])
    inventory = tree.meter().open()
    assert counted(inventory) == ["jetson:VDD_GPU_SOC", "jetson:VDD_CPU_CV"]
    assert shown(inventory) == ["jetson:VIN_SYS_5V0", "jetson:VDDQ_VDD2_1V8AO"]
    assert [finding.event for finding in inventory.findings] == ["meter.incomplete"]


def test_an_ina238_is_the_supply_of_a_jetson_and_nothing_elsewhere(tree: Tree) -> None:
    rails(tree, "2-0040", ["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"])
    tree.chip("ina238", "platform/c240000.i2c/i2c-2/2-0044", {"power1_input": 62_000_000, "in1_input": 19_000})
    assert counted(tree.meter().open()) == []
    tree.model.write_bytes(b"NVIDIA Jetson AGX Thor Developer Kit\0")
    meter = tree.meter()
    inventory = meter.open()
    assert counted(inventory) == ["jetson:VIN"]
    assert meter.read(find(inventory, "jetson:VIN")).value == pytest.approx(62.0)
