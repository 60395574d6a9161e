"""Who uses the machine: control groups of both versions, the load that a model charges, what cannot be told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon.errors import MeterUnavailableError, ReadError
from aiocarbon.meters.limits import find_limit
from aiocarbon.meters.usage import UsageReader, key_of, own_group, share_words

CPU = Device(
    id="rapl:package-0",
    kind=DeviceKind.CPU,
    name="package-0",
    quantity=Quantity.ENERGY,
    basis=Basis.COUNTER,
    covers=frozenset({Part.CPU}),
)
DRAM = dataclasses.replace(CPU, id="rapl:dram", kind=DeviceKind.DRAM, covers=frozenset({Part.MEMORY}))
MODEL = dataclasses.replace(CPU, id="model:cpu", basis=Basis.MODEL)
GPU = dataclasses.replace(CPU, id="GPU-1", kind=DeviceKind.GPU, covers=frozenset({Part.GPU}))

HOST = "pid:[4026531836]"
CONTAINER = "pid:[4026532123]"


class Computer:
    """A /proc and /sys/fs/cgroup of a machine with 4 CPUs."""

    def __init__(self, root: Path, *, namespace: str = HOST) -> None:
        self.proc, self.cgroup = root / "proc", root / "cgroup"
        for folder in (self.proc / "self" / "ns", self.proc / "100", self.cgroup):
            folder.mkdir(parents=True)
        (self.proc / "self" / "ns" / "pid").symlink_to(namespace)
        self.process(ticks=0)
        self.busy(user=0)

    def busy(self, *, user: int, nice: int = 0, system: int = 0, steal: int = 0, guest: int = 0) -> None:
        fields = f"{user} {nice} {system} 9000 77 0 0 {steal} {guest} 0"
        cpus = "".join(f"cpu{n} {fields}\n" for n in range(4))
        (self.proc / "stat").write_text(f"cpu  {fields}\n{cpus}intr 1 2 3\n")

    def process(self, *, ticks: int) -> None:
        fields = ["S", 1, *[0] * 9, ticks, 0, 0, 0, 20, 0, 1, 0, 77, *[0] * 20]
        (self.proc / "100" / "stat").write_text(f"100 (python) {' '.join(map(str, fields))}\n")

    def own(self, text: str) -> None:
        (self.proc / "self" / "cgroup").write_text(text)

    def v2(self, path: str, *, usec: int, **files: str) -> Path:
        (self.cgroup / "cgroup.controllers").write_text("cpu memory\n")
        folder = self.cgroup / path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.stat").write_text(f"usage_usec {usec}\nuser_usec 1\nsystem_usec 1\n")
        for name, text in files.items():
            (folder / name.replace("_", ".", 1)).write_text(text)
        return folder

    def v1(self, path: str, *, nsec: int, mount: str = "cpuacct") -> Path:
        folder = self.cgroup / mount / path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpuacct.usage").write_text(f"{nsec}\n")
        return folder

    def reader(self, scope: str, **environ: str) -> UsageReader:
        return UsageReader(scope, pid=100, proc=self.proc, cgroup=self.cgroup, platform="linux", environ=environ)


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path)


# -- bad days ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["process", "cgroup"])
def test_a_system_without_proc_says_what_is_possible(scope: str) -> None:
    with pytest.raises(MeterUnavailableError, match="told by Linux's /proc alone, and this is darwin") as caught:
        UsageReader(scope, platform="darwin").open()
    assert caught.value.remedy == 'scope="machine"'


def test_a_proc_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailableError, match="no CPU load to read"):
        UsageReader("process", proc=tmp_path / "none", cgroup=tmp_path, platform="linux").open()


def test_a_proc_that_hides_our_process_says_so(computer: Computer) -> None:
    (computer.proc / "100" / "stat").unlink()
    with pytest.raises(MeterUnavailableError, match="does not show process 100"):
        computer.reader("process").open()


def test_a_machine_without_control_groups_has_no_share_of_one(computer: Computer) -> None:
    with pytest.raises(MeterUnavailableError, match="names no control group"):
        computer.reader("cgroup").open()
    computer.own("0::/user.slice\n")
    with pytest.raises(MeterUnavailableError, match="names no control group"):
        computer.reader("cgroup").open()


def test_a_group_without_an_account_has_no_share(computer: Computer) -> None:
    folder = computer.v2("/user.slice", usec=0)
    (folder / "cpu.stat").unlink()
    computer.own("0::/user.slice\n")
    with pytest.raises(MeterUnavailableError, match="account for no CPU time"):
        computer.reader("cgroup").open()


def test_counters_that_cannot_be_read_are_an_error_and_no_zero(computer: Computer) -> None:
    reader = computer.reader("process")
    with pytest.raises(ReadError, match="not open"):
        reader.read([CPU])
    reader.open()
    reader.read([CPU])
    (computer.proc / "stat").write_text("nonsense\n")
    with pytest.raises(ReadError):
        reader.read([CPU])
    computer.busy(user=300)
    computer.process(ticks=100)
    usage = reader.read([CPU])[CPU.id]
    assert (usage.own, usage.total) == (1.0, 3.0)


def test_a_proc_stat_of_the_container_alone_is_told(computer: Computer) -> None:
    (computer.proc / "self" / "mountinfo").write_text(
        "36 35 0:30 / /proc/stat rw - fuse.lxcfs lxcfs rw\n37 35 0:31 / /proc rw - proc proc rw\n"
    )
    (finding,) = computer.reader("process").open().findings
    assert "lxcfs" in finding.message


# -- processes ---------------------------------------------------------------------------------------------------------


def test_busy_is_what_the_machine_worked_without_stolen_time_and_guests_once(computer: Computer) -> None:
    reader = computer.reader("process")
    holder = reader.open()
    assert holder.name == "process 100 (77)"
    assert holder.findings == ()
    first = reader.read([CPU, DRAM])
    computer.busy(user=300, nice=20, system=80, steal=500, guest=100)
    computer.process(ticks=100)
    second = reader.read([CPU, DRAM])
    for device in (CPU, DRAM):
        before, after = first[device.id], second[device.id]
        assert (before.own, after.own) == (0.0, 1.0)
        assert before.total is not None
        assert after.total is not None
        assert after.total - before.total == pytest.approx(4.0)
        assert after.capacity == 4


def test_the_model_s_share_is_of_the_load_that_it_charges(computer: Computer) -> None:
    # A container with 2 of 4 CPUs: the model charges its group's load, and the share is of that.
    computer.v2("/", usec=0)
    computer.v2("/pod", usec=6_000_000, cpu_max="200000 100000")
    computer.own("0::/pod\n")
    computer.busy(user=4000)
    reader = computer.reader("process")
    reader.open()
    looked = reader.read([CPU, MODEL])
    assert (looked[CPU.id].total, looked[CPU.id].capacity) == (40.0, 4)
    assert (looked[MODEL.id].total, looked[MODEL.id].capacity) == (6.0, 2.0)


def test_gpus_are_shared_by_their_own_time_and_all_else_by_the_cpu_s(computer: Computer) -> None:
    holder = computer.reader("process").open()
    assert {device.id: key_of(device) for device in (CPU, DRAM, MODEL, GPU)} == {
        CPU.id: "cpu", DRAM.id: "cpu", MODEL.id: "model:cpu", GPU.id: "GPU-1",
    }  # fmt: skip
    assert "by GPU time" in share_words(GPU, holder)
    assert all("by CPU time" in share_words(device, holder) for device in (CPU, DRAM, MODEL))


# -- control groups ----------------------------------------------------------------------------------------------------


def test_version_2_is_found_by_proc_self_cgroup(computer: Computer) -> None:
    folder = computer.v2("/user.slice/run.scope", usec=2_500_000, cgroup_procs="100\n101\n")
    inner = folder / "inner"
    inner.mkdir()
    (inner / "cgroup.procs").write_text("102\n")
    computer.own("0::/user.slice/run.scope\n")
    computer.busy(user=1000)
    reader = computer.reader("cgroup")
    holder = reader.open()
    assert (holder.name, holder.findings) == ("cgroup /user.slice/run.scope", ())
    usage = reader.read([CPU])[CPU.id]
    assert (usage.own, usage.total) == (2.5, 10.0)
    assert reader._users is not None
    assert reader._users.pids == {100, 101, 102}


@pytest.mark.parametrize("mount", ["cpuacct", "cpu,cpuacct"])
def test_version_1_is_found_by_proc_self_cgroup(computer: Computer, mount: str) -> None:
    computer.v1("/", nsec=9_000_000_000, mount=mount)
    computer.v1("/docker/abc", nsec=1_500_000_000, mount=mount)
    computer.own(f"5:{mount}:/docker/abc\n4:memory:/elsewhere\n0::/\n")
    reader = computer.reader("cgroup")
    assert reader.open().name == "cgroup /docker/abc"
    assert reader.read([CPU])[CPU.id].own == 1.5


@pytest.mark.parametrize("version", [1, 2])
def test_a_batch_job_s_group_is_the_job_s_not_its_step_s(computer: Computer, version: int) -> None:
    path = "/system.slice/slurmstepd.scope/job_42/step_0/user/task_1"
    job = "/system.slice/slurmstepd.scope/job_42"
    if version == 2:
        computer.v2(path, usec=1)
        computer.v2(job, usec=7_000_000)
        computer.own(f"0::{path}\n")
    else:
        computer.v1(path, nsec=1)
        computer.v1(job, nsec=7_000_000_000)
        computer.own(f"3:cpuacct:{path}\n")
    reader = computer.reader("cgroup", SLURM_JOB_ID="42")
    assert reader.open().name == f"cgroup {job}"
    assert reader.read([CPU])[CPU.id].own == 7.0
    other = own_group(proc=computer.proc, cgroup=computer.cgroup, environ={"SLURM_JOB_ID": "4"})
    assert other[2] == path


@pytest.mark.parametrize("path", ["/docker/abc", "/../../outside", "/"])
def test_in_a_container_what_is_mounted_is_its_own_group(tmp_path: Path, path: str) -> None:
    computer = Computer(tmp_path, namespace=CONTAINER)
    computer.v2("/", usec=3_000_000)
    computer.own(f"0::{path}\n")
    reader = computer.reader("cgroup")
    holder = reader.open()
    assert (holder.name, holder.findings) == (f"cgroup {path}", ())
    assert reader.read([CPU])[CPU.id].own == 3.0


def test_containers_that_call_their_groups_the_same_are_told_apart(tmp_path: Path) -> None:
    names = []
    for n in (1, 2):
        computer = Computer(tmp_path / str(n), namespace=CONTAINER)
        (computer.proc / "self" / "ns" / "cgroup").symlink_to(f"cgroup:[402653{n}]")
        computer.v2("/", usec=1)
        computer.own("0::/\n")
        names.append(computer.reader("cgroup").open().name)
    assert names == ["cgroup / in cgroup:[4026531]", "cgroup / in cgroup:[4026532]"]
    assert computer.reader("process").open().name == f"process 100 (77) in {CONTAINER}"


def test_a_process_is_within_its_parents_and_the_groups_around_it(computer: Computer) -> None:
    fields = ["S", 0, *[0] * 9, 0, 0, 0, 0, 20, 0, 1, 0, 5, *[0] * 20]
    (computer.proc / "1").mkdir()
    (computer.proc / "1" / "stat").write_text(f"1 (init) {' '.join(map(str, fields))}\n")
    computer.v2("/a/b", usec=1)
    computer.own("0::/a/b\n")
    groups = ("cgroup /", "cgroup /a")
    assert computer.reader("process").open().within == ("process 1 (5)", *groups, "cgroup /a/b")
    assert computer.reader("cgroup").open().within == groups


def test_the_root_group_is_the_whole_machine_and_says_so(computer: Computer) -> None:
    computer.v2("/", usec=3_000_000)
    computer.own("0::/\n")
    (finding,) = computer.reader("cgroup").open().findings
    assert "root control group" in finding.message


# -- limits ------------------------------------------------------------------------------------------------------------


def limit_of(computer: Computer, *, cpus: int = 4, **environ: str):  # type: ignore[no-untyped-def]
    return find_limit(
        proc=computer.proc, cgroup=computer.cgroup, platform="linux", environ=environ, affinity=lambda: range(cpus)
    )


def test_a_job_that_may_use_all_cpus_is_told_nothing(computer: Computer) -> None:
    assert limit_of(computer) is None
    assert limit_of(computer, SLURM_CPUS_ON_NODE="4") is None
    assert limit_of(computer, SLURM_CPUS_ON_NODE="many") is None


def test_a_system_that_tells_no_limit_is_told_nothing(tmp_path: Path) -> None:
    assert find_limit(platform="darwin") is None
    assert find_limit(proc=tmp_path, cgroup=tmp_path, platform="linux") is None


def test_affinity_and_slurm_limit_every_device_of_the_cpu(computer: Computer) -> None:
    by_affinity = limit_of(computer, cpus=1)
    assert by_affinity is not None
    assert "1 of this machine's 4 CPUs (affinity)" in by_affinity.warning(CPU)
    assert by_affinity.warning(MODEL)
    by_slurm = limit_of(computer, SLURM_CPUS_ON_NODE="2")
    assert by_slurm is not None
    assert "2 of this machine's 4 CPUs (SLURM_CPUS_ON_NODE=2)" in by_slurm.warning(CPU)
    assert by_slurm.warning(GPU) == ""
    assert by_slurm.warning(dataclasses.replace(CPU, counted=False)) == ""


def test_a_quota_limits_what_is_measured_but_not_the_model_that_heeds_it(computer: Computer) -> None:
    computer.v2("/", usec=0)
    computer.v2("/pod", usec=0, cpu_max="150000 100000")
    computer.own("0::/pod\n")
    limit = limit_of(computer)
    assert limit is not None
    assert "1.5 of this machine's 4 CPUs (control group)" in limit.warning(CPU)
    assert limit.warning(MODEL) == ""
