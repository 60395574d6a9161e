from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from aiocarbon.errors import ConfigError
from aiocarbon.intensity.dmi import AZURE_ASSET_TAG
from aiocarbon.intensity.pue import find

DmiTree = Callable[..., Path]


@pytest.fixture
def dmi(tmp_path: Path) -> DmiTree:
    def tree(**strings: str) -> Path:
        for name, text in strings.items():
            (tmp_path / name).write_text(text + "\n")
        return tmp_path

    return tree


@pytest.mark.parametrize("pue", [1, 1.0, 1.125, 2.5])
def test_a_given_ratio_is_taken(pue: float, dmi: DmiTree) -> None:
    found = find(pue, dmi_root=dmi(sys_vendor="Amazon EC2"))
    assert (found.value, found.source) == (pue, "given")


@pytest.mark.parametrize("pue", [0, 0.99, -1, math.nan, math.inf, True, "1.2"])
def test_what_is_no_ratio_is_refused(pue: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 1") as caught:
        find(pue, dmi_root=tmp_path)  # type: ignore[arg-type]  # the user's file or environment may hold anything
    assert caught.value.field == "pue"


@pytest.mark.parametrize(
    ("strings", "pue", "source"),
    [
        ({"sys_vendor": "Amazon EC2", "product_name": "p5.48xlarge", "chassis_type": "1"}, 1.14, "AWS, 2025"),
        ({"sys_vendor": "Xen", "product_name": "HVM domU", "bios_version": "4.11.amazon"}, 1.14, "AWS, 2025"),
        ({"sys_vendor": "Google", "product_name": "Google Compute Engine"}, 1.09, "Google Cloud, 2024"),
        (
            {"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": AZURE_ASSET_TAG, "chassis_type": "3"},
            1.17,
            "Microsoft Azure, 2025",
        ),
        ({"sys_vendor": "Alibaba Cloud", "product_name": "Alibaba Cloud ECS"}, 1.2, "Alibaba Cloud, 2024"),
        ({"sys_vendor": "QEMU", "chassis_asset_tag": "OracleCloud.com"}, 1.2, "Oracle Cloud, 2023"),
    ],
)
def test_a_cloud_is_told_by_its_firmware(strings: dict[str, str], pue: float, source: str, dmi: DmiTree) -> None:
    found = find(None, dmi_root=dmi(**strings))
    assert found.value == pue
    assert found.source.startswith(source)


@pytest.mark.parametrize(
    ("strings", "chassis"),
    [
        ({"sys_vendor": "LENOVO", "chassis_type": "10"}, "notebook"),
        ({"sys_vendor": "Dell Inc.", "chassis_type": "9"}, "laptop"),
        ({"sys_vendor": "ASUS", "chassis_type": "3"}, "desktop"),
        ({"sys_vendor": "LENOVO", "chassis_type": "31"}, "convertible"),
        # Makers of computers whose names are also those of clouds.
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Surface Laptop 4", "chassis_type": "9"}, "laptop"),
        ({"sys_vendor": "Google", "product_name": "Eve", "chassis_type": "9"}, "laptop"),
    ],
)
def test_a_machine_on_a_desk_has_no_facility(strings: dict[str, str], chassis: str, dmi: DmiTree) -> None:
    found = find(None, dmi_root=dmi(**strings), platform="linux")
    assert (found.value, found.source) == (1.0, f"chassis: {chassis}")


@pytest.mark.parametrize(
    "strings",
    [
        {},
        {"sys_vendor": "Supermicro", "chassis_type": "23"},
        {"sys_vendor": "Dell Inc.", "chassis_type": "17"},
        {"sys_vendor": "unknown", "chassis_type": "2"},
        {"sys_vendor": "unknown", "chassis_type": "nonsense"},
        {"sys_vendor": "unknown", "chassis_type": "٣"},
        {"sys_vendor": "unknown", "chassis_type": ""},
        # Guests whose chassis is made up: on Hyper-V it is always a desktop's.
        {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine", "chassis_type": "3"},
        {"sys_vendor": "QEMU", "chassis_type": "3"},
        {"sys_vendor": "VMware, Inc.", "chassis_type": "9"},
        {"sys_vendor": "OpenStack Foundation", "product_name": "OpenStack Nova", "chassis_type": "3"},
    ],
)
def test_everything_else_is_an_average_data_centre(strings: dict[str, str], dmi: DmiTree) -> None:
    found = find(None, dmi_root=dmi(**strings), platform="linux")
    assert found.value == 1.58
    assert "Uptime Institute" in found.source
    assert "2023" in found.source


def test_a_mac_has_no_such_files_and_stands_on_a_desk(tmp_path: Path) -> None:
    found = find(None, dmi_root=tmp_path / "missing", platform="darwin")
    assert (found.value, found.source) == (1.0, "chassis: Mac")


def test_files_that_cannot_be_read_count_as_missing(tmp_path: Path) -> None:
    (tmp_path / "sys_vendor").mkdir()  # reading a folder fails as a closed file does, also for root
    (tmp_path / "chassis_type").write_bytes(b"\xff\xfe")
    assert find(None, dmi_root=tmp_path, platform="linux").value == 1.58


@pytest.mark.parametrize(
    ("region", "pue", "source"),
    [
        ("aws eu-north-1", 1.1, "AWS eu-north-1, 2024: "),
        ("gcp us-west4", 1.08, "Google Cloud us-west4, 2024: "),
        ("azure westeurope", 1.14, "Microsoft Azure westeurope, 2023: "),
        # The provider's average where the table has no figure of the region, or no such region.
        ("aws eu-west-2", 1.14, "AWS, 2025: "),
        ("aws eu-nowhere-9", 1.14, "AWS, 2025: "),
        ("", 1.14, "AWS, 2025: "),
    ],
)
def test_a_regions_own_figure_comes_before_the_providers(region: str, pue: float, source: str, dmi: DmiTree) -> None:
    found = find(None, dmi_root=dmi(sys_vendor="Amazon EC2"), region=region)
    assert found.value == pue
    assert found.source.startswith(source)
    assert find(1.3, dmi_root=dmi(), region=region).source == "given"


def test_a_region_without_any_figure_is_an_average_data_centre(tmp_path: Path) -> None:
    assert find(None, dmi_root=tmp_path, platform="linux", region="ovh fr-gravelines").value == 1.58
