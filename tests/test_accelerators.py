"""The bundled table of accelerators: figures that can be true, each with who says so, found by the names in use."""

from __future__ import annotations

import pytest

from aiocarbon import data
from aiocarbon.data.accelerators import PRECISIONS, Accelerator, accelerators, find


@pytest.mark.parametrize("row", data.rows("accelerators"), ids=lambda row: row["name"])
def test_a_row_says_who_says_so_and_when_that_was_read(row: dict[str, str]) -> None:
    assert row["address"].startswith("https://")
    assert row["year"] == "2026"
    for source in row["read_in"].split("; "):
        assert source in {"gpu-specs", "lightning", "ml-engineering"}


@pytest.mark.parametrize("device", accelerators(), ids=lambda device: device.name)
def test_figures_can_be_true(device: Accelerator) -> None:
    peaks = device.peak_flop_per_s
    assert device.power_w is None or 50 <= device.power_w <= 2000
    assert bool(device.power_w) == bool(device.power_term)
    assert device.precision in peaks
    assert all(1e12 < peak < 1e16 for peak in peaks.values())
    assert set(peaks) <= set(PRECISIONS)
    # Fewer bits are never slower; a figure "with sparsity" in one column would show as a factor of four.
    ordered = [peaks[name] for name in ("fp32", "tf32", "bf16", "fp8") if name in peaks]
    assert ordered == sorted(ordered)
    if {"tf32", "bf16"} <= set(peaks):
        assert peaks["bf16"] / peaks["tf32"] <= 2.02
    if {"bf16", "fp8"} <= set(peaks):
        assert peaks["fp8"] / peaks["bf16"] <= 2.03
    if {"fp16", "bf16"} <= set(peaks):
        assert peaks["fp16"] == peaks["bf16"]


@pytest.mark.parametrize("device", accelerators(), ids=lambda device: device.name)
def test_each_is_found_by_its_own_name(device: Accelerator) -> None:
    assert find(device.name).found == device
    assert find(device.name.lower().replace(" ", "-")).found == device


def test_the_paper_s_device_has_the_paper_s_figures() -> None:
    device = find("V100S").found
    assert device is not None
    assert (device.power_w, device.peak_flop_per_s[device.precision]) == (250.0, 130e12)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Tesla T4", "NVIDIA T4"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 SXM4"),
        ("NVIDIA A100-PCIE-40GB", "NVIDIA A100 PCIe 40GB"),
        ("Tesla V100-SXM2-16GB", "NVIDIA V100 SXM2"),
        ("h100 sxm5", "NVIDIA H100 SXM"),
        ("rtx 4090", "NVIDIA GeForce RTX 4090"),
        ("MI300X", "AMD Instinct MI300X"),
        ("A10", "NVIDIA A10"),
        ("L4", "NVIDIA L4"),
    ],
)
def test_names_of_people_and_of_drivers_are_understood(name: str, found: str) -> None:
    looked = find(name).found
    assert looked is not None
    assert looked.name == found


@pytest.mark.parametrize(
    ("name", "several"), [("V100", 2), ("A100", 3), ("A100 PCIe", 2), ("H100", 2), ("NVIDIA H100 80GB HBM3", 2)]
)
def test_a_name_that_fits_several_finds_none_of_them(name: str, several: int) -> None:
    looked = find(name)
    assert looked.found is None
    assert len(looked.candidates) == several


@pytest.mark.parametrize("name", ["A10G", "RTX 3090", "RTX", "80GB", "SXM", "NVIDIA", "H", "", "  ", "Ü", "V100" * 100])
def test_a_name_that_is_not_there_is_not_guessed(name: str) -> None:
    looked = find(name)
    assert looked.found is None


def test_near_names_are_told() -> None:
    assert "Google TPU v5e" in find("TPU v5").near
    assert find("L40").near[0] == "NVIDIA L40S"
