"""The models: what cannot be read is a gap, what is modelled says so, and a container pays for its share only."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from aiocarbon.errors import MeterLostError, MeterUnavailableError, ReadError
from aiocarbon.meters import Basis, Part, Quantity
from aiocarbon.meters.cpu_family import CpuFamily
from aiocarbon.meters.cpu_load import StatLoad, parse_cpu_list
from aiocarbon.meters.memory_model import memory_power
from aiocarbon.meters.model import ModelMeter, cpu_power

S = 1_000_000_000
ICE_LAKE = (
    "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\n"
    "model name\t: Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz\nstepping\t: 6\nflags\t\t: fpu sse2\n"
)


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now_ns = 100 * S

    def __call__(self) -> int:
        return self.now_ns


class Machine:
    """A /proc, a /sys/fs/cgroup and an EDAC tree that a test writes, and the meter that reads them."""

    def __init__(self, root: Path, *, threads: int = 4, cpuinfo: str = ICE_LAKE) -> None:
        self.proc, self.cgroup, self.edac = root / "proc", root / "cgroup", root / "edac"
        self.clock = Hand()
        self.threads = threads
        self.write("proc/cpuinfo", cpuinfo)
        self.write("proc/meminfo", "MemTotal:       134217728 kB\nMemFree: 1 kB\n")
        self.write("proc/self/cgroup", "0::/\n")
        self.root = root
        self.stat({})

    def write(self, name: str, text: str) -> None:
        path = self.proc.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def stat(self, busy_ticks: dict[int, int], *, guest: int = 0, steal: int = 0) -> None:
        """Busy ticks by CPU (spread over the busy columns); idle, iowait, steal and guest beside them."""
        lines = []
        for cpu in range(self.threads):
            busy = busy_ticks.get(cpu, 0)
            user, system = busy - busy // 2, busy // 2
            lines.append(f"cpu{cpu} {user} 0 {system} 5000 77 0 0 {steal} {guest} 0")
        total = sum(busy_ticks.values())
        head = f"cpu  {total - total // 2} 0 {total // 2} 20000 300 0 0 {steal} {guest} 0"
        self.write("proc/stat", "\n".join([head, *lines, "intr 1 2 3", "ctxt 9", ""]))

    def meter(self) -> ModelMeter:
        return ModelMeter(proc=self.proc, cgroup=self.cgroup, edac=self.edac, platform="linux", clock=self.clock)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def ice_lake_j(*, threads: float, seconds: float, busy_s: float) -> float:
    power = cpu_power(CpuFamily.ICE_LAKE)
    return power.idle_w * threads * seconds + (power.full_w - power.idle_w) * busy_s


def test_a_sandbox_that_tells_no_cpu_time_is_no_idle_machine(machine: Machine) -> None:
    stat = machine.proc / "stat"
    lines = [f"cpu{cpu} 0 0 0 0 0 0 0 0 0 0" for cpu in range(machine.threads)]
    stat.write_text("\n".join(["cpu  0 0 0 0 0 0 0 0 0 0", *lines, "intr 0", ""]))
    with pytest.raises(MeterUnavailableError, match="not even idle time"):
        machine.meter().open()


def test_without_a_load_nothing_is_modelled(machine: Machine) -> None:
    (machine.proc / "stat").unlink()
    with pytest.raises(MeterUnavailableError, match="load"):
        machine.meter().open()


@pytest.mark.parametrize(
    "text", ["", "intr 5\n", "cpu  1 2 3\ncpu0 1 2 3\n", "cpu a b c d e f g\ncpu0 a b c d e f g\n"]
)
def test_a_load_that_is_none_is_unavailable(machine: Machine, text: str) -> None:
    machine.write("proc/stat", text)
    with pytest.raises(MeterUnavailableError):
        machine.meter().open()


def test_a_failed_read_is_a_gap_and_the_next_makes_up_for_it(machine: Machine) -> None:
    meter = machine.meter()
    (device,) = meter.open().devices
    good = (machine.proc / "stat").read_text()
    for broken in ("", "cpu  torn\n"):
        machine.write("proc/stat", broken)
        with pytest.raises(ReadError):
            meter.read(device)
    (machine.proc / "stat").unlink()
    with pytest.raises(ReadError, match="stat"):
        meter.read(device)
    machine.write("proc/stat", good)
    machine.stat({0: 300})
    machine.clock.now_ns += 10 * S
    assert meter.read(device).value == round(ice_lake_j(threads=4, seconds=10, busy_s=3) * 1e6)


def test_a_load_that_begins_anew_is_a_loss_and_a_jitter_is_none(machine: Machine) -> None:
    machine.stat({0: 100_000})
    meter = machine.meter()
    (device,) = meter.open().devices
    machine.clock.now_ns += S
    machine.stat({0: 99_998})
    assert meter.read(device).value == round(ice_lake_j(threads=4, seconds=1, busy_s=0) * 1e6)
    machine.stat({0: 10})
    with pytest.raises(MeterLostError, match="anew"):
        meter.read(device)


def test_nothing_is_left_to_model_where_cpu_and_memory_are_held(machine: Machine) -> None:
    with pytest.raises(MeterUnavailableError, match="nothing left to model"):
        machine.meter().open(frozenset({Part.CPU, Part.MEMORY}))


def test_memory_that_is_counted_beside_the_model_of_a_whole_server_is_told(machine: Machine) -> None:
    (finding,) = machine.meter().open(frozenset({Part.MEMORY})).findings
    assert (finding.event, finding.is_warning) == ("meter.twice", True)
    assert "memory counts twice" in finding.message
    assert machine.meter().open(frozenset({Part.GPU})).findings == ()
    assert machine.meter().open(frozenset({Part.CPU})).findings == ()


def test_a_known_cpu_is_a_model_of_the_whole_server(machine: Machine) -> None:
    meter = machine.meter()
    inventory = meter.open(frozenset({Part.GPU}))
    (device,) = inventory.devices
    assert (device.id, device.basis, device.quantity) == ("model:cpu", Basis.MODEL, Quantity.ENERGY)
    assert device.covers == {Part.CPU, Part.MEMORY, Part.BOARD}  # so that no memory is added beside it
    assert (device.low_factor, device.high_factor) == (0.65, 1.35)
    assert device.name == "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz"
    assert "Ice Lake" in device.note
    assert "the whole machine, 4 threads" in device.note
    assert meter.read(device).value == 0
    machine.clock.now_ns += 5 * S
    machine.stat({0: 500, 3: 200})
    reading = meter.read(device)
    assert reading.value == round(ice_lake_j(threads=4, seconds=5, busy_s=7) * 1e6)
    assert isinstance(reading.value, int)


def test_stolen_time_is_not_ours_and_a_guests_is_not_counted_twice(machine: Machine) -> None:
    machine.write("proc/cpuinfo", ICE_LAKE.replace("sse2", "sse2 hypervisor"))
    meter = machine.meter()
    (device,) = meter.open().devices
    assert "virtual machine" in device.note
    machine.clock.now_ns += 5 * S
    machine.stat({0: 100}, guest=90, steal=400)
    assert meter.read(device).value == round(ice_lake_j(threads=4, seconds=5, busy_s=1) * 1e6)


@pytest.mark.parametrize("cpuinfo", ["", "processor : 0\nCPU implementer : 0x41\n", "model name : AMD Ryzen 7 7840U\n"])
def test_an_unknown_cpu_is_assumed_within_a_factor_of_two(tmp_path: Path, cpuinfo: str) -> None:
    (device,) = Machine(tmp_path, cpuinfo=cpuinfo).meter().open().devices
    assert device.basis is Basis.ASSUMED
    assert (device.low_factor, device.high_factor) == (0.5, 2.0)
    assert "assumed" in device.note


def test_a_machine_without_cpuinfo_is_an_unknown_cpu(machine: Machine) -> None:
    (machine.proc / "cpuinfo").unlink()
    (device,) = machine.meter().open().devices
    assert device.basis is Basis.ASSUMED


def cgroup2(machine: Machine, path: str, *, own: str, quota: str = "max 100000", cpus: str = "", usec: int = 0) -> None:
    machine.write("proc/self/cgroup", f"0::{own}\n")
    machine.write("cgroup/cgroup.controllers", "cpuset cpu memory\n")
    machine.write(f"cgroup/{path}/cpu.max", quota + "\n")
    machine.write(f"cgroup/{path}/cpuset.cpus.effective", cpus + "\n")
    machine.write(f"cgroup/{path}/cpu.stat", f"usage_usec {usec}\nuser_usec {usec}\nsystem_usec 0\n")


def test_a_container_with_a_quota_pays_for_its_share(machine: Machine) -> None:
    cgroup2(machine, ".", own="/", quota="150000 100000", usec=9_000_000)
    meter = machine.meter()
    (device,) = meter.open().devices
    assert "1.5 of 4 threads" in device.note
    machine.clock.now_ns += 10 * S
    machine.stat({0: 1000, 1: 1000, 2: 1000})  # the neighbours' work
    cgroup2(machine, ".", own="/", quota="150000 100000", usec=11_500_000)
    assert meter.read(device).value == round(ice_lake_j(threads=1.5, seconds=10, busy_s=2.5) * 1e6)
    machine.write("cgroup/cpu.stat", "nothing here\n")
    with pytest.raises(ReadError, match="account"):
        meter.read(device)


def test_the_outermost_group_with_the_tightest_grant_is_charged(machine: Machine) -> None:
    cgroup2(machine, "job/step", own="/job/step", cpus="1", usec=1_000_000)
    cgroup2(machine, "job", own="/job/step", cpus="1", usec=5_000_000)
    cgroup2(machine, ".", own="/job/step", cpus="0-3", usec=70_000_000)
    meter = machine.meter()
    (device,) = meter.open().devices
    assert "1 of 4 threads" in device.note
    machine.clock.now_ns += S
    machine.write("cgroup/job/cpu.stat", "usage_usec 5500000\n")
    assert meter.read(device).value == round(ice_lake_j(threads=1, seconds=1, busy_s=0.5) * 1e6)


@pytest.mark.parametrize(
    ("quota", "cpus"), [("max 100000", "0-3"), ("800000 100000", ""), ("torn", "x-y"), ("0 0", "")]
)
def test_a_group_that_limits_nothing_leaves_the_whole_machine(machine: Machine, quota: str, cpus: str) -> None:
    cgroup2(machine, "user.slice", own="/user.slice", quota=quota, cpus=cpus)
    (device,) = machine.meter().open().devices
    assert "the whole machine, 4 threads" in device.note


def test_a_path_of_the_host_seen_from_inside_is_the_root(machine: Machine) -> None:
    cgroup2(machine, ".", own="/../docker/0123", quota="100000 100000")
    (device,) = machine.meter().open().devices
    assert "1 of 4 threads" in device.note


def test_version_1_quotas_are_heard(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "4:cpuset:/docker/01\n3:cpu,cpuacct:/docker/01\n0::/\n")
    machine.write("cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n")
    machine.write("cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    machine.write("cgroup/cpu,cpuacct/cpuacct.usage", "7000000000\n")
    machine.write("cgroup/cpuset/cpuset.cpus", "0-3\n")
    meter = machine.meter()
    (device,) = meter.open().devices
    assert "0.5 of 4 threads" in device.note
    machine.clock.now_ns += 4 * S
    machine.write("cgroup/cpu,cpuacct/cpuacct.usage", "8000000000\n")
    assert meter.read(device).value == round(ice_lake_j(threads=0.5, seconds=4, busy_s=1) * 1e6)


def test_a_version_1_cpuset_without_an_account_counts_its_own_cpus(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "4:cpuset:/slurm/job_7\n3:cpu,cpuacct:/\n")
    machine.write("cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    machine.write("cgroup/cpu,cpuacct/cpuacct.usage", "1\n")
    machine.write("cgroup/cpuset/cpuset.cpus", "0-3\n")
    machine.write("cgroup/cpuset/slurm/job_7/cpuset.cpus", "2-3\n")
    meter = machine.meter()
    (device,) = meter.open().devices
    assert "2 of 4 threads" in device.note
    machine.clock.now_ns += S
    machine.stat({0: 100, 2: 30, 3: 20})
    assert meter.read(device).value == round(ice_lake_j(threads=2, seconds=1, busy_s=0.5) * 1e6)
    machine.threads = 3  # one of them goes offline
    machine.stat({0: 100, 2: 30})
    with pytest.raises(ReadError, match="lacks"):
        meter.read(device)


@pytest.mark.parametrize("cpus", [None, frozenset({1, 1500})])
def test_a_machine_of_many_cpus_is_read_whole(tmp_path: Path, cpus: frozenset[int] | None) -> None:
    machine = Machine(tmp_path, threads=2048)
    machine.stat({1: 300, 1500: 200, 1501: 50})
    assert (machine.proc / "stat").stat().st_size > 1 << 15  # several reads, as of a file system that answers in parts
    load = StatLoad(path=machine.proc / "stat", cpus=cpus, threads=2048, scope="", ticks_per_s=100)
    assert load.busy_s() == (5.5 if cpus is None else 5.0)


def test_this_machine_can_be_modelled() -> None:
    meter = ModelMeter()
    try:
        (device,) = meter.open().devices
        first, second = meter.read(device), meter.read(device)
        assert 0 <= first.value <= second.value
    finally:
        meter.close()


def test_psutil_tells_the_load_where_there_is_no_proc(machine: Machine) -> None:
    meter = ModelMeter(proc=machine.proc / "none", platform="darwin", clock=machine.clock)
    (device,) = meter.open().devices
    assert "the whole machine" in device.note
    first = meter.read(device)
    machine.clock.now_ns += S
    assert meter.read(device).value > first.value


def test_the_kernels_lists_of_cpus() -> None:
    assert parse_cpu_list("0-2,5,7-7\n") == {0, 1, 2, 5, 7}
    assert parse_cpu_list("") == frozenset()
    with pytest.raises(ValueError, match="x"):
        parse_cpu_list("0-x")


def test_memory_beside_a_cpu_counter_is_assumed_between_two_rules(machine: Machine) -> None:
    meter = machine.meter()
    (device,) = meter.open(frozenset({Part.CPU})).devices
    assert (device.id, device.basis, device.covers) == ("model:memory", Basis.ASSUMED, frozenset({Part.MEMORY}))
    by_gb, by_module = 128 * 0.375, 4 * 5 + 4 * 4.5  # 128 GB, guessed as eight modules of 16 GB
    central_w = math.sqrt(by_gb * by_module)
    assert meter.read(device).value == 0
    machine.clock.now_ns += 10 * S
    assert meter.read(device).value == pytest.approx(10 * central_w * 1e6)
    assert device.low_factor * central_w == pytest.approx(min(by_module, central_w / 1.35))
    assert device.high_factor * central_w == pytest.approx(max(by_gb, central_w * 1.35))


def test_counted_modules_are_heard_and_unreadable_ones_guessed(machine: Machine) -> None:
    for slot, size in enumerate(("65536", "65536", "0")):
        machine.write(f"edac/mc0/dimm{slot}/size", size + "\n")
    (device,) = machine.meter().open(frozenset({Part.CPU})).devices
    assert "2 counted" in device.note
    machine.write("edac/mc0/dimm1/size", "torn\n")
    (device,) = machine.meter().open(frozenset({Part.CPU})).devices
    assert "8 guessed" in device.note


@pytest.mark.parametrize("text", ["", "MemTotal: many kB\n", "MemTotal:\n", "MemTotal: 0 kB\n"])
def test_a_machine_that_hides_its_memory_has_none_modelled(machine: Machine, text: str) -> None:
    machine.write("proc/meminfo", text)
    with pytest.raises(MeterUnavailableError, match="memory"):
        machine.meter().open(frozenset({Part.CPU}))


@pytest.mark.parametrize(
    ("total_gb", "modules", "by_module"), [(512, None, 38.0), (512, 16, 70.0), (2048, None, 126.0), (16, None, 10.0)]
)
def test_the_rule_by_module(total_gb: float, modules: int | None, by_module: float) -> None:
    memory = memory_power(total_gb=total_gb, modules=modules, is_arm=False)
    assert memory.power_w == pytest.approx(math.sqrt(by_module * 0.375 * total_gb))
    assert memory.low_w < memory.power_w < memory.high_w
    assert memory_power(total_gb=total_gb, modules=modules, is_arm=True).power_w < memory.power_w
