"""Reading journals back: as they ended, as they broke off, as a bad day left them."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon._core.report import RunReport
from aiocarbon.errors import JournalError
from aiocarbon.journal import load, records
from aiocarbon.journal.parse import _lines
from aiocarbon.journal.records import SCHEMA, sealed
from aiocarbon.meters.base import Inventory
from aiocarbon.meters.simulated import Constant, SimulatedMeter, Square
from aiocarbon.sync import Tracker

S = 10**9
T0 = 1000 * S
WALL0 = 1_790_000_000 * S
KWH = 3.6e6
WATTS = 100


# -- journals made by hand: a device that draws WATTS from T0 on ---------------------------------------------------


def header(**changed: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "schema": SCHEMA,
        "run_id": "run-1",
        "name": "",
        "host": "node-1",
        "pid": 7,
        "boot_id": "boot-1",
        "version": "0",
        "interval_s": 1.0,
        "location": {"zone": "DK", "name": "Denmark", "how": "given", "is_guess": False},
        "pue": {"value": 1.5, "source": "given"},
        "t": T0,
        "wall_ns": WALL0,
    }
    return plain | changed


def device(n: int = 0, ident: str = "GPU-1", segment: str = "s1", basis: Basis = Basis.COUNTER) -> dict[str, Any]:
    kind = Device(
        id=ident,
        kind=DeviceKind.GPU,
        name=ident,
        quantity=Quantity.ENERGY,
        basis=basis,
        covers=frozenset({Part.GPU}),
    )
    return records.device_record(n, kind, segment, 0.0)


def intensity(g_per_kwh: float = 400.0, from_s: float = -math.inf) -> dict[str, Any]:
    value = IntensityValue(
        g_per_kwh=g_per_kwh,
        low_g_per_kwh=g_per_kwh,
        high_g_per_kwh=g_per_kwh,
        source=f"given {g_per_kwh}",
        zone="DK",
        quality=Quality.GIVEN,
    )
    return records.intensity_record(value, from_s)


def state(kind: str, at_s: float, *, watts: float = WATTS, devices: int = 1, **more: Any) -> dict[str, Any]:
    energy = round(at_s * watts * 1e6)
    return {"k": kind, "t": T0 + round(at_s * S), "e": [energy] * devices, "s": [0] * devices, **more}


def a_run(end_s: float = 30.0, *, ended: bool = True, **changed: Any) -> list[dict[str, Any]]:
    """Two epochs, 0..10 and 10..20 s, and what follows them."""
    body = [
        header(**changed),
        device(),
        intensity(),
        state("mark", 0, m=0),
        state("mark", 10, m=1),
        {"k": "epoch", "i": 0, "b": 0, "e": 1, "steps": 4, "partial": False},
        state("mark", 20, m=2),
        {"k": "epoch", "i": 1, "b": 1, "e": 2, "steps": 5, "partial": False},
        {"k": "warning", "t": T0, "text": "be warned"},
    ]
    if ended:
        return [*body, state("mark", end_s, m=3), {"k": "end", "t": T0, "ended_well": True}]
    return body


def put(path: Path, lines: list[dict[str, Any]], *, tail: dict[str, Any] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(records.line(line) for line in lines))
    if tail is not None:
        path.with_suffix(".tail").write_bytes(sealed(tail))
    return path


def joules(run: Any) -> float:
    return float(run.it_energy_kwh) * KWH


# -- a real run ----------------------------------------------------------------------------------------------------


class SlowToOpen(SimulatedMeter):
    """A driver that initialises for longer than entering waits."""

    name = "slow"

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        time.sleep(0.6)
        return super().open(covered)


def differences(live: Any, read: Any, path: str = "", scale: float = 0.0) -> Iterator[str]:
    """Where two reports differ by more than 1e-6 of the quantity; bounds are held to 1e-5 of their central value.

    A device's power before its first reading bounds what it may have drawn then, and is known better at the end.
    """
    if isinstance(live, dict):
        assert live.keys() == read.keys(), path
        for key in live:
            central = live.get(str(key).removesuffix("_low").removesuffix("_high"))
            yield from differences(
                live[key], read[key], f"{path}.{key}", abs(central) if isinstance(central, float) else 0.0
            )
    elif isinstance(live, list):
        assert len(live) == len(read), path
        for n, (a, b) in enumerate(zip(live, read, strict=True)):
            yield from differences(a, b, f"{path}[{n}]")
    elif isinstance(live, float) and isinstance(read, float):
        # What a device that opened late may have drawn before is bounded by its first power, told by other points.
        allowed = 5e-4 if path.endswith(("_low", "_high")) else 1e-6
        if abs(live - read) > allowed * max(abs(live), scale) + rounding(path):
            yield f"{path}: {live} live, {read} read"
    elif live != read:
        yield f"{path}: {live} live, {read} read"


def rounding(path: str) -> float:
    """What energies rounded to microjoules may differ by, in the unit of a field.

    Epochs are 0.08 s or longer; what lies outside is five windows of about a millisecond, each of three devices.
    """
    edges = 15 if path.startswith(".outside") else 1
    if "power_w" in path:
        return 2e-6 * edges / (0.003 if edges > 1 else 0.08)
    return 2e-6 * edges / KWH * (1000 if "co2eq_g" in path else 2)


def comparable(report: RunReport) -> dict[str, Any]:
    plain = report.to_dict()
    del plain["overhead"]["readings"]  # a device may be read once more between the end record and the live report
    del plain["overhead"]["cpu_s"]  # the instrument went on to cost while it wrote the journal's end
    for of in (plain, *plain["epochs"]):
        del of["prediction"]  # made while it went on, and no figure of the journal
    for name in ("ended_at", "as_of", "started_at"):
        plain[name] = getattr(report, name).timestamp()
    return plain


def test_a_real_run_reads_back_as_it_was_reported(tmp_path: Path) -> None:
    meter = SimulatedMeter(wave={"one": Constant(100), "two": Square(0.1, 0.5, 50, 300)})
    late = SlowToOpen(wave=Constant(70), device_id="late")
    with Tracker(meters=[meter, late], journal=tmp_path, location="DK", pue=1.2, interval_s=0.05) as tracker:
        for _ in range(4):
            with tracker.epoch():
                tracker.step(3)
                time.sleep(0.08)  # the work that is measured
    live = tracker.report()
    loaded = load(tmp_path)
    (run,) = loaded.runs
    assert list(differences(comparable(live), comparable(run))) == []
    assert loaded.problems == ()
    assert len(run.epochs) == 4
    assert [device.id for device in run.devices] == ["one", "two", "late"]
    assert list(differences(comparable(live)["it_energy_kwh"], loaded.total.it_energy_kwh)) == []
    assert list(tmp_path.rglob("*.tail")) == []


def test_two_trackers_over_one_time_total_to_its_joules_once(tmp_path: Path) -> None:
    meter = SimulatedMeter(wave=Constant(100))
    outer = Tracker(meters=[meter], journal=tmp_path, intensity=300, pue=1.0, interval_s=0.05, run_id="outer")
    inner = Tracker(meters=[meter], journal=tmp_path, intensity=600, pue=2.0, interval_s=0.05, run_id="inner")
    with outer:
        time.sleep(0.05)
        with inner:
            time.sleep(0.1)
        time.sleep(0.05)
    loaded = load(tmp_path)
    assert [run.run_id for run in loaded.runs] == ["outer", "inner"]
    whole = outer.report()
    assert loaded.total.duration_s == pytest.approx(whole.duration_s, abs=1e-4)
    assert loaded.total.it_energy_kwh == pytest.approx(whole.it_energy_kwh, rel=1e-3)
    assert loaded.total.it_energy_kwh < sum(run.it_energy_kwh for run in loaded.runs)


# -- runs that end and runs that break off -------------------------------------------------------------------------


def test_a_run_by_hand_has_the_figures_it_was_given(tmp_path: Path) -> None:
    (run,) = load(put(tmp_path / "a.jsonl", a_run())).runs
    assert joules(run) == pytest.approx(3000)
    assert run.energy_kwh == pytest.approx(run.it_energy_kwh * 1.5)
    assert run.co2eq_g == pytest.approx(3000 / KWH * 1.5 * 400)
    assert [joules(epoch) for epoch in run.epochs] == pytest.approx([1000, 1000])
    assert [epoch.steps for epoch in run.epochs] == [4, 5]
    assert joules(run.outside) == pytest.approx(1000)
    assert (run.is_final, run.ended_well, run.warnings) == (True, True, ("be warned",))
    assert run.coverage == 1.0


def test_a_journal_that_breaks_off_is_reported_up_to_its_tail(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", a_run(ended=False), tail=state("tick", 25))
    (run,) = load(path).runs
    assert joules(run) == pytest.approx(2500)
    assert (run.is_final, run.ended_well) == (True, False)
    assert len(run.epochs) == 2
    assert joules(run.outside) == pytest.approx(500)
    assert any("did not end by itself" in text and run.ended_at.isoformat()[:19] in text for text in run.warnings)


@pytest.mark.parametrize("tail", [b"", b"00000000 00000010 {}", b"\0" * 100, b"garbage", None])
def test_without_a_usable_tail_the_last_line_is_the_end(tmp_path: Path, tail: bytes | None) -> None:
    path = put(tmp_path / "a.jsonl", a_run(ended=False))
    if tail is not None:
        path.with_suffix(".tail").write_bytes(tail)
    loaded = load(path)
    assert joules(loaded.runs[0]) == pytest.approx(2000)
    assert any("a.tail" in problem for problem in loaded.problems) == (tail is not None)


def test_a_process_that_was_killed_before_it_told_anything_has_lost_nothing(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", a_run(ended=False)[:1])
    path.with_suffix(".tail").write_bytes(b"")
    loaded = load(path)
    assert loaded.problems == ()
    assert joules(loaded.runs[0]) == 0


def test_a_tail_older_than_the_last_line_changes_nothing(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", a_run(ended=False), tail=state("tick", 15))
    assert joules(load(path).runs[0]) == pytest.approx(2000)


@pytest.mark.parametrize("cut", range(1, 400, 37))
def test_a_torn_last_line_is_normal(tmp_path: Path, cut: int) -> None:
    path = put(tmp_path / "a.jsonl", [*a_run(ended=False), state("tick", 25)])
    data = path.read_bytes()
    last = len(records.line(state("tick", 25)))
    path.write_bytes(data[: len(data) - min(cut, last - 1)])
    loaded = load(path)
    assert loaded.problems == ()
    assert joules(loaded.runs[0]) == pytest.approx(2000)


def test_every_prefix_of_a_journal_reads_or_is_refused_with_a_word(tmp_path: Path) -> None:
    data = put(tmp_path / "whole.jsonl", a_run()).read_bytes()
    path = tmp_path / "cut" / "a.jsonl"
    path.parent.mkdir()
    for length in range(0, len(data), 23):
        path.write_bytes(data[:length])
        if length < data.index(b"\n"):
            with pytest.raises(JournalError, match=str(path)):
                load(path)
            continue
        (run,) = load(path).runs
        assert 0 <= joules(run) <= 3000.001
        assert all(map(math.isfinite, (run.coverage, run.co2eq_g, run.duration_s)))


# -- bad lines -----------------------------------------------------------------------------------------------------

BAD_LINES = [
    b"\xff\xfe\x00\x01",
    b"{",
    b"[]",
    b"3",
    b"null",
    b'{"k":"tick"}',
    b'{"k":"tick","t":1.5,"e":[1]}',
    b'{"k":"tick","t":true,"e":[1]}',
    b'{"k":"tick","t":1000000000001,"e":["x"]}',
    b'{"k":"tick","t":1000000000001,"e":[NaN]}',
    b'{"k":"tick","t":1000000000001,"e":[1],"x":{"0":[1]}}',
    b'{"k":"tick","t":1000000000001,"e":[1e400]}',
    b'{"k":"tick","t":1000000000001,"e":[1],"x":{"0":[0,1e400,0]}}',
    b'{"k":"tick","t":1000000000001,"e":[1],"h":{"0":0.5}}',
    b'{"k":"tick","t":1000000000001,"e":[1],"h":[1]}',
    b'{"k":"tick","t":1000000000001,"e":[1],"h":{"0":-1}}',
    b'{"k":"tick","t":1000000000001,"e":[1],"h":{"0":1' + b"0" * 300 + b"}}",
    b'{"k":"tick","t":1000000000001,"e":[1' + b"0" * 300 + b"]}",
    b'{"k":"mark","t":1000000000001,"e":[1],"m":"x"}',
    b'{"k":"wall","t":1' + b"0" * 40 + b',"wall_ns":1}',
    b'{"k":"device","n":-1}',
    b'{"k":"device","n":0,"id":"other"}',
    b'{"k":"epoch","i":0}',
    b'{"k":"intensity","from_s":null,"value":{}}',
    *(
        records.line(intensity() | {"value": intensity()["value"] | {"high_g_per_kwh": g}}).encode()
        for g in (1e308, 1e5)
    ),
    b'{"k":"wall","t":1}',
    b'{"t":1}',
    b"[" * 100_000,
    b'{"k":"tick","t":' + b"9" * 5000 + b',"e":[1]}',
    *(json.dumps(device(1, "GPU-2") | more).encode() for more in ({"lag_s": 1e308}, {"refresh_s": 1e10})),
]


@pytest.mark.parametrize("bad", BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_bad_line_is_skipped_counted_and_told(tmp_path: Path, bad: bytes) -> None:
    path = put(tmp_path / "a.jsonl", a_run())
    whole = load(path).runs[0]
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:4], bad, *lines[4:], bad, b""]))
    loaded = load(path)
    assert loaded.problems == (f"2 lines of {path} could not be read: 5, {len(lines) + 2 + bad.count(10)}",)
    assert loaded.runs[0] == whole


def test_what_is_written_while_reading_is_left_for_the_next_reader() -> None:
    data = b"one\ntwo\nthr"
    assert list(_lines(io.BytesIO(data + b"ee\nfour\n"), len(data))) == [b"one", b"two"]


def test_unknown_kinds_fields_and_blank_lines_are_left_alone(tmp_path: Path) -> None:
    lines = a_run()
    lines[3]["news"] = [1, 2]
    path = put(tmp_path / "a.jsonl", [*lines[:5], {"k": "span", "t": 1}, *lines[5:]])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\n\n", 3))
    loaded = load(path)
    assert loaded.problems == ()
    assert joules(loaded.runs[0]) == pytest.approx(3000)


def test_records_written_twice_or_late_change_nothing(tmp_path: Path) -> None:
    lines = a_run()
    whole = load(put(tmp_path / "a.jsonl", lines)).runs[0]
    twice = [lines[0], *(line for line in lines[1:-1] for _ in range(2)), lines[-1]]
    late = [*lines[:3], lines[6], lines[4], lines[3], lines[5], *lines[7:]]
    assert load(put(tmp_path / "b.jsonl", twice)).runs[0] == whole
    assert load(put(tmp_path / "c.jsonl", late)).runs[0] == whole


def test_the_later_record_of_a_mark_replaces_the_earlier(tmp_path: Path) -> None:
    guess = state("mark", 10, m=1) | {"e": [700_000_000]}
    lines = a_run()
    (run,) = load(put(tmp_path / "a.jsonl", [*lines[:4], guess, *lines[4:]])).runs
    assert [joules(epoch) for epoch in run.epochs] == pytest.approx([1000, 1000])


def test_an_epoch_whose_mark_is_lost_is_told_and_its_energy_is_outside(tmp_path: Path) -> None:
    lines = a_run()
    del lines[4]
    loaded = load(put(tmp_path / "a.jsonl", lines))
    assert any("lost their marks" in problem for problem in loaded.problems)
    (run,) = loaded.runs
    assert joules(run) == pytest.approx(3000)
    assert joules(run.outside) + sum(joules(epoch) for epoch in run.epochs) == pytest.approx(3000)


# -- files that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\x7fELF\x00\x01" * 100, "is no journal"),
        (b"epoch,energy\n1,2\n", "is no journal"),
        (b"[1]\n", "is no journal"),
        (b'{"schema": "aiocarbon.report/1"}\n', "its schema is 'aiocarbon.report/1'"),
        (b'{"schema": "aiocarbon.journal/9"}\n', "install a newer aiocarbon"),
        (b'{"schema": "aiocarbon.journal/1"}\n', "first line lacks"),
        (records.line(header(t=10**40)).encode(), "first line lacks"),
        (records.line(header(pue={"value": 0.5})).encode(), "first line lacks"),
        *(
            (records.line(header(attempt="A", **{field: "?"})).replace('"?"', "1e400").encode(), "first line lacks")
            for field in ("rank", "world", "restart", "expected_tasks", "wall_ns", "pid")
        ),
        (b'{"schema": 1}\n', "its schema is 1"),
        (b"x" * (3 << 20), "is no journal"),
    ],
)
def test_a_foreign_file_is_told_and_the_others_count(tmp_path: Path, content: bytes, word: str) -> None:
    foreign = tmp_path / "runs" / "foreign.jsonl"
    put(tmp_path / "runs" / "a.jsonl", a_run())
    foreign.write_bytes(content)
    loaded = load(tmp_path)
    assert [run.run_id for run in loaded.runs] == ["run-1"]
    (problem,) = loaded.problems
    assert str(foreign) in problem
    assert word in problem
    with pytest.raises(JournalError, match=word) as caught:
        load(foreign)
    assert SCHEMA in str(caught.value)


def test_paths_that_hold_nothing_are_each_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(JournalError) as caught:
        load(tmp_path / "empty", str(tmp_path / "nowhere"))
    assert "empty holds no *.jsonl" in str(caught.value)
    assert "nowhere is not there" in str(caught.value)
    with pytest.raises(JournalError, match="no path"):
        load()


def test_a_file_given_twice_and_a_copy_of_it_count_once(tmp_path: Path) -> None:
    path = put(tmp_path / "a" / "a.jsonl", a_run())
    copy = tmp_path / "b" / "a.jsonl"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    (tmp_path / "b" / "earlier.jsonl").write_bytes(path.read_bytes()[:1500])
    loaded = load(path, tmp_path, path)
    assert [joules(run) for run in loaded.runs] == pytest.approx([3000])
    assert joules(loaded.total) == pytest.approx(3000)
    assert sum("counted once" in problem for problem in loaded.problems) == 3
    assert loaded.runs[0].ended_well


# -- several processes and runs ------------------------------------------------------------------------------------


def test_processes_of_two_nodes_are_one_run_with_each_device(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", a_run())
    put(tmp_path / "b.jsonl", a_run(host="node-2", boot_id="boot-2", pid=8))
    loaded = load(tmp_path)
    (run,) = loaded.runs
    assert joules(run) == pytest.approx(6000)
    assert joules(loaded.total) == pytest.approx(6000)
    assert [(d.host, joules(d)) for d in run.devices] == [
        ("node-1", pytest.approx(3000)),
        ("node-2", pytest.approx(3000)),
    ]
    assert [joules(epoch) for epoch in run.epochs] == pytest.approx([2000, 2000])
    assert joules(run.outside) == pytest.approx(2000)
    assert run.duration_s == pytest.approx(30)
    assert run.co2eq_g == pytest.approx(6000 / KWH * 1.5 * 400)


def test_processes_of_one_node_count_its_device_once(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", a_run())
    lines = a_run(pid=8)
    lines[1] = device(segment="s2")
    put(tmp_path / "b.jsonl", lines)
    loaded = load(tmp_path)
    (run,) = loaded.runs
    assert joules(run) == pytest.approx(3000)
    assert joules(loaded.total) == pytest.approx(3000)
    assert joules(run.outside) + sum(joules(e) for e in run.epochs) == pytest.approx(joules(run))


def test_runs_that_overlap_total_to_the_joules_of_their_union(tmp_path: Path) -> None:
    first = put(tmp_path / "a.jsonl", a_run())
    shifted = a_run(run_id="run-2", pid=8, pue={"value": 3.0, "source": "given"})
    shifted[1] = device(segment="s2")
    shifted = [line | {"t": line["t"] + 10 * S} if "e" in line and "t" in line else line for line in shifted]
    second = put(tmp_path / "b.jsonl", shifted)
    forward, backward = load(first, second), load(second, first)
    assert forward == backward
    assert joules(forward.total) == pytest.approx(4000)
    assert forward.total.energy_kwh * KWH == pytest.approx(3000 * 1.5 + 1000 * 3.0)
    assert forward.total.co2eq_g == pytest.approx((3000 * 1.5 + 1000 * 3.0) / KWH * 400)
    assert forward.total.duration_s == pytest.approx(40)


def test_what_two_processes_may_have_counted_twice_is_said(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", a_run())
    other = a_run(pid=8, host="container-1")
    other[1] = device(ident="model", segment="s2", basis=Basis.MODEL)
    put(tmp_path / "b.jsonl", other)
    problems = load(tmp_path).problems
    assert any("GPU-1" in text and "model" in text and "gpu" in text for text in problems)
    assert any("node-1" in text and "container-1" in text and "one machine" in text for text in problems)


def test_a_reboot_between_two_attempts_adds_their_joules(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", a_run())
    put(tmp_path / "b.jsonl", a_run(boot_id="boot-2", wall_ns=WALL0 + 3600 * S))
    loaded = load(tmp_path)
    (run,) = loaded.runs
    assert joules(run) == pytest.approx(6000)
    assert run.duration_s == pytest.approx(60)
    assert [joules(d) for d in run.devices] == pytest.approx([6000])


def test_the_total_of_one_run_is_the_run(tmp_path: Path) -> None:
    loaded = load(put(tmp_path / "a.jsonl", a_run()))
    names = [f.name for f in dataclasses.fields(loaded.total)]
    assert all(getattr(loaded.total, name) == getattr(loaded.runs[0], name) for name in names)
    plain = loaded.to_dict()
    assert set(plain) == {"schema", "runs", "total", "groups", "problems"}
    json.dumps(plain, allow_nan=False)


# -- carbon --------------------------------------------------------------------------------------------------------


def test_each_joule_is_weighed_with_the_intensity_of_its_time(tmp_path: Path) -> None:
    lines = a_run()
    step = intensity(100.0, from_s=WALL0 / S + 10)
    (run,) = load(put(tmp_path / "a.jsonl", [*lines[:3], step, *lines[3:]])).runs
    assert run.co2eq_g == pytest.approx((1000 * 400 + 2000 * 100) / KWH * 1.5)
    assert [epoch.co2eq_g for epoch in run.epochs] == pytest.approx([v / KWH * 1.5 for v in (400e3, 100e3)])


def test_a_journal_without_intensity_says_what_was_taken(tmp_path: Path) -> None:
    lines = a_run()
    del lines[2]
    (run,) = load(put(tmp_path / "a.jsonl", lines)).runs
    assert any("no carbon intensity" in text for text in run.warnings)
    assert run.co2eq_g > 0
