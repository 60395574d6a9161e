"""Which family a CPU belongs to, by real brand strings and CPUID numbers; unknown where nobody can tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon.data import rows
from aiocarbon.meters.cpu_family import CpuFamily, CpuIdentity, family_from_cpuinfo, identify, parse_cpuinfo


def cpuinfo(vendor: str, family: int, model: int, stepping: int, brand: str, flags: str = "fpu vme sse2") -> str:
    one = (
        f"vendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {brand}\n"
        f"stepping\t: {stepping}\nflags\t\t: {flags}\n"
    )
    return "\n".join(f"processor\t: {i}\n{one}" for i in range(2))


@pytest.mark.parametrize(
    "brand",
    [
        "",
        "AMD EPYC",
        "AMD EPYC Processor",
        "Common KVM processor",
        "QEMU Virtual CPU version 2.5+",
        "Intel(R) Xeon(R) CPU @ 2.20GHz",
        "Intel(R) Xeon(R) Processor @ 2.50GHz",
        "Apple M2 Max",
        "11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz",
        "Intel(R) Core(TM) i9-7980XE CPU @ 2.60GHz",
        "Intel(R) Core(TM) Ultra 7 255H",
        "AMD Ryzen 9 7950X 16-Core Processor",
        "AMD Ryzen Threadripper PRO 5995WX 64-Cores",
        "AMD EPYC 4465P 12-Core Processor",
        "AMD EPYC 3251 8-Core Processor",
        "AMD Opteron(tm) Processor 6276",
        "Intel(R) Xeon(R) CPU           X5670  @ 2.93GHz",
        "Intel(R) Xeon(R) CPU E7- 4870  @ 2.40GHz",
        "Intel(R) Xeon(R) CPU E7-4870 @ 2.40GHz",
        "Intel(R) Xeon(R) CPU            5160  @ 3.00GHz",
        "Intel(R) Xeon Phi(TM) CPU 7250 @ 1.40GHz",
        "Intel(R) Xeon(R) Platinum 8380H CPU @ 2.90GHz",
        "Intel(R) Xeon(R) 6780E",
        "Intel(R) Xeon(R) 6369P",
        "Neoverse-V2",
    ],
)
def test_a_name_that_tells_no_measured_family_is_unknown(brand: str) -> None:
    assert identify(CpuIdentity(brand=brand)) is CpuFamily.UNKNOWN


@pytest.mark.parametrize(
    ("brand", "family"),
    [
        ("Intel(R) Xeon(R) CPU E5-2670 0 @ 2.60GHz", CpuFamily.SANDY_BRIDGE),
        ("Intel(R) Xeon(R) CPU E5-2690 v2 @ 3.00GHz", CpuFamily.IVY_BRIDGE),
        ("Intel(R) Xeon(R) CPU E5-2680 v3 @ 2.50GHz", CpuFamily.HASWELL),
        ("Intel(R) Xeon(R) CPU E5-2699A v4 @ 2.40GHz", CpuFamily.BROADWELL),
        ("Intel(R) Xeon(R) CPU E7-8890 v4 @ 2.20GHz", CpuFamily.BROADWELL),
        ("Intel(R) Xeon(R) Platinum 8180 CPU @ 2.50GHz", CpuFamily.SKYLAKE_SP),
        ("Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz", CpuFamily.SKYLAKE_SP),
        ("Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz", CpuFamily.CASCADE_LAKE),
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", CpuFamily.CASCADE_LAKE),
        ("Intel(R) Xeon(R) Silver 4210 CPU @ 2.20GHz", CpuFamily.CASCADE_LAKE),
        ("Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", CpuFamily.ICE_LAKE),
        ("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz", CpuFamily.ICE_LAKE),
        ("Intel(R) Xeon(R) Platinum 8480+", CpuFamily.SAPPHIRE_RAPIDS),
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", CpuFamily.SAPPHIRE_RAPIDS),
        ("Intel(R) Xeon(R) Platinum 8490H", CpuFamily.SAPPHIRE_RAPIDS),
        ("INTEL(R) XEON(R) PLATINUM 8558", CpuFamily.EMERALD_RAPIDS),
        ("Intel(R) Xeon(R) 6787P", CpuFamily.GRANITE_RAPIDS),
        ("Intel(R) Xeon(R) 6982P-C", CpuFamily.GRANITE_RAPIDS),
        ("Intel(R) Xeon(R) E-2288G CPU @ 3.70GHz", CpuFamily.COFFEE_LAKE),
        ("AMD EPYC 7551P 32-Core Processor", CpuFamily.EPYC_1),
        ("AMD EPYC 7742 64-Core Processor", CpuFamily.EPYC_2),
        ("AMD EPYC 7R32", CpuFamily.EPYC_2),
        ("AMD EPYC 7B12", CpuFamily.EPYC_2),
        ("AMD EPYC 7763 64-Core Processor", CpuFamily.EPYC_3),
        ("AMD EPYC 7V73X 64-Core Processor", CpuFamily.EPYC_3),
        ("AMD EPYC 75F3 32-Core Processor", CpuFamily.EPYC_3),
        ("AMD EPYC 9654 96-Core Processor", CpuFamily.EPYC_4),
        ("AMD EPYC 9R14", CpuFamily.EPYC_4),
        ("AMD EPYC 9754 128-Core Processor", CpuFamily.EPYC_4C),
        ("AMD EPYC 8534P 64-Core Processor", CpuFamily.EPYC_4C),
        ("AMD EPYC 9755 128-Core Processor", CpuFamily.EPYC_5),
        ("AMD EPYC 9965 192-Core Processor", CpuFamily.EPYC_5C),
        ("Intel Xeon Processor (Skylake, IBRS)", CpuFamily.SKYLAKE_SP),
        ("Intel Xeon Processor (Cascadelake)", CpuFamily.CASCADE_LAKE),
        ("Intel Xeon Processor (Icelake)", CpuFamily.ICE_LAKE),
        ("Intel Xeon Processor (SapphireRapids)", CpuFamily.SAPPHIRE_RAPIDS),
        ("Intel Core Processor (Haswell, no TSX)", CpuFamily.HASWELL),
        ("AMD EPYC-Rome Processor", CpuFamily.EPYC_2),
        ("AMD EPYC-Milan Processor", CpuFamily.EPYC_3),
    ],
)
def test_a_brand_string_tells_the_family(brand: str, family: CpuFamily) -> None:
    assert identify(CpuIdentity(brand=brand)) is family


@pytest.mark.parametrize(
    ("vendor", "numbers", "brand", "family"),
    [
        ("AuthenticAMD", (25, 17, 1), "AMD EPYC", CpuFamily.EPYC_4),
        ("AuthenticAMD", (23, 1, 2), "AMD EPYC Processor", CpuFamily.EPYC_1),
        ("AuthenticAMD", (23, 49, 0), "AMD EPYC", CpuFamily.EPYC_2),
        ("AuthenticAMD", (25, 1, 1), "AMD EPYC", CpuFamily.EPYC_3),
        ("AuthenticAMD", (25, 160, 2), "AMD EPYC", CpuFamily.EPYC_4C),
        ("AuthenticAMD", (26, 2, 1), "AMD EPYC", CpuFamily.EPYC_5),
        ("AuthenticAMD", (26, 17, 0), "AMD EPYC", CpuFamily.EPYC_5C),
        ("GenuineIntel", (6, 85, 4), "Intel(R) Xeon(R) CPU @ 2.00GHz", CpuFamily.SKYLAKE_SP),
        ("GenuineIntel", (6, 85, 7), "Intel(R) Xeon(R) CPU @ 2.80GHz", CpuFamily.CASCADE_LAKE),
        ("GenuineIntel", (6, 85, 11), "Intel(R) Xeon(R) CPU @ 2.80GHz", CpuFamily.UNKNOWN),
        ("GenuineIntel", (6, 106, 6), "Intel(R) Xeon(R) CPU @ 2.60GHz", CpuFamily.ICE_LAKE),
        ("GenuineIntel", (6, 143, 8), "", CpuFamily.SAPPHIRE_RAPIDS),
        ("GenuineIntel", (6, 207, 2), "", CpuFamily.EMERALD_RAPIDS),
        ("GenuineIntel", (6, 173, 1), "", CpuFamily.GRANITE_RAPIDS),
        ("GenuineIntel", (6, 63, 2), "Intel(R) Xeon(R) CPU @ 2.30GHz", CpuFamily.HASWELL),
        ("GenuineIntel", (6, 79, 1), "Intel(R) Xeon(R) CPU @ 2.20GHz", CpuFamily.BROADWELL),
        # a client chip shares the server's numbers
        ("AuthenticAMD", (23, 1, 1), "AMD Ryzen 7 1700 Eight-Core Processor", CpuFamily.UNKNOWN),
        ("AuthenticAMD", (23, 49, 0), "AMD Ryzen Threadripper 3990X 64-Core Processor", CpuFamily.UNKNOWN),
        ("AuthenticAMD", (25, 97, 2), "AMD EPYC 4344P 8-Core Processor", CpuFamily.UNKNOWN),
        ("GenuineIntel", (6, 85, 4), "Intel(R) Core(TM) i9-7980XE CPU @ 2.60GHz", CpuFamily.UNKNOWN),
        # the numbers are heard before a name that a hypervisor made up
        ("GenuineIntel", (6, 143, 8), "Intel Xeon Processor (Skylake, IBRS)", CpuFamily.SAPPHIRE_RAPIDS),
    ],
)
def test_the_numbers_tell_the_family_where_the_name_is_hidden(
    vendor: str, numbers: tuple[int, int, int], brand: str, family: CpuFamily
) -> None:
    assert family_from_cpuinfo(cpuinfo(vendor, *numbers, brand)) is family


def test_a_hypervisor_is_seen() -> None:
    text = cpuinfo("AuthenticAMD", 25, 17, 1, "AMD EPYC", flags="fpu hypervisor lahf_lm")
    assert parse_cpuinfo(text) == CpuIdentity(
        vendor="AuthenticAMD", brand="AMD EPYC", family=25, model=17, stepping=1, is_virtual=True
    )


def test_windows_words_are_read() -> None:
    text = "Intel64 Family 6 Model 85 Stepping 7, GenuineIntel"
    assert family_from_cpuinfo(text) is CpuFamily.CASCADE_LAKE


@pytest.mark.parametrize(
    "text", ["", "\x00\xff", "processor : 0\nBogoMIPS : 50\nCPU implementer : 0x41\n", "model : 9x\n"]
)
def test_a_cpuinfo_without_what_we_know_is_unknown(text: str) -> None:
    assert family_from_cpuinfo(text) is CpuFamily.UNKNOWN


@given(st.text())
def test_no_text_is_refused(text: str) -> None:
    assert isinstance(family_from_cpuinfo(text), CpuFamily)
    assert isinstance(identify(CpuIdentity(brand=text)), CpuFamily)


def test_every_family_has_its_row_and_every_row_its_family() -> None:
    table = rows("cpu_power")
    assert {row["family"] for row in table} == set(CpuFamily)
    for row in table:
        assert 0 < float(row["idle_w_per_thread"]) < float(row["full_w_per_thread"]) < 20
        assert int(row["servers"]) >= 4
