"""The NVIDIA meter against a scripted NVML: every return code, every fall-back, no driver needed."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon.errors import (
    MeterError,
    MeterLostError,
    MeterPermissionError,
    MeterUnavailableError,
    ReadError,
)
from aiocarbon.meters.base import Meter
from aiocarbon.meters.nvml import NvmlMeter

UNINITIALIZED, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, TIMEOUT = 1, 3, 4, 6, 10
FUNCTION_NOT_FOUND, LOST, RESET_REQUIRED, OPERATING_SYSTEM, MISMATCH, NO_DATA, UNKNOWN = 13, 15, 16, 17, 18, 21, 999


class ScriptedError(Exception):
    """As pynvml's NVMLError: the code is in `value`."""

    def __init__(self, value: int) -> None:
        super().__init__(f"code {value}")
        self.value = value


@dataclass
class ScriptedGpu:
    """One board; an int in `codes` for a function makes it fail with that code."""

    uuid: str = "GPU-aa"
    name: str | bytes = "NVIDIA H100 80GB HBM3"
    arch: int = 9
    energy_mj: int = 123_456
    power_mw: int = 300_000
    fields: dict[int, tuple[int, int]] = field(default_factory=lambda: {186: (0, 310_000), 185: (0, 320_000)})
    limit_mw: int = 700_000
    mig: tuple[str, ...] = ()
    codes: dict[str, int] = field(default_factory=dict)


class ScriptedNvml:
    """A stand-in for the module pynvml: boards that answer or fail as told, and a record of the calls."""

    NVMLError = ScriptedError

    def __init__(self, *gpus: ScriptedGpu, codes: dict[str, int] | None = None) -> None:
        self.gpus = gpus
        self.codes = codes or {}
        self.references = 0
        self.calls: list[str] = []

    def _enter(self, function: str, gpu: ScriptedGpu | None = None) -> None:
        self.calls.append(function)
        code = self.codes.get(function) or (gpu.codes.get(function) if gpu else None)
        if code is None and not self.references and function != "nvmlInitWithFlags":
            code = UNINITIALIZED
        if code:
            raise ScriptedError(code)

    def nvmlInitWithFlags(self, flags: int) -> None:
        self._enter("nvmlInitWithFlags")
        self.references += 1

    def nvmlShutdown(self) -> None:
        self._enter("nvmlShutdown")
        self.references -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._enter("nvmlDeviceGetCount")
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:
        self._enter("nvmlDeviceGetHandleByIndex", self.gpus[index])
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> object:
        self._enter("nvmlDeviceGetHandleByUUID")
        return next(gpu for gpu in self.gpus if gpu.uuid == uuid)

    def __getattr__(self, function: str) -> Callable[..., object]:
        answers: dict[str, Callable[..., object]] = {
            "nvmlDeviceGetUUID": lambda gpu: gpu if isinstance(gpu, str) else gpu.uuid,
            "nvmlDeviceGetName": lambda gpu: gpu.name,
            "nvmlDeviceGetPciInfo": lambda gpu: SimpleNamespace(busId=b"00000000:3B:00.0"),
            "nvmlDeviceGetArchitecture": lambda gpu: gpu.arch,
            "nvmlDeviceGetMigMode": lambda gpu: [int(bool(gpu.mig)), 0],
            "nvmlDeviceGetMaxMigDeviceCount": lambda gpu: 7,
            "nvmlDeviceGetMigDeviceHandleByIndex": self._mig,
            "nvmlDeviceGetTotalEnergyConsumption": lambda gpu: gpu.energy_mj,
            "nvmlDeviceGetPowerUsage": lambda gpu: gpu.power_mw,
            "nvmlDeviceGetEnforcedPowerLimit": lambda gpu: gpu.limit_mw,
            "nvmlDeviceGetPowerManagementLimitConstraints": lambda gpu: [100_000, gpu.limit_mw],
            "nvmlDeviceGetFieldValues": self._fields,
        }
        if function not in answers:
            raise AttributeError(function)

        def call(gpu: object, *args: object) -> object:
            self._enter(function, gpu if isinstance(gpu, ScriptedGpu) else None)
            return answers[function](gpu, *args)

        return call

    def _mig(self, gpu: ScriptedGpu, i: int) -> object:
        if i >= len(gpu.mig):
            raise ScriptedError(NOT_FOUND)
        return gpu.mig[i]

    def _fields(self, gpu: ScriptedGpu, ids: list[int]) -> list[SimpleNamespace]:
        entries = [gpu.fields.get(i, (NOT_SUPPORTED, 0)) for i in ids]
        return [
            SimpleNamespace(nvmlReturn=code, valueType=1, value=SimpleNamespace(uiVal=milliwatts))
            for code, milliwatts in entries
        ]


ENERGY = "nvmlDeviceGetTotalEnergyConsumption"
USAGE = "nvmlDeviceGetPowerUsage"
FIELDS = "nvmlDeviceGetFieldValues"


def meter(*gpus: ScriptedGpu, codes: dict[str, int] | None = None, **environ: str) -> tuple[NvmlMeter, ScriptedNvml]:
    nvml = ScriptedNvml(*gpus, codes=codes)
    return NvmlMeter(nvml=nvml, environ=environ, clock=itertools.count(1000, 10).__next__, modules={}), nvml


def opened(*gpus: ScriptedGpu, **environ: str) -> tuple[NvmlMeter, ScriptedNvml, Device]:
    made, nvml = meter(*gpus, **environ)
    return made, nvml, made.open().devices[0]


# Opening


def test_it_is_a_meter() -> None:
    assert isinstance(NvmlMeter(), Meter)
    assert NvmlMeter.name == "nvml"


@pytest.mark.parametrize("function", ["nvmlInitWithFlags", "nvmlDeviceGetCount"])
@pytest.mark.parametrize("code", [2, NOT_SUPPORTED, 9, 12, FUNCTION_NOT_FOUND, MISMATCH, UNKNOWN, 12345])
def test_a_driver_that_does_not_start_is_unavailable(function: str, code: int) -> None:
    made, nvml = meter(ScriptedGpu(), codes={function: code})
    with pytest.raises(MeterUnavailableError, match=str(code)) as caught:
        made.open()
    assert isinstance(caught.value.__cause__, ScriptedError)
    assert nvml.references == 0, "what was initialised is given back"


def test_a_driver_upgraded_under_its_library_is_told_with_the_remedy() -> None:
    made, _ = meter(ScriptedGpu(), codes={"nvmlInitWithFlags": MISMATCH})
    with pytest.raises(MeterUnavailableError) as caught:
        made.open()
    assert "reboot" in caught.value.remedy


def test_no_board_at_all_is_unavailable() -> None:
    made, nvml = meter()
    with pytest.raises(MeterUnavailableError, match="shows no GPU"):
        made.open()
    assert nvml.references == 0


def test_boards_that_a_cgroup_forbids_are_a_permission_matter() -> None:
    made, _ = meter(ScriptedGpu(codes={"nvmlDeviceGetHandleByIndex": OPERATING_SYSTEM}))
    with pytest.raises(MeterPermissionError) as caught:
        made.open()
    assert "--gpus" in caught.value.remedy


def test_a_forbidden_board_is_left_out_quietly_and_counts_for_no_index() -> None:
    forbidden = ScriptedGpu(codes={"nvmlDeviceGetHandleByIndex": NO_PERMISSION})
    made, _ = meter(forbidden, ScriptedGpu(uuid="GPU-bb"), CUDA_VISIBLE_DEVICES="0")
    inventory = made.open()
    assert [device.id for device in inventory.devices] == ["GPU-bb"]
    finding = next(f for f in inventory.findings if f.event == "meter.forbidden")
    assert not finding.is_warning


def test_a_lost_board_keeps_its_index_and_is_missing_not_zero() -> None:
    lost = ScriptedGpu(codes={"nvmlDeviceGetHandleByIndex": LOST})
    made, _ = meter(lost, ScriptedGpu(uuid="GPU-bb"), ScriptedGpu(uuid="GPU-cc"), CUDA_VISIBLE_DEVICES="0,2")
    inventory = made.open()
    assert [device.id for device in inventory.devices] == ["GPU-cc"]
    assert any(f.event == "meter.device_missing" and f.is_warning for f in inventory.findings)


def test_the_counter_is_preferred_and_described() -> None:
    _, _, device = opened(ScriptedGpu())
    assert device.id == "GPU-aa"
    assert device.kind is DeviceKind.GPU
    assert (device.quantity, device.basis, device.origin) == (Quantity.ENERGY, Basis.COUNTER, "driver")
    assert device.covers == {Part.GPU}
    assert (device.low_factor, device.high_factor) == (0.95, 1.05)
    assert device.max_power_w == pytest.approx(1050)
    assert (device.refresh_s, device.counter_range_uj, device.lag_s) == (None, None, 0)


@pytest.mark.parametrize("code", [NOT_SUPPORTED, FUNCTION_NOT_FOUND, 25, 26, UNKNOWN, TIMEOUT])
def test_without_a_counter_the_instant_power_field_is_read(code: int) -> None:
    made, _, device = opened(ScriptedGpu(codes={ENERGY: code}))
    assert (device.quantity, device.basis, device.origin) == (Quantity.POWER, Basis.POWER, "")
    assert made.read(device).value == pytest.approx(310)
    assert device.lag_s == pytest.approx(0.0125)
    assert device.refresh_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("fields", "expected_w"),
    [({186: (NOT_SUPPORTED, 0), 185: (0, 320_000)}, 320), ({}, 300), ({186: (NO_DATA, 7)}, 300)],
)
def test_each_field_value_has_a_code_of_its_own(fields: dict[int, tuple[int, int]], expected_w: float) -> None:
    made, _, device = opened(ScriptedGpu(codes={ENERGY: NOT_SUPPORTED}, fields=fields))
    assert made.read(device).value == pytest.approx(expected_w)
    assert device.lag_s == 0.5
    assert "average" in device.note


@pytest.mark.parametrize(
    ("name", "arch", "lag_s", "refresh_s"),
    [
        ("Tesla K80", 2, 0.0, None),
        ("Tesla P100-PCIE-16GB", 4, 0.005, 0.02),
        ("Tesla V100-SXM2-16GB", 5, 0.005, 0.02),
        ("Tesla T4", 6, 0.05, 0.1),
        ("NVIDIA A100-SXM4-40GB", 7, 0.0125, 0.1),
        ("NVIDIA A30", 7, 0.0125, 0.1),
        ("NVIDIA A800 80GB PCIe", 7, 0.0125, 0.1),
        ("NVIDIA A10", 7, 0.5, 0.1),
        ("NVIDIA GeForce RTX 3090", 7, 0.5, 0.1),
        ("NVIDIA H200", 9, 0.5, 0.1),
        ("NVIDIA B200", 10, 0.5, None),
        ("something new", 0xFFFFFFFF, 0.5, None),
    ],
)
def test_power_usage_lies_in_the_past_where_the_driver_averages_it(
    name: str, arch: int, lag_s: float, refresh_s: float | None
) -> None:
    gpu = ScriptedGpu(name=name, arch=arch, codes={ENERGY: NOT_SUPPORTED, FIELDS: FUNCTION_NOT_FOUND})
    _, _, device = opened(gpu)
    assert device.lag_s == pytest.approx(lag_s)
    assert device.refresh_s == (refresh_s if refresh_s is None else pytest.approx(refresh_s))


def test_a_value_that_says_not_available_is_no_value() -> None:
    gpu = ScriptedGpu(energy_mj=2**64 - 1, fields={186: (0, 2**32 - 1)})
    made, _, device = opened(gpu)
    assert made.read(device).value == pytest.approx(300)


class RecoveringNvml(ScriptedNvml):
    """Each board's failures end with the first one."""

    def _enter(self, function: str, gpu: ScriptedGpu | None = None) -> None:
        try:
            super()._enter(function, gpu)
        except ScriptedError:
            if gpu is not None:
                gpu.codes.clear()
            raise


@pytest.mark.parametrize("code", [TIMEOUT, UNKNOWN])
def test_a_passing_failure_while_probing_does_not_cost_the_counter(code: int) -> None:
    made = NvmlMeter(nvml=RecoveringNvml(ScriptedGpu(codes={ENERGY: code})), environ={}, modules={})
    assert made.open().devices[0].basis is Basis.COUNTER


def test_a_board_where_nothing_works_is_missing_and_the_others_are_read() -> None:
    mute = ScriptedGpu(uuid="GPU-mute", codes=dict.fromkeys([ENERGY, FIELDS, USAGE], NOT_SUPPORTED))
    made, _ = meter(mute, ScriptedGpu())
    inventory = made.open()
    assert [device.id for device in inventory.devices] == ["GPU-aa"]
    (finding,) = inventory.findings
    assert (finding.event, finding.device, finding.is_warning) == ("meter.device_missing", "GPU-mute", True)


@pytest.mark.parametrize(
    ("code", "kind"), [(NOT_SUPPORTED, MeterUnavailableError), (NO_PERMISSION, MeterPermissionError)]
)
def test_nothing_works_anywhere(code: int, kind: type[MeterError]) -> None:
    mute = ScriptedGpu(codes=dict.fromkeys([ENERGY, FIELDS, USAGE], code))
    made, nvml = meter(mute)
    with pytest.raises(kind) as caught:
        made.open()
    assert type(caught.value) is kind
    assert nvml.references == 0


def test_a_refused_counter_is_told_and_power_read_instead() -> None:
    made, _ = meter(ScriptedGpu(codes={ENERGY: NO_PERMISSION}))
    inventory = made.open()
    assert inventory.devices[0].basis is Basis.POWER
    (finding,) = inventory.findings
    assert finding.event == "meter.permission"
    assert finding.remedy


@pytest.mark.parametrize(
    "function",
    [
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetName",
        "nvmlDeviceGetArchitecture",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetPowerManagementLimitConstraints",
        FIELDS,
        USAGE,
        ENERGY,
    ],
)
@pytest.mark.parametrize("code", [FUNCTION_NOT_FOUND, UNKNOWN])
def test_any_single_function_may_be_missing(function: str, code: int) -> None:
    made, _, device = opened(ScriptedGpu(codes={function: code}))
    assert made.read(device).value > 0
    assert device.id
    assert device.name


def test_without_a_uuid_the_bus_id_names_the_board() -> None:
    _, _, device = opened(ScriptedGpu(codes={"nvmlDeviceGetUUID": NOT_SUPPORTED}))
    assert device.id == "nvml:00000000:3B:00.0"


def test_a_name_in_bytes_that_are_no_text_does_no_harm() -> None:
    _, _, device = opened(ScriptedGpu(name=b"NVIDIA \xff"))
    assert device.name.startswith("NVIDIA")


def test_mig_is_measured_once_as_the_whole_board() -> None:
    made, _ = meter(ScriptedGpu(mig=("MIG-1", "MIG-2")), CUDA_VISIBLE_DEVICES="MIG-2")
    (device,) = made.open().devices
    assert device.id == "GPU-aa"
    assert "whole board" in device.note


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("7", "'7' names no device"),
        ("0,0", "named twice"),
        ("", ""),
        ("-1", ""),
        ("NoDevFiles", ""),
    ],
)
def test_a_variable_that_hides_every_gpu_by_mistake_is_told_and_one_that_is_meant_to_is_not(
    value: str, problem: str
) -> None:
    made, _ = meter(ScriptedGpu(), ScriptedGpu(uuid="GPU-bb"), CUDA_VISIBLE_DEVICES=value)
    with pytest.raises(MeterUnavailableError, match="hides every") as caught:
        made.open()
    assert caught.value.is_warning is bool(problem)
    assert problem in str(caught.value)


def test_hidden_boards_are_not_measured() -> None:
    made, nvml = meter(ScriptedGpu(), CUDA_VISIBLE_DEVICES="")
    with pytest.raises(MeterUnavailableError, match="CUDA_VISIBLE_DEVICES"):
        made.open()
    assert ENERGY not in nvml.calls
    made, _ = meter(ScriptedGpu(), ScriptedGpu(uuid="GPU-bb"), CUDA_VISIBLE_DEVICES="1")
    assert [device.id for device in made.open().devices] == ["GPU-bb"]


UNEQUAL = (ScriptedGpu(name="Quadro P400"), ScriptedGpu(uuid="GPU-bb"))


def test_unequal_boards_by_index_are_told_with_what_to_type() -> None:
    made, _ = meter(*UNEQUAL, CUDA_VISIBLE_DEVICES="0")
    inventory = made.open()
    assert [device.id for device in inventory.devices] == ["GPU-aa"]
    finding = next(f for f in inventory.findings if f.event == "meter.devices_ambiguous")
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in finding.remedy
    assert finding.is_warning


def torch(*, uuids: list[str], is_initialized: bool) -> SimpleNamespace:
    cuda = SimpleNamespace(
        is_initialized=lambda: is_initialized,
        device_count=lambda: len(uuids),
        get_device_properties=lambda i: SimpleNamespace(uuid=uuids[i]),
    )
    return SimpleNamespace(cuda=cuda)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (torch(uuids=["bb"], is_initialized=True), "GPU-bb"),
        (torch(uuids=["bb"], is_initialized=False), "GPU-aa"),
        (SimpleNamespace(), "GPU-aa"),  # imported half-way
    ],
)
def test_a_running_torch_knows_the_order_of_unequal_boards(module: object, expected: str) -> None:
    nvml = ScriptedNvml(*UNEQUAL)
    made = NvmlMeter(nvml=nvml, environ={"CUDA_VISIBLE_DEVICES": "0"}, modules={"torch": module})
    assert [device.id for device in made.open().devices] == [expected]


# Reading


def test_a_read_is_one_call_between_two_stamps_in_whole_microjoules() -> None:
    made, nvml, device = opened(ScriptedGpu(energy_mj=2**53 + 1))
    nvml.calls.clear()
    reading = made.read(device)
    assert nvml.calls == [ENERGY]
    assert reading.t1_ns - reading.t0_ns == 10
    assert reading.value == (2**53 + 1) * 1000
    assert isinstance(reading.value, int)


@pytest.mark.parametrize("code", [TIMEOUT, NOT_FOUND, NO_DATA, 7, 11, 19, 20, 23, 27])
def test_passing_failures_may_repeat_for_ever(code: int) -> None:
    gpu = ScriptedGpu()
    made, _, device = opened(gpu)
    gpu.codes[ENERGY] = code
    for _ in range(10):
        with pytest.raises(ReadError) as caught:
            made.read(device)
        assert caught.value.device == device.id
    gpu.codes.clear()
    assert made.read(device).value == 123_456_000


@pytest.mark.parametrize(
    "code", [2, NOT_SUPPORTED, NO_PERMISSION, 9, 12, 13, LOST, RESET_REQUIRED, 17, MISMATCH, 25, 26, 28]
)
def test_lasting_failures_lose_this_device_and_no_other(code: int) -> None:
    gpu = ScriptedGpu()
    made, _ = meter(gpu, ScriptedGpu(uuid="GPU-bb"))
    first, second = made.open().devices
    gpu.codes[ENERGY] = code
    with pytest.raises(MeterLostError, match=str(code)) as caught:
        made.read(first)
    assert caught.value.device == first.id
    assert made.read(second).value > 0


@pytest.mark.parametrize("code", [UNKNOWN, 12345])
def test_unknown_failures_pass_three_times_in_a_row(code: int) -> None:
    gpu = ScriptedGpu()
    made, _, device = opened(gpu)
    for _ in range(2):
        gpu.codes[ENERGY] = code
        for _ in range(3):
            with pytest.raises(ReadError):
                made.read(device)
        gpu.codes.clear()
        made.read(device)
    gpu.codes[ENERGY] = code
    for _ in range(3):
        with pytest.raises(ReadError):
            made.read(device)
    with pytest.raises(MeterLostError):
        made.read(device)


def test_a_field_that_fails_later_is_a_failure_and_not_its_last_value() -> None:
    gpu = ScriptedGpu(codes={ENERGY: NOT_SUPPORTED})
    made, _, device = opened(gpu)
    gpu.fields[186] = (TIMEOUT, 310_000)
    with pytest.raises(ReadError):
        made.read(device)


def test_someone_elses_shutdown_is_mended_once_for_all_boards() -> None:
    made, nvml = meter(ScriptedGpu(), ScriptedGpu(uuid="GPU-bb"))
    first, second = made.open().devices
    nvml.references = 0
    nvml.calls.clear()
    assert made.read(first).value > 0
    assert made.read(second).value > 0
    assert nvml.calls.count("nvmlInitWithFlags") == 1
    made.close()
    assert nvml.references == 0


def test_a_driver_that_stays_uninitialised_is_lost() -> None:
    gpu = ScriptedGpu()
    made, nvml, device = opened(gpu)
    gpu.codes[ENERGY] = UNINITIALIZED
    with pytest.raises(MeterLostError):
        made.read(device)
    nvml.codes["nvmlInitWithFlags"] = 9
    with pytest.raises(MeterLostError, match="initialised again"):
        made.read(device)


def test_a_lost_meter_can_be_opened_again() -> None:
    gpu = ScriptedGpu()
    made, nvml, device = opened(gpu)
    gpu.codes[ENERGY] = LOST
    with pytest.raises(MeterLostError):
        made.read(device)
    gpu.codes.clear()
    made.close()
    (again,) = made.open().devices
    assert made.read(again).value == 123_456_000
    assert nvml.references == 1


def test_opening_twice_owes_one_shutdown() -> None:
    made, nvml, _ = opened(ScriptedGpu())
    made.open()
    assert nvml.references == 1


def test_reading_a_closed_meter_is_a_loss_and_closing_twice_is_fine() -> None:
    made, nvml, device = opened(ScriptedGpu())
    made.close()
    made.close()
    with pytest.raises(MeterLostError):
        made.read(device)
    assert nvml.references == 0


def test_a_shutdown_that_fails_is_let_be() -> None:
    made, nvml, _ = opened(ScriptedGpu())
    nvml.codes["nvmlShutdown"] = UNINITIALIZED
    made.close()
    NvmlMeter(nvml=nvml).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_never_touches_nvml() -> None:
    made, nvml, device = opened(ScriptedGpu())
    nvml.calls.clear()
    with warnings.catch_warnings():
        # Newer interpreters warn of forking beside threads (the test runner's); the child does nothing but this.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            made.read(device)
        except MeterLostError:
            made.close()
            status = 0 if not nvml.calls else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert made.read(device).value > 0
