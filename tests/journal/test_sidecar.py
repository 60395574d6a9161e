"""What was learnt of a run's intensity afterwards: the file beside its journal, the laws of its union, the overlay."""

from __future__ import annotations

import itertools
import json
import math
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon.errors import JournalError
from aiocarbon.journal import load, records
from aiocarbon.journal.records import SCHEMA
from aiocarbon.journal.refresh import Learnt, Stretch, overlaid, read_sidecar, sidecar_of, union, write_sidecar

S = 10**9
T0 = 1000 * S
WALL0_S = 1_790_000_000
WATTS = 100.0
KWH = 3.6e6
IDENT = f"run-1/node-1/boot-1/7/{T0}"
SURE = ("given", "live", "estimated", "forecast", "cached", "average")


def value(g_per_kwh: float, quality: Quality = Quality.LIVE, **more: Any) -> IntensityValue:
    plain = {"low_g_per_kwh": g_per_kwh, "high_g_per_kwh": g_per_kwh, "source": "src", "zone": "GB", **more}
    return IntensityValue(g_per_kwh=g_per_kwh, quality=quality, **plain)


def learnt(
    from_s: float, to_s: float, g: float, quality: Quality = Quality.LIVE, asked_s: float = 1.0, **more: Any
) -> Stretch:
    return Stretch(from_s, to_s, value(g, quality, **more), asked_s)


def a_journal(
    folder: Path,
    *steps: tuple[float, IntensityValue],
    seconds: int = 100,
    ended: bool = True,
    told: dict[str, float] | None = None,
) -> Path:
    """A device that draws WATTS, with a point each second; steps are seconds of the run, -inf for ever."""
    device = Device(
        id="GPU-1", kind=DeviceKind.GPU, name="", quantity=Quantity.ENERGY, basis=Basis.COUNTER,
        covers=frozenset({Part.GPU}),
    )  # fmt: skip
    lines: list[dict[str, Any]] = [
        {
            "schema": SCHEMA, "run_id": "run-1", "name": "", "host": "node-1", "pid": 7, "boot_id": "boot-1",
            "version": "0", "interval_s": 1.0, "pue": {"value": 1.0, "source": "given"}, "t": T0,
            "location": {"zone": "GB", "name": "GB", "how": "given", "is_guess": False}, "wall_ns": WALL0_S * S,
        },
        records.device_record(0, device, "s1", 0.0),
        *(records.intensity_record(one, at if at == -math.inf else WALL0_S + at) for at, one in steps),
        {"k": "mark", "t": T0, "m": 0, "e": [0], "s": [0]},
    ]  # fmt: skip
    lines += [{"k": "tick", "t": T0 + n * S, "e": [round(n * WATTS * 1e6)], "s": [0]} for n in range(1, seconds)]
    lines.append({"k": "mark", "t": T0 + seconds * S, "m": 1, "e": [round(seconds * WATTS * 1e6)], "s": [0]})
    lines += [{"k": "end", "t": T0 + seconds * S, "ended_well": True, "report": told}] if ended else []
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "node-1-7-0.jsonl"
    path.write_text("".join(map(records.line, lines)))
    return path


def grams(*parts: tuple[float, float]) -> float:
    """CO2eq of seconds at g/kWh."""
    return math.fsum(WATTS * seconds * g / KWH for seconds, g in parts)


AVERAGE = (-math.inf, value(300.0, Quality.AVERAGE))


# -- laying over ---------------------------------------------------------------------------------------------------

times = st.integers(0, 12).map(float)
values = st.builds(
    value,
    st.integers(0, 3).map(float),
    st.sampled_from(list(Quality)),
    source=st.sampled_from(["a", "b"]),
    valid_from_s=st.sampled_from([None, 1.0]),
)
stretches = st.builds(
    lambda at, length, one, asked: Stretch(at, at + length, one, asked),
    times,
    st.integers(1, 5).map(float),
    values,
    st.integers(0, 3).map(float),
)
several = st.lists(stretches, max_size=6)


def said(parts: Learnt, at: float) -> tuple[IntensityValue, float] | None:
    holding = [(one.value, one.asked_s) for one in parts if one.from_s <= at < one.to_s]
    assert len(holding) <= 1
    return holding[0] if holding else None


@given(several, several, several)
def test_union_does_not_depend_on_order_grouping_or_repetition(
    a: list[Stretch], b: list[Stretch], c: list[Stretch]
) -> None:
    whole = union(a, b, c)
    assert whole == union(c, a, b) == union(union(a, b), c) == union(a, union(b, c)) == union(whole, whole, b)
    assert all(one.from_s < one.to_s for one in whole)
    assert all(first.to_s <= second.from_s for first, second in itertools.pairwise(whole))


@given(several, several)
def test_union_knows_of_each_instant_the_surest_and_of_two_as_sure_the_newer(
    a: list[Stretch], b: list[Stretch]
) -> None:
    whole = union(a, b)
    for half in range(40):
        at = half / 2.0
        holding = [one for one in (*a, *b) if one.from_s <= at < one.to_s]
        found = said(whole, at)
        if not holding:
            assert found is None
            continue
        assert found is not None
        surest = min(SURE.index(one.value.quality) for one in holding)
        assert SURE.index(found[0].quality) == surest
        assert found[1] == max(one.asked_s for one in holding if SURE.index(one.value.quality) == surest)
        assert found[0] in [one.value for one in holding]


@given(st.lists(st.tuples(times, values), min_size=1, max_size=6, unique_by=lambda step: step[0]), several)
def test_overlay_is_at_each_instant_what_was_learnt_where_that_is_surer(
    steps: list[tuple[float, IntensityValue]], parts: list[Stretch]
) -> None:
    steps.sort(key=lambda step: step[0])
    over = union(parts)
    found = overlaid(steps, over)
    assert [at for at, _ in found] == sorted({at for at, _ in found})
    for half in range(-2, 40):
        at = half / 2.0
        journal = next((one for begin, one in reversed(steps) if begin <= at), steps[0][1])
        later = said(over, at)
        expected = journal
        if later is not None and (
            SURE.index(later[0].quality) < SURE.index(journal.quality)
            or later[0].quality == journal.quality == Quality.ESTIMATED
        ):
            expected = later[0]
        assert next((one for begin, one in reversed(found) if begin <= at), found[0][1]) == expected


# -- figures -------------------------------------------------------------------------------------------------------


def test_figures_follow_what_was_learnt_and_tell_what_they_were(tmp_path: Path) -> None:
    path = a_journal(tmp_path, AVERAGE)
    (run,) = load(path).runs
    assert run.co2eq_g == pytest.approx(grams((100, 300)), rel=1e-9)
    assert run.co2eq_g_before is None
    write_sidecar(path, IDENT, (learnt(WALL0_S + 10.0, WALL0_S + 30.0, 50.0), learnt(WALL0_S + 60.0, 2e9, 900.0)))
    loaded = load(path)
    assert loaded.problems == ()
    expected = grams((10, 300), (20, 50), (30, 300), (40, 900))
    assert loaded.runs[0].co2eq_g == pytest.approx(expected, rel=1e-9)
    assert loaded.runs[0].co2eq_g_before == pytest.approx(grams((100, 300)), rel=1e-9)
    assert loaded.total.co2eq_g == pytest.approx(expected, rel=1e-9)


def test_figure_before_is_that_before_anything_was_mended_at_the_run_s_end(tmp_path: Path) -> None:
    live = (50.0, value(100.0))
    now_g = grams((50, 300), (50, 100))
    path = a_journal(tmp_path, AVERAGE, live, told={"co2eq_g": now_g, "co2eq_g_before": grams((100, 300))})
    assert load(path).runs[0].co2eq_g_before == pytest.approx(grams((100, 300)), rel=1e-9)
    write_sidecar(path, IDENT, (learnt(WALL0_S - 1.0, WALL0_S + 50.0, 200.0),))
    (run,) = load(path).runs
    assert run.co2eq_g == pytest.approx(grams((50, 200), (50, 100)), rel=1e-9)
    assert run.co2eq_g_before == pytest.approx(grams((100, 300)), rel=1e-9)


def test_what_the_user_gave_and_what_was_live_stays_whatever_lies_beside_it(tmp_path: Path) -> None:
    path = a_journal(
        tmp_path, (-math.inf, value(300.0, Quality.GIVEN)), (40.0, value(200.0)), (70.0, value(100.0, Quality.CACHED))
    )
    write_sidecar(path, IDENT, (learnt(WALL0_S - 9.0, WALL0_S + 999.0, 900.0),))
    (run,) = load(path).runs
    assert run.co2eq_g == pytest.approx(grams((40, 300), (30, 200), (30, 900)), rel=1e-9)


def test_copies_of_a_journal_know_what_any_of_them_knows(tmp_path: Path) -> None:
    one, two = (a_journal(tmp_path / name, AVERAGE) for name in ("one", "two"))
    write_sidecar(one, IDENT, (learnt(WALL0_S + 0.0, WALL0_S + 50.0, 50.0, Quality.ESTIMATED, asked_s=9.0),))
    write_sidecar(two, IDENT, (learnt(WALL0_S + 20.0, WALL0_S + 80.0, 900.0),))
    for paths in ((one, two), (two, one), (tmp_path,)):
        (run,) = load(*paths).runs
        assert run.co2eq_g == pytest.approx(grams((20, 50), (60, 900), (20, 300)), rel=1e-9)


def test_run_that_goes_on_is_refreshed_as_far_as_it_is_written(tmp_path: Path) -> None:
    path = a_journal(tmp_path, AVERAGE, ended=False)
    write_sidecar(path, IDENT, (learnt(WALL0_S + 90.0, WALL0_S + 999.0, 0.0),))
    (run,) = load(path).runs
    assert run.co2eq_g == pytest.approx(grams((90, 300)), rel=1e-9)


# -- the file ------------------------------------------------------------------------------------------------------


@given(several)
def test_what_is_written_is_read(parts: list[Stretch]) -> None:
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is one for all examples
        path = Path(folder) / "a.jsonl"
        path.write_text("")
        assert write_sidecar(path, "i", tuple(parts)) == read_sidecar(path, "i") == union(parts)
        assert os.listdir(folder).count("a.intensity") == 1
        assert len(os.listdir(folder)) == 2


def test_writing_again_adds_to_what_is_there(tmp_path: Path) -> None:
    path = a_journal(tmp_path, AVERAGE)
    first, second = learnt(1.0, 2.0, 5.0), learnt(2.0, 3.0, 6.0)
    write_sidecar(path, IDENT, (second,))
    assert write_sidecar(path, IDENT, (first,)) == (first, second) == read_sidecar(path, IDENT)
    before = sidecar_of(path).read_bytes()
    write_sidecar(path, IDENT, (first,))
    assert sidecar_of(path).read_bytes() == before
    assert stat.S_IMODE(sidecar_of(path).stat().st_mode) == stat.S_IMODE(path.stat().st_mode)


def broken(path: Path) -> dict[str, bytes]:
    """Files that nobody can use, by what is wrong with them."""
    whole = sidecar_of(path).read_bytes()
    first, *lines = whole.splitlines(keepends=True)
    header = json.loads(first)

    def with_header(**changed: Any) -> bytes:
        return b"".join([json.dumps(header | changed).encode() + b"\n", *lines])

    def with_line(**changed: Any) -> bytes:
        return b"".join([first, json.dumps(json.loads(lines[0]) | changed).encode() + b"\n", *lines[1:]])

    def with_value(**changed: Any) -> bytes:
        return with_line(value=json.loads(lines[0])["value"] | changed)

    return {
        "empty": b"",
        "a line short": first + lines[0],
        "torn in a line": whole[:-9],
        "torn at a line's end": whole[:-1],
        "no JSON": b"\0" * 100,
        "no UTF-8": b"\xff" + whole,
        "a list": b"[1]\n",
        "deep": b"[" * 100_000 + b"\n",
        "a line twice": whole + lines[-1],
        "not in order": b"".join([first, *reversed(lines)]),
        "foreign": with_header(ident="another"),
        "future": with_header(schema="aiocarbon.journal.intensity/2"),
        "number as text": with_value(g_per_kwh="5"),
        "true": with_value(g_per_kwh=True),
        "infinite": whole.replace(b'"g_per_kwh":5.0', b'"g_per_kwh":1e400'),
        "not a number": whole.replace(b'"g_per_kwh":5.0', b'"g_per_kwh":NaN'),
        "negative": with_value(g_per_kwh=-1.0, low_g_per_kwh=-1.0),
        "absurd": with_value(g_per_kwh=9e9, high_g_per_kwh=9e9),
        "unknown quality": with_value(quality="guessed"),
        "source no text": with_value(source=["a"]),
        "ends before it begins": with_line(void_to_s=-5.0),
        "since ever": with_line(from_s=None),
        "no end": with_line(void_to_s=None),
        "never asked": with_line(asked_s=None),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        "empty", "a line short", "torn in a line", "torn at a line's end", "no JSON", "no UTF-8", "a list", "deep",
        "a line twice", "not in order", "foreign", "future", "number as text", "true", "infinite", "not a number",
        "negative", "absurd", "unknown quality", "source no text", "ends before it begins", "since ever", "no end",
        "never asked",
    ],
)  # fmt: skip
def test_file_that_cannot_be_used_is_left_out_told_and_never_overwritten(tmp_path: Path, wrong: str) -> None:
    path = a_journal(tmp_path, AVERAGE)
    parts = (learnt(WALL0_S + 0.0, WALL0_S + 10.0, 5.0), learnt(WALL0_S + 10.0, WALL0_S + 20.0, 6.0))
    write_sidecar(path, IDENT, parts)
    content = broken(path)[wrong]
    sidecar_of(path).write_bytes(content)
    loaded = load(path)
    (problem,) = loaded.problems
    assert str(sidecar_of(path)) in problem
    assert "left out" in problem
    assert loaded.runs[0].co2eq_g == pytest.approx(grams((100, 300)), rel=1e-9)
    with pytest.raises(JournalError, match="left out"):
        write_sidecar(path, IDENT, parts)
    assert sidecar_of(path).read_bytes() == content


def test_list_of_broken_files_is_whole(tmp_path: Path) -> None:
    path = a_journal(tmp_path, AVERAGE)
    write_sidecar(path, IDENT, (learnt(0.0, 1.0, 5.0), learnt(1.0, 2.0, 6.0)))
    whole = sidecar_of(path).read_bytes()
    assert all(content != whole for content in broken(path).values())
    assert len(broken(path)) == 24


def test_what_cannot_be_written_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # The name of the file fits, that of the temporary one does not: for the superuser no folder is read-only.
    path = tmp_path / f"{'x' * 240}.jsonl"
    path.write_text("")
    with pytest.raises(JournalError, match="cannot be written: File name too long"):
        write_sidecar(path, IDENT, (learnt(0.0, 1.0, 5.0),))
    folder = tmp_path / "a.jsonl"
    folder.write_text("")
    sidecar_of(folder).mkdir()
    with pytest.raises(JournalError, match="cannot be read"):
        write_sidecar(folder, IDENT, (learnt(0.0, 1.0, 5.0),))
    full = tmp_path / "b.jsonl"
    full.write_text("")
    with pytest.raises(JournalError, match="cannot be written"):
        write_sidecar(full, IDENT, (learnt(0.0, 1.0, 5.0, source="\ud800"),))  # no text that a file can hold
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, "a.jsonl", "a.intensity", "b.jsonl"])


def test_journal_with_the_name_of_such_a_file_has_none(tmp_path: Path) -> None:
    path = a_journal(tmp_path, AVERAGE).rename(tmp_path / "x.intensity")
    assert load(path).problems == ()
    with pytest.raises(JournalError, match="has the name"):
        write_sidecar(path, IDENT, (learnt(0.0, 1.0, 5.0),))


def test_such_a_file_is_no_journal(tmp_path: Path) -> None:
    path = a_journal(tmp_path, AVERAGE)
    write_sidecar(path, IDENT, (learnt(0.0, 1.0, 5.0),))
    with pytest.raises(JournalError, match="is no journal"):
        load(sidecar_of(path))
    assert len(load(tmp_path).runs) == 1
