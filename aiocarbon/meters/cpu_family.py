"""Which family a CPU belongs to, from what the kernel says of it. Pure: text in, a `CpuFamily` out.

Two witnesses are heard. The vendor's family, model and stepping numbers first, because a hypervisor that hides the
name ("AMD EPYC") passes them on; then the brand string, whose numbering scheme names the generation. Only families
for which public wall-power measurements exist have a name here; every other CPU is `CpuFamily.UNKNOWN`.

Sources: Intel model numbers from Linux arch/x86/include/asm/intel-family.h; AMD's from
https://en.wikichip.org/wiki/amd/cpuid (2025); Xeon Scalable's second digit and EPYC's last digit are the generation by
the vendors' numbering guides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["CpuFamily", "CpuIdentity", "family_from_cpuinfo", "identify", "parse_cpuinfo"]


class CpuFamily(StrEnum):
    """A generation of server CPUs with wall-power measurements of its own; the key of `data/cpu_power.csv`."""

    SANDY_BRIDGE = "sandy-bridge"
    IVY_BRIDGE = "ivy-bridge"
    HASWELL = "haswell"
    BROADWELL = "broadwell"
    SKYLAKE_SP = "skylake-sp"
    CASCADE_LAKE = "cascade-lake"
    COFFEE_LAKE = "coffee-lake"
    ICE_LAKE = "ice-lake"
    SAPPHIRE_RAPIDS = "sapphire-rapids"
    EMERALD_RAPIDS = "emerald-rapids"
    GRANITE_RAPIDS = "granite-rapids"
    EPYC_1 = "epyc-1"
    EPYC_2 = "epyc-2"
    EPYC_3 = "epyc-3"
    EPYC_4 = "epyc-4"
    EPYC_4C = "epyc-4c"
    EPYC_5 = "epyc-5"
    EPYC_5C = "epyc-5c"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuIdentity:
    """What the kernel says of a CPU.

    Attributes:
        vendor: CPUID vendor, "GenuineIntel" or "AuthenticAMD"; empty where there is none (ARM).
        brand: The brand string; empty if hidden.
        family: CPUID family, extended part added (6, 23, 25, ...); None if not told.
        model: CPUID model, extended part added; None if not told.
        stepping: CPUID stepping; None if not told.
        is_virtual: True where the CPU says that a hypervisor runs it.
    """

    vendor: str = ""
    brand: str = ""
    family: int | None = None
    model: int | None = None
    stepping: int | None = None
    is_virtual: bool = False


_INTEL_SERVER_MODELS: Final = {
    45: CpuFamily.SANDY_BRIDGE,
    62: CpuFamily.IVY_BRIDGE,
    63: CpuFamily.HASWELL,
    79: CpuFamily.BROADWELL,
    86: CpuFamily.BROADWELL,
    106: CpuFamily.ICE_LAKE,
    108: CpuFamily.ICE_LAKE,
    143: CpuFamily.SAPPHIRE_RAPIDS,
    207: CpuFamily.EMERALD_RAPIDS,
    173: CpuFamily.GRANITE_RAPIDS,
    174: CpuFamily.GRANITE_RAPIDS,
}
"""CPUID models of family 6 that only servers and workstations have."""

_SKYLAKE_SERVER_MODEL: Final = 85
"""Skylake-SP, Cascade Lake and Cooper Lake share one model number; the stepping tells them apart."""

_EPYC_MODELS: Final = (
    (23, range(0x00, 0x10), CpuFamily.EPYC_1),
    (23, range(0x30, 0x40), CpuFamily.EPYC_2),
    (25, range(0x00, 0x10), CpuFamily.EPYC_3),
    (25, range(0x10, 0x20), CpuFamily.EPYC_4),
    (25, range(0xA0, 0xB0), CpuFamily.EPYC_4C),
    (26, range(0x00, 0x10), CpuFamily.EPYC_5),
    (26, range(0x10, 0x20), CpuFamily.EPYC_5C),
)
"""(CPUID family, models, CPU family); Ryzen and Threadripper share some numbers, so the brand must say EPYC.
The dense parts (Bergamo and Siena, Turin Dense) draw two thirds of the others per thread: families of their own."""

_SCALABLE: Final = r"xeon.*?\b(?:(?:platinum|gold|silver|bronze) [3-9]|[89])([1-9])\d{2}(?!\d)([a-z]*)"
_SCALABLE_GENERATIONS: Final = {
    "1": CpuFamily.SKYLAKE_SP,
    "2": CpuFamily.CASCADE_LAKE,
    "3": CpuFamily.ICE_LAKE,
    "4": CpuFamily.SAPPHIRE_RAPIDS,
    "5": CpuFamily.EMERALD_RAPIDS,
}
_XEON_6: Final = r"xeon(?: 6)? 6[5-9]\d{2}p(?!\w)"
"""Xeon 6 with performance cores, 6500P to 6900P; 6300P is a desktop chip, the E's are Sierra Forest."""
_XEON_E5_E7: Final = r"\be([57])-\d{4}\w*?(?: ?v([2-4]))?\b"
_XEON_E5_E7_GENERATIONS: Final = {
    "": CpuFamily.SANDY_BRIDGE,
    "2": CpuFamily.IVY_BRIDGE,
    "3": CpuFamily.HASWELL,
    "4": CpuFamily.BROADWELL,
}
_XEON_E_21: Final = r"\be-2[12]\d{2}\w*"
_EPYC_NUMBER: Final = r"epyc ([789])[0-9a-z]{2}([1-5])"
_EPYC_GENERATIONS: Final = {
    ("7", "1"): CpuFamily.EPYC_1,
    ("7", "2"): CpuFamily.EPYC_2,
    ("7", "3"): CpuFamily.EPYC_3,
    ("8", "4"): CpuFamily.EPYC_4C,
    ("9", "4"): CpuFamily.EPYC_4,
    ("9", "5"): CpuFamily.EPYC_5,
}
_EPYC_DENSE: Final = {
    "9734": CpuFamily.EPYC_4C,
    "9754": CpuFamily.EPYC_4C,
    "9645": CpuFamily.EPYC_5C,
    "9745": CpuFamily.EPYC_5C,
    "9825": CpuFamily.EPYC_5C,
    "9845": CpuFamily.EPYC_5C,
    "9965": CpuFamily.EPYC_5C,
}
"""Parts with dense cores that their last digit does not tell (AMD's EPYC 9004 and 9005 data sheets)."""
_VIRTUAL_NAMES: Final = (
    ("cascadelake", CpuFamily.CASCADE_LAKE),
    ("icelake", CpuFamily.ICE_LAKE),
    ("sapphirerapids", CpuFamily.SAPPHIRE_RAPIDS),
    ("graniterapids", CpuFamily.GRANITE_RAPIDS),
    ("epyc-rome", CpuFamily.EPYC_2),
    ("epyc-milan", CpuFamily.EPYC_3),
    ("epyc-genoa", CpuFamily.EPYC_4),
    ("epyc-turin", CpuFamily.EPYC_5),
    ("xeon processor (skylake", CpuFamily.SKYLAKE_SP),
    ("xeon e312xx (sandy bridge", CpuFamily.SANDY_BRIDGE),
    ("(ivy bridge", CpuFamily.IVY_BRIDGE),
    ("core processor (haswell", CpuFamily.HASWELL),
    ("core processor (broadwell", CpuFamily.BROADWELL),
)
"""Brand strings of QEMU's CPU models (qemu target/i386/cpu.c, `model_id`), in lower case."""


def parse_cpuinfo(text: str) -> CpuIdentity:
    """The first processor of a `/proc/cpuinfo`, or of Windows' `PROCESSOR_IDENTIFIER`.

    Args:
        text: The file's text, or "Intel64 Family 6 Model 85 Stepping 7, GenuineIntel".

    Returns:
        What it says; fields that it does not say are None or empty. Never raises: the text is the machine's.
    """
    windows = re.search(r"Family (\d+) Model (\d+) Stepping (\d+)(?:, (\w+))?", text)
    if windows:
        family, model, stepping = (int(windows[i]) for i in (1, 2, 3))
        return CpuIdentity(vendor=windows[4] or "", family=family, model=model, stepping=stepping)
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    return CpuIdentity(
        vendor=fields.get("vendor_id", ""),
        brand=fields.get("model name", ""),
        family=_integer(fields.get("cpu family")),
        model=_integer(fields.get("model")),
        stepping=_integer(fields.get("stepping")),
        is_virtual="hypervisor" in fields.get("flags", "").split(),
    )


def family_from_cpuinfo(text: str) -> CpuFamily:
    """The family of the CPU that a `/proc/cpuinfo` describes; `CpuFamily.UNKNOWN` if none of ours."""
    return identify(parse_cpuinfo(text))


def identify(cpu: CpuIdentity) -> CpuFamily:
    """The family of a CPU; `CpuFamily.UNKNOWN` where neither its numbers nor its name tell one of ours."""
    brand = _normal(cpu.brand)
    if _is_client(brand):
        return CpuFamily.UNKNOWN
    by_number = _by_number(cpu, brand)
    return by_number if by_number is not CpuFamily.UNKNOWN else _by_brand(brand)


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _normal(brand: str) -> str:
    """Lower case without trade marks: "intel xeon platinum 8480+"."""
    bare = re.sub(r"\((?:r|tm)\)|[®™]", " ", brand.lower())
    return " ".join(bare.split())


def _is_client(brand: str) -> bool:
    """Desktop and laptop chips share model numbers with servers and draw otherwise (QEMU's "core processor" apart)."""
    return bool(re.search(r"ryzen|athlon|threadripper|core (?!processor)\S*(?:i\d|m\d|ultra|2)|pentium|celeron", brand))


def _by_number(cpu: CpuIdentity, brand: str) -> CpuFamily:
    if cpu.family is None or cpu.model is None:
        return CpuFamily.UNKNOWN
    if cpu.vendor == "AuthenticAMD" and "epyc" in brand and not re.search(r"epyc 4\d", brand):
        for family, models, name in _EPYC_MODELS:
            if cpu.family == family and cpu.model in models:
                return name
    if cpu.vendor == "GenuineIntel" and cpu.family == 6:
        if cpu.model == _SKYLAKE_SERVER_MODEL:
            return _skylake_server(cpu.stepping)
        return _INTEL_SERVER_MODELS.get(cpu.model, CpuFamily.UNKNOWN)
    return CpuFamily.UNKNOWN


def _skylake_server(stepping: int | None) -> CpuFamily:
    """Steppings 0 to 4 are Skylake-SP, 5 to 7 Cascade Lake (intel-family.h and Intel's specification updates)."""
    if stepping is None or stepping > 7:
        return CpuFamily.UNKNOWN
    return CpuFamily.SKYLAKE_SP if stepping <= 4 else CpuFamily.CASCADE_LAKE


def _by_brand(brand: str) -> CpuFamily:
    for part, family in _VIRTUAL_NAMES:
        if part in brand:
            return family
    if epyc := re.search(_EPYC_NUMBER, brand):
        number = epyc[0].removeprefix("epyc ")
        return _EPYC_DENSE.get(number) or _EPYC_GENERATIONS.get((epyc[1], epyc[2]), CpuFamily.UNKNOWN)
    if e5 := re.search(_XEON_E5_E7, brand):
        if e5[1] == "7" and not e5[2]:  # E7-xxxx without a version is Westmere
            return CpuFamily.UNKNOWN
        return _XEON_E5_E7_GENERATIONS[e5[2] or ""]
    if re.search(_XEON_E_21, brand):
        return CpuFamily.COFFEE_LAKE
    if re.search(_XEON_6, brand):
        return CpuFamily.GRANITE_RAPIDS
    if scalable := re.search(_SCALABLE, brand):
        return _scalable(scalable[1], scalable[2])
    return CpuFamily.UNKNOWN


def _scalable(generation: str, suffix: str) -> CpuFamily:
    if suffix in ("e", "p"):  # Xeon 6, told above where it is one of ours
        return CpuFamily.UNKNOWN
    if generation == "3" and suffix.startswith("h"):  # 8380H and 8380HL are Cooper Lake, not Ice Lake
        return CpuFamily.UNKNOWN
    return _SCALABLE_GENERATIONS.get(generation, CpuFamily.UNKNOWN)
