"""Whose a GPU's time was: shared, alone, split, hidden by a container, or not told at all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon._core.units import NS_PER_S
from aiocarbon.meters._nvml import Code
from aiocarbon.meters.gpu_users import GpuUsers

GPU = Device(
    id="GPU-1",
    kind=DeviceKind.GPU,
    name="A GPU",
    quantity=Quantity.ENERGY,
    basis=Basis.COUNTER,
    covers=frozenset({Part.GPU}),
)
OURS = frozenset({100, 101})


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        self.value = value
        super().__init__(f"code {value}")


class Nvml:
    """A driver that says what a test says; processes by pid, samples as (pid, use in percent)."""

    NVMLError = NVMLError

    def __init__(self, *, processes: Any = (), samples: Any = (), mig: bool = False) -> None:
        self.processes = processes
        self.samples = samples
        self.mig = mig
        self.time_us = 0
        self.asked: list[int] = []
        self.ups = 0

    def nvmlInitWithFlags(self, flags: int) -> None:
        self.ups += 1

    def nvmlShutdown(self) -> None:
        self.ups -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != GPU.id:
            raise NVMLError(Code.NOT_FOUND)
        return "handle"

    def nvmlDeviceGetMigMode(self, handle: object) -> list[int]:
        return [int(self.mig), int(self.mig)]

    def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in self._said(self.processes)]

    def nvmlDeviceGetProcessUtilization(self, handle: object, since_us: int) -> list[Any]:
        self.asked.append(since_us)
        if self.mig:
            raise NVMLError(Code.NOT_SUPPORTED)
        samples = self._said(self.samples)
        if not samples:
            raise NVMLError(Code.NOT_FOUND)
        self.time_us += 1000
        return [SimpleNamespace(pid=pid, smUtil=use, timeStamp=self.time_us) for pid, use in samples]

    def _said(self, what: Any) -> Any:
        if isinstance(what, int):
            raise NVMLError(what)
        return what


class Looks:
    """Looks at one GPU, a second apart unless said otherwise."""

    def __init__(self, nvml: Nvml | None, **more: Any) -> None:
        self.nvml = nvml
        self.t_ns = 0
        self.pids = OURS
        self.users = GpuUsers(nvml=nvml, clock=lambda: self.t_ns, environ=more.pop("environ", {}), **more)  # type: ignore[arg-type]
        self.last = self.look(0.0)

    def look(self, after_s: float = 1.0, device: Device = GPU) -> Any:
        self.t_ns += round(after_s * NS_PER_S)
        return self.users.look([device], self.pids)[device.id]

    def share(self, after_s: float = 1.0) -> float | None:
        """Our share of the time since the last look; None if it is not known, -1 if nobody used it."""
        before, self.last = self.last, self.look(after_s)
        if self.last.own is None or before.own is None:
            return None
        total = self.last.total - before.total
        return (self.last.own - before.own) / total if total else -1.0

    def told(self) -> list[str]:
        return [finding.message for finding in self.users.news()]


# -- bad days ----------------------------------------------------------------------------------------------------------


def test_without_a_driver_the_share_is_not_known_and_that_is_told_once() -> None:
    looks = Looks(None)  # load_pynvml finds no driver on a machine without one, or no such GPU on one with
    assert looks.share() is None
    (message,) = looks.told()
    assert "is not known" in message
    assert looks.share() is None
    assert looks.told() == []


def test_a_gpu_that_nvml_does_not_know_has_no_known_share() -> None:
    looks = Looks(Nvml(processes=[100]))
    other = Device(
        id="hwmon:amdgpu", kind=DeviceKind.GPU, name="amdgpu", quantity=Quantity.POWER, basis=Basis.POWER,
    )  # fmt: skip
    assert looks.look(1.0, other).own is None
    assert any("hwmon:amdgpu" in text and "not known" in text for text in looks.told())


def test_a_driver_that_tells_neither_processes_nor_use_leaves_it_unknown() -> None:
    looks = Looks(Nvml(processes=Code.NOT_SUPPORTED, samples=Code.NOT_SUPPORTED))
    assert looks.share() is None
    assert "neither its processes nor their use" in looks.told()[0]


def test_a_race_for_the_size_is_tried_again() -> None:
    nvml = Nvml(processes=[100, 200], samples=[(100, 50), (200, 50)])
    looks = Looks(nvml)
    plain, calls = nvml.nvmlDeviceGetProcessUtilization, []

    def racing(handle: object, since_us: int) -> list[Any]:
        calls.append(since_us)
        if len(calls) == 1:
            raise NVMLError(Code.INSUFFICIENT_SIZE)
        return plain(handle, since_us)

    nvml.nvmlDeviceGetProcessUtilization = racing  # type: ignore[method-assign]  # a driver whose list grew meanwhile
    assert looks.share() == pytest.approx(0.5)
    assert len(calls) == 2


def test_a_driver_that_somebody_shut_down_is_begun_again() -> None:
    nvml = Nvml(processes=[100])
    looks = Looks(nvml)
    nvml.processes = nvml.samples = Code.UNINITIALIZED
    assert looks.share() is None
    nvml.processes, nvml.samples = [100], []
    looks.share()
    assert looks.share() == 1.0


def test_garbage_above_100_percent_and_old_samples_do_not_count() -> None:
    nvml = Nvml(processes=[100, 200], samples=[(100, 3000), (200, 100)])
    looks = Looks(nvml)
    assert looks.share() == pytest.approx(0.5)
    nvml.time_us = -(10**9)
    nvml.samples = [(100, 100), (200, 1)]  # of before the last look
    assert looks.share() == pytest.approx(0.5)


# -- rules -------------------------------------------------------------------------------------------------------------


def test_who_is_alone_on_a_gpu_has_all_of_its_time() -> None:
    looks = Looks(Nvml(processes=[100, 101]))
    assert looks.share() == 1.0
    assert looks.last.capacity is None  # a process holds it: what it draws is not its idle floor
    assert looks.told() == []


def test_a_gpu_with_nobody_on_it_is_idle_and_quiet() -> None:
    looks = Looks(Nvml())
    assert looks.share() == -1.0
    assert looks.last.capacity == 1.0


def test_a_gpu_with_only_others_on_it_is_theirs() -> None:
    looks = Looks(Nvml(processes=[200], samples=[(200, 80)]))
    assert looks.share() == 0.0


def test_a_shared_gpu_is_shared_by_the_samples_of_use() -> None:
    nvml = Nvml(processes=[100, 200], samples=[(100, 20), (101, 10), (200, 60)])
    looks = Looks(nvml)
    assert looks.share() == pytest.approx(1 / 3)
    assert nvml.asked[-1] > nvml.asked[0]  # only what is newer is asked for


def test_who_was_ours_and_has_ended_used_it_as_ours() -> None:
    nvml = Nvml(processes=[100, 200], samples=[(101, 40), (200, 60)])
    looks = Looks(nvml)
    looks.pids = OURS - {101}  # a worker that ended since the last look
    assert looks.share() == pytest.approx(0.4)
    nvml.samples = [(101, 40), (200, 60)]  # somebody else has its number
    assert looks.share() == 0.0


def test_without_a_new_sample_the_last_share_holds_two_seconds() -> None:
    nvml = Nvml(processes=[100, 200], samples=[(100, 25), (200, 75)])
    looks = Looks(nvml)
    assert looks.share() == pytest.approx(0.25)
    nvml.samples = []
    assert looks.share(0.5) == pytest.approx(0.25)
    assert looks.share(3.0) == -1.0  # both hold it, and nobody has used it


def test_multi_instance_gpus_tell_no_use_so_a_shared_one_is_unknown() -> None:
    nvml = Nvml(processes=[100, 200], mig=True)
    looks = Looks(nvml)
    assert looks.share() is None
    assert "Multi-Instance GPUs tell none" in looks.told()[0]
    nvml.processes = [100]
    looks.share()
    assert looks.share() == 1.0


# -- containers --------------------------------------------------------------------------------------------------------


def test_in_a_container_another_namespace_s_numbers_are_nobody_s_share() -> None:
    looks = Looks(Nvml(processes=[4242], samples=[(4242, 90)]), is_hidden=True)
    assert looks.share() is None
    (message,) = looks.told()
    assert "is not known and is missing" in message
    assert "CUDA_VISIBLE_DEVICES" in message


def test_in_a_container_a_number_that_happens_to_be_ours_among_others_is_no_share_either() -> None:
    looks = Looks(Nvml(processes=[100, 4242], samples=[(100, 50), (4242, 50)]), is_hidden=True)
    assert looks.share() is None


def test_in_a_container_whose_numbers_nvml_knows_the_gpu_is_ours_and_that_is_told() -> None:
    looks = Looks(Nvml(processes=[100]), is_hidden=True)
    assert looks.share() == 1.0
    assert "numbers of this container's" in looks.told()[0]


@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "SLURM_STEP_GPUS"])
def test_in_a_container_a_reservation_makes_the_gpu_ours_and_is_told(variable: str) -> None:
    looks = Looks(Nvml(processes=[4242]), is_hidden=True, environ={variable: "1"})
    assert looks.share() == 1.0
    assert f"{variable}=1 reserves it" in looks.told()[0]


@pytest.mark.parametrize("value", ["", "all", "none", "void"])
def test_what_reserves_nothing_is_no_reservation(value: str) -> None:
    assert Looks(Nvml(processes=[4242]), is_hidden=True, environ={"NVIDIA_VISIBLE_DEVICES": value}).share() is None


def test_a_part_of_a_split_gpu_reserves_no_whole_one() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "MIG-1"}
    assert Looks(Nvml(processes=[4242], mig=True), is_hidden=True, environ=environ).share() is None


def test_what_was_begun_is_given_back() -> None:
    nvml = Nvml(processes=[100])
    looks = Looks(nvml)
    assert nvml.ups == 1
    looks.users.close()
    looks.users.close()
    assert nvml.ups == 0
