"""Many runs as one history: which count, their total by name, host and time, two compared, and bad days of folders."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiocarbon
from aiocarbon import JournalError, UsageError
from aiocarbon._core.groups import By, periods
from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity, Role, ShareOf
from aiocarbon.cli.main import main
from aiocarbon.cli.report_options import _instant
from aiocarbon.journal import compare, load, records
from aiocarbon.journal.parse import BLOCK, LINE_BLOCKS

S = 10**9
MIDNIGHT = 1_790_035_200  # 2026-09-22 00:00 UTC
WATTS = 100
KWH = 3.6e6


def lines(
    begin_s: float,
    length_s: float = 600.0,
    *,
    watts: float = WATTS,
    epochs: int = 2,
    broken: bool = False,
    share: ShareOf | None = None,
    basis: Basis = Basis.COUNTER,
    device_id: str = "GPU-1",
    **header: Any,
) -> Iterator[dict[str, Any]]:
    """A run that began so many seconds after midnight, on a machine that has been up since long before."""
    t0, wall = round((10**6 + begin_s) * S), round((MIDNIGHT + begin_s) * S)
    place = {"zone": "DK", "name": "Denmark", "how": "given", "is_guess": False}
    yield {
        "schema": records.SCHEMA, "run_id": "run", "name": "", "host": "node", "pid": 7, "boot_id": "boot",
        "version": "0", "interval_s": 1.0, "location": place, "pue": {"value": 1.5, "source": "given"},
        "t": t0, "wall_ns": wall, **header,
    }  # fmt: skip
    device = Device(
        id=device_id, kind=DeviceKind.GPU, name="GPU", quantity=Quantity.ENERGY, basis=basis,
        covers=frozenset({Part.GPU}), low_factor=0.95, high_factor=1.05, share=share,
    )  # fmt: skip
    yield records.device_record(0, device, f"s-{begin_s}", 0.0)
    value = IntensityValue(
        g_per_kwh=400.0, low_g_per_kwh=380.0, high_g_per_kwh=420.0, source="x", zone="DK", quality=Quality.LIVE
    )
    yield records.intensity_record(value, -math.inf)
    for mark in range(epochs + 1):
        at_s = length_s * mark / epochs
        state = {"t": t0 + round(at_s * S), "e": [round(at_s * watts * 1e6)], "s": [0]}
        yield {"k": "mark", "m": mark, **state}
        if mark:
            yield {"k": "epoch", "i": mark - 1, "b": mark - 1, "e": mark, "steps": 10, "partial": False}
    if not broken:
        yield {"k": "end", "t": t0 + round(length_s * S), "ended_well": True}


def put(folder: Path, run_id: str, *args: Any, file: str = "a", **header: Any) -> Path:
    path = folder / run_id / f"{file}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(map(records.line, lines(*args, run_id=run_id, **header))))
    return path


def joules(part: Any) -> float:
    return float(part.it_energy_kwh) * KWH


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Four runs: two of one name that overlap by half, one over midnight, one on another host."""
    put(tmp_path, "a1", 0.0, name="bert")
    put(tmp_path, "a2", 300.0, name="bert")
    put(tmp_path, "b", 86_400.0 - 300.0, name="gpt")
    put(tmp_path, "c", 7 * 86_400.0, name="", host="other", boot_id="boot-2")
    return tmp_path


# -- totals --------------------------------------------------------------------------------------------------------


def test_each_joule_counts_once_in_the_total_and_in_each_kind_of_group(history: Path) -> None:
    loaded = load(history, by="day")
    assert [joules(run) for run in loaded.runs] == pytest.approx([60_000] * 4)
    assert joules(loaded.total) == pytest.approx(90_000 + 60_000 + 60_000)
    told = {by: {group.key: joules(group) for group in groups} for by, groups in loaded.groups.items()}
    assert told["name"] == pytest.approx({"bert": 90_000, "gpt": 60_000, "": 60_000})
    assert told["host"] == pytest.approx({"node": 150_000, "other": 60_000})
    assert told["day"] == pytest.approx({"2026-09-22": 120_000, "2026-09-23": 30_000, "2026-09-29": 60_000})
    for groups in loaded.groups.values():
        for field in ("it_energy_kwh", "energy_kwh", "co2eq_g", "it_energy_kwh_low", "co2eq_g_high"):
            assert sum(getattr(group, field) for group in groups) == pytest.approx(getattr(loaded.total, field))
    days = {group.key: (group.runs, group.duration_s) for group in loaded.groups["day"]}
    assert days == {"2026-09-22": (3, 1200.0), "2026-09-23": (1, 300.0), "2026-09-29": (1, 600.0)}


def adds_up(loaded: aiocarbon.Loaded) -> bool:
    """Whether groups of each kind make the total."""
    fields = ("it_energy_kwh", "energy_kwh", "co2eq_g")
    return all(
        sum(getattr(group, field) for group in groups) == pytest.approx(getattr(loaded.total, field))
        for groups in loaded.groups.values()
        for field in fields
    )


def test_what_runs_of_several_names_measured_together_is_split_among_their_groups(tmp_path: Path) -> None:
    put(tmp_path, "a", 0.0, name="long")
    put(tmp_path, "b", 200.0, 200.0, name="short")
    put(tmp_path, "c", 300.0, 300.0, name="long")  # of one name: the third of three runs
    loaded = load(tmp_path)
    told = {group.key: group for group in loaded.groups["name"]}
    # 100 s of short beside one run, 100 s beside two.
    assert {key: joules(group) for key, group in told.items()} == pytest.approx(
        {"long": 60_000 - 25_000 / 3, "short": 25_000 / 3}
    )
    assert (told["short"].duration_s, told["short"].coverage, told["short"].basis) == (200.0, 1.0, "counter")
    assert told["short"].it_energy_kwh_low == pytest.approx(0.95 * told["short"].it_energy_kwh)
    assert adds_up(loaded)


def test_containers_of_one_machine_have_each_a_part_of_what_both_measured(tmp_path: Path) -> None:
    put(tmp_path, "a", 0.0, host="one")
    put(tmp_path, "a", 0.0, host="two", file="b")
    put(tmp_path, "b", 0.0, host="two")
    loaded = load(tmp_path)
    # Of the one run both containers have a part, and one of them that of the other run.
    assert {group.key: joules(group) for group in loaded.groups["host"]} == pytest.approx(
        {"one": 20_000, "two": 40_000}
    )
    assert adds_up(loaded)


def share(holder: str, *within: str) -> ShareOf:
    return ShareOf(scope="process", role=Role.OWN, device="GPU-1", holder=holder, within=within)


def test_what_one_run_measured_and_another_modelled_may_count_twice_but_no_share_of_it_does(tmp_path: Path) -> None:
    put(tmp_path, "m", 0.0)
    put(tmp_path, "p", 0.0, 300.0, watts=30, basis=Basis.MODEL, share=share("p"))
    loaded = load(tmp_path)
    assert joules(loaded.total) == pytest.approx(60_000)
    assert not any("twice" in problem for problem in loaded.problems)
    assert any("it counts once" in problem for problem in loaded.problems)
    put(tmp_path, "x", 0.0, watts=30, basis=Basis.MODEL, device_id="model:gpu")
    told = [problem for problem in load(tmp_path).problems if "twice" in problem]
    assert told == [
        "gpu of node may be counted twice: one process measured it (GPU-1) while another modelled it (model:gpu)"
    ]


def test_a_share_of_what_another_run_measured_is_split_as_well(tmp_path: Path) -> None:
    put(tmp_path, "m", 0.0, name="machine")
    put(tmp_path, "g", 0.0, name="group", watts=60, share=share("g"))
    put(tmp_path, "p", 0.0, 300.0, name="inner", watts=30, share=share("p", "g"))
    put(tmp_path, "o", 300.0, 300.0, name="other", watts=20, share=share("o"))
    loaded = load(tmp_path)
    told = {group.key: joules(group) for group in loaded.groups["name"]}
    # Of 30 W three know, of what the group has beside them two: 300 s so, and 300 s without the inner, with another.
    machine = 300 * (40 + 30 / 2 + 30 / 3) + 300 * (20 + 60 / 2 + 20 / 2)
    group = 300 * (30 / 2 + 30 / 3) + 300 * 60 / 2
    assert told == pytest.approx({"machine": machine, "group": group, "inner": 300 * 30 / 3, "other": 300 * 20 / 2})
    assert adds_up(loaded)


def test_a_share_counts_with_the_intensity_and_pue_of_the_whole_that_it_is_a_part_of(tmp_path: Path) -> None:
    """As the total does: else what the groups have of it would not be the total."""
    whole = put(tmp_path, "m", 0.0, name="machine")
    put(tmp_path, "p", 100.0, 300.0, name="part", watts=30, share=share("p"), pue={"value": 1.2, "source": "given"})
    clean = IntensityValue(
        g_per_kwh=100.0, low_g_per_kwh=90.0, high_g_per_kwh=110.0, source="x", zone="DK", quality=Quality.LIVE
    )
    with whole.open("a") as file:
        file.write(records.line(records.intensity_record(clean, MIDNIGHT + 250.0)))
    loaded = load(tmp_path)
    assert adds_up(loaded)
    told = {group.key: group for group in loaded.groups["name"]}
    assert joules(told["part"]) == pytest.approx(300 * 30 / 2)
    assert told["part"].co2eq_g == pytest.approx(1.5 * (150 * 400 + 150 * 100) * 15 / KWH)


def test_a_share_that_is_more_than_the_whole_adds_nothing_to_it(tmp_path: Path) -> None:
    put(tmp_path, "m", 0.0, name="machine", watts=20)
    put(tmp_path, "p", 100.0, 300.0, name="part", watts=30, share=share("p"))
    loaded = load(tmp_path)
    assert joules(loaded.total) == pytest.approx(20 * 600)
    assert adds_up(loaded)


@pytest.mark.parametrize("watts", [(100, 100), (0, 100)])
def test_what_one_process_counts_and_another_only_shows_adds_up(tmp_path: Path, watts: tuple[int, int]) -> None:
    """A view of a machine that holds nothing else, say, and holds what is counted where more can be read."""
    shown = put(tmp_path, "r", 0.0, watts=watts[0], pid=1, file="a")
    shown.write_text(shown.read_text().replace('"counted":true', '"counted":false'))
    put(tmp_path, "r", 700.0, watts=watts[1], pid=2, file="b")
    (run,) = load(tmp_path).runs
    parts = [*run.epochs, run.outside, *([] if run.rework is None else [run.rework])]
    assert joules(run) == pytest.approx(watts[1] * 600)
    assert sum(map(joules, parts)) == pytest.approx(joules(run))
    assert sum(joules(device) for device in run.devices if device.counted) == pytest.approx(joules(run))
    assert sum(node.it_energy_kwh or 0.0 for node in run.nodes) == pytest.approx(run.it_energy_kwh)


@pytest.mark.parametrize(
    ("by", "keys"),
    [("week", ["2026-W39", "2026-W40"]), ("month", ["2026-09"]), ("host", ["node", "other"])],
)
def test_groups_of_other_kinds(history: Path, by: str, keys: list[str]) -> None:
    loaded = load(history, by=by)
    assert [group.key for group in loaded.groups[by]] == keys
    assert sum(map(joules, loaded.groups[by])) == pytest.approx(210_000)


def test_one_run_has_groups_where_they_are_asked_for(history: Path) -> None:
    assert load(history / "b").groups == {}
    loaded = load(history / "b", by="day")
    assert [(group.key, joules(group)) for group in loaded.groups["day"]] == [
        ("2026-09-22", pytest.approx(30_000)),
        ("2026-09-23", pytest.approx(30_000)),
    ]
    with pytest.raises(UsageError, match="by='year'"):
        load(history, by="year")


@pytest.mark.parametrize(
    ("set_s", "days"),
    [
        (86_400.0, {"2026-09-22": (1, 300.0, 30_000.0), "2026-09-23": (1, 300.0, 30_000.0)}),
        (-86_400.0, {"2026-09-21": (1, 300.0, 30_000.0), "2026-09-22": (1, 300.0, 30_000.0)}),
        (-200.0, {"2026-09-22": (1, 600.0, 60_000.0)}),
    ],
)
def test_a_day_has_the_time_of_its_joules_where_the_clock_was_set(
    tmp_path: Path, set_s: float, days: dict[str, tuple[int, float, float]]
) -> None:
    path = put(tmp_path, "a", 0.0)
    *before, end = path.read_text().splitlines(keepends=True)
    first = json.loads(before[0])
    look = {"t": first["t"] + 300 * S, "wall_ns": first["wall_ns"] + round((300 + set_s) * S)}
    path.write_text("".join((*before, records.line({"k": "wall", **look}), end)))
    loaded = load(tmp_path, by="day")
    told = {group.key: (group.runs, group.duration_s, pytest.approx(joules(group))) for group in loaded.groups["day"]}
    assert told == days
    assert loaded.total.duration_s == 600.0


def test_trackers_of_two_runs_on_one_machine_count_its_joules_once(tmp_path: Path) -> None:
    for n in range(5):
        put(tmp_path, f"run-{n}", 100.0 * n, pid=100 + n)
    loaded = load(tmp_path)
    assert joules(loaded.total) == pytest.approx(WATTS * 1000)
    assert loaded.total.duration_s == pytest.approx(1000)
    assert loaded.total.coverage == pytest.approx(1.0)


@given(st.sampled_from([By.DAY, By.WEEK, By.MONTH]), st.integers(0, 4 * 10**9), st.integers(1, 400 * 86_400))
def test_periods_fill_the_time_and_none_comes_twice(by: By, begin_s: int, length_s: int) -> None:
    begin, end = begin_s * S + 7, (begin_s + length_s) * S
    found = list(periods(by, begin, end))
    assert found[0][1] == begin
    assert found[-1][2] == end
    assert all(a[2] == b[1] for a, b in itertools.pairwise(found))
    keys = [key for key, *_ in found]
    assert keys == sorted(set(keys))
    for _, at, _ in found[1:]:
        first = datetime.fromtimestamp(at // S, UTC)
        assert (first.hour, first.minute, first.second) == (0, 0, 0)
        assert by is By.DAY or (first.weekday() == 0 if by is By.WEEK else first.day == 1)


# -- which runs ----------------------------------------------------------------------------------------------------

DAY = datetime(2026, 9, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wanted", "runs"),
    [
        ({"name": "bert"}, ["a1", "a2"]),
        ({"name": ["gpt", "be*"]}, ["a1", "a2", "b"]),
        ({"name": ""}, ["c"]),
        ({"since": DAY + timedelta(seconds=1)}, ["a2", "b", "c"]),
        ({"until": DAY + timedelta(seconds=300)}, ["a1"]),
        ({"since": DAY, "until": DAY.replace(tzinfo=None) + timedelta(days=1)}, ["a1", "a2", "b"]),
        ({"name": "bert", "since": DAY + timedelta(seconds=1)}, ["a2"]),
    ],
)
def test_runs_are_chosen_by_name_and_begin_as_wholes(history: Path, wanted: dict[str, Any], runs: list[str]) -> None:
    loaded = load(history, **wanted)
    assert [run.run_id for run in loaded.runs] == runs
    assert len(loaded.files) == len(runs)
    assert all(joules(run) == pytest.approx(60_000) for run in loaded.runs)


def test_a_run_of_several_processes_began_with_the_first(tmp_path: Path) -> None:
    put(tmp_path, "run", 0.0, name="bert")
    put(tmp_path, "run", 3600.0, file="b", pid=8, name="bert")
    assert joules(load(tmp_path, until=DAY + timedelta(seconds=1)).runs[0]) == pytest.approx(120_000)
    with pytest.raises(JournalError, match="none of 1 runs"):
        load(tmp_path, since=DAY + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T12:30", datetime(2026, 11, 1, 12, 30, tzinfo=UTC)),
        ("2026-11-01T12:30+02:00", datetime(2026, 11, 1, 10, 30, tzinfo=UTC)),
        ("7d", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2w", datetime(2025, 12, 25, tzinfo=UTC)),
        ("36h", datetime(2026, 1, 6, 12, tzinfo=UTC)),
    ],
)
def test_times_of_the_command_line(text: str, at: datetime) -> None:
    assert _instant("--since", text, lambda: datetime(2026, 1, 8, tzinfo=UTC)) == at


@pytest.mark.parametrize("text", ["x", "", "999999w", "2026-13-01"])
def test_what_is_no_time_is_wrong_usage(history: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(history), "--since", text]) == 2
    assert "is no time" in capsys.readouterr().err


# -- the command line ----------------------------------------------------------------------------------------------


def test_the_report_shows_groups_the_total_and_what_overlapped(
    history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(history)]) == 0
    out, err = capsys.readouterr()
    assert out.count("aiocarbon: ") == 5
    assert "(no name)" in out
    assert "runs overlapped on a machine: 8.33 Wh" in out
    assert "groups by name and host split it evenly among the runs that measured it" in out
    assert err == ""
    assert main(["report", str(history), "--by", "day", "--name", "gpt"]) == 0
    out, _ = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines() if line.strip()] == ["day", "2026-09-22", "2026-09-23"]


def test_of_many_runs_each_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(9):
        put(tmp_path, f"run-{n}", 1000.0 * n, broken=n == 0)
    assert main(["report", str(tmp_path)]) == 0
    out, _ = capsys.readouterr()
    rows = [line for line in out.splitlines() if line.strip().startswith("run-")]
    assert len(rows) == 9
    assert rows[0].endswith("not well")
    assert rows[1].endswith("well")
    assert "overlapped" not in out


def test_without_a_path_it_is_the_default_folder(
    history: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(history)  # the current folder is what is tested
    assert main(["report"]) == 1
    assert "aiocarbon_runs is not there" in capsys.readouterr().err
    put(history / "aiocarbon_runs", "mine", 0.0, name="bert")
    assert main(["report", "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["run_id"] for run in told["runs"]] == ["mine"]
    assert main(["compare", "bert", "b", "--json", "-"]) == 0  # a name there, and a folder here
    assert json.loads(capsys.readouterr().out)["runs"] == [1, 1]
    assert main(["compare", "mine", "nix"]) == 1
    assert "nix is no path, nor the id or name of a run" in capsys.readouterr().err


def test_json_in_pieces_is_what_the_whole_would_be(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(history), "--json", "-", "--by", "week"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {key: told[key] for key in told if key != "statement"} == json.loads(
        json.dumps(load(history, by="week").to_dict())
    )


# -- two compared --------------------------------------------------------------------------------------------------


def test_two_runs_are_compared_with_their_ranges(tmp_path: Path) -> None:
    put(tmp_path, "a", 0.0, watts=100)
    put(tmp_path, "b", 10_000.0, watts=150, epochs=4)
    put(tmp_path, "c", 20_000.0, watts=102)
    a, b, c = (load(tmp_path / name) for name in "abc")
    found = {measure.name: measure for measure in compare(a, b).measures}
    assert found["energy_kwh"].verdict == "more"
    assert found["energy_kwh"].ratio is not None
    assert found["energy_kwh"].ratio.value == pytest.approx(1.5)
    assert found["energy_kwh"].ratio.low == pytest.approx(1.5 * 0.95 / 1.05)
    assert found["duration_s"].verdict == "same"
    assert found["epoch_duration_s"].ratio is not None
    assert found["epoch_duration_s"].ratio.value == pytest.approx(0.5)
    assert found["epoch_energy_kwh"].verdict == "less"
    assert {measure.name: measure.verdict for measure in compare(a, c).measures}["energy_kwh"] == "same"
    assert {measure.name: measure.verdict for measure in compare(b, a).measures}["energy_kwh"] == "less"
    json.dumps(compare(a, b).to_dict(), allow_nan=False)


def test_a_comparison_says_what_makes_it_a_poor_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = {"zone": "DE", "name": "Germany", "how": "given", "is_guess": False}
    put(tmp_path, "a", 0.0, name="old\n<b>")
    put(tmp_path, "b", 10_000.0, epochs=1, broken=True, location=place, pue={"value": 1.1, "source": "given"})
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    out, _ = capsys.readouterr()
    for word in ("b has one complete epoch", "did not end well", "zone differs", "PUE differs", "old <b> (a)"):
        assert word in out
    assert main(["compare", str(tmp_path), str(tmp_path / "b")]) == 0
    assert "2 runs together" in capsys.readouterr().out


def test_a_run_of_nothing_is_compared_without_a_ratio(tmp_path: Path) -> None:
    put(tmp_path, "a", 0.0, watts=0)
    put(tmp_path, "b", 10_000.0)
    found = {measure.name: measure for measure in compare(load(tmp_path / "a"), load(tmp_path / "b")).measures}
    assert found["energy_kwh"].ratio is None
    assert found["energy_kwh"].verdict == "more"


# -- from Python ---------------------------------------------------------------------------------------------------


def test_load_is_the_package_s_own(history: Path) -> None:
    assert aiocarbon.load is load
    assert aiocarbon.load(history / "b").runs[0].epochs_total == 2


@pytest.mark.parametrize(("table", "rows"), [("runs", 4), ("epochs", 8), ("devices", 4), ("name", 3), ("spans", 0)])
def test_tables_of_pandas_have_the_fields_of_the_reports(history: Path, table: str, rows: int) -> None:
    pytest.importorskip("pandas", reason="needs the extra pandas")
    loaded = load(history)
    frame = loaded.to_pandas(table)
    assert len(frame) == rows
    if rows:
        assert frame["it_energy_kwh"].sum() * KWH == pytest.approx(210_000 if table == "name" else 240_000)
        assert set(frame.columns) >= {"coverage", "it_energy_kwh_low", "it_energy_kwh_high"}
    if table == "runs":
        assert list(frame["run_id"]) == ["a1", "a2", "b", "c"]
        assert frame["location_zone"].iloc[0] == "DK"
        assert str(frame["started_at"].dtype).startswith("datetime64")


def test_a_table_that_there_is_not_is_said_with_those_there_are(history: Path) -> None:
    pytest.importorskip("pandas", reason="needs the extra pandas")
    with pytest.raises(UsageError, match="runs, epochs, devices, spans, nodes, attempts, name, host"):
        load(history).to_pandas("days")


# -- bad days ------------------------------------------------------------------------------------------------------


def test_journals_of_an_older_and_a_newer_version_make_one_run(tmp_path: Path) -> None:
    put(tmp_path, "run", 0.0, version="0.0.1")
    newer = {"attempt": "x", "machine": "", "novelty": {"a": [1]}}
    path = put(tmp_path, "run", 1000.0, file="b", pid=8, version="9.1", **newer)
    path.write_text(path.read_text() + '{"k":"novel","t":1}\n')
    loaded = load(tmp_path)
    (run,) = loaded.runs
    assert loaded.problems == ()
    assert joules(run) == pytest.approx(120_000)


def test_a_line_of_hundreds_of_megabytes_is_one_bad_line(tmp_path: Path) -> None:
    path = put(tmp_path, "run", 0.0)
    first, rest = path.read_bytes().split(b"\n", 1)
    with path.open("wb") as file:
        file.write(first + b'\n{"k":"warning","text":"')
        file.seek((LINE_BLOCKS + 3) * BLOCK, os.SEEK_CUR)  # a hole: zeros that take no room
        file.write(b'"}\n' + rest)
    loaded = load(tmp_path)
    assert joules(loaded.runs[0]) == pytest.approx(60_000)
    assert loaded.problems == (f"1 line of {path} could not be read: 2",)


def test_a_file_that_grows_while_it_is_read_counts_up_to_where_it_was(tmp_path: Path) -> None:
    path = put(tmp_path, "run", 0.0, broken=True)
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 40, len(whole) - 300):
        path.write_bytes(whole[:cut])
        (run,) = load(tmp_path).runs
        assert run.epochs_total <= 2
        assert joules(run) == pytest.approx(WATTS * run.duration_s)


UNPRIVILEGED = """
import json, os, sys
from aiocarbon.journal import load
load(sys.argv[1] + "/open")  # so that all is imported
if os.getuid() == 0:
    os.seteuid(65534)  # root may read everything
loaded = load(sys.argv[1])
print(json.dumps([[run.run_id for run in loaded.runs], loaded.problems]))
"""


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="there are no permissions to take away")
def test_a_folder_without_permission_is_named_and_the_others_count() -> None:
    with tempfile.TemporaryDirectory() as place:  # tmp_path is nobody else's
        folder = Path(place)
        folder.chmod(0o755)
        put(folder, "open", 0.0)
        locked = put(folder, "locked", 1000.0)
        file = put(folder, "hidden", 2000.0)
        file.chmod(0)
        locked.parent.chmod(0)
        try:
            command = [sys.executable, "-c", UNPRIVILEGED, place]
            environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
        finally:
            locked.parent.chmod(0o755)
    runs, problems = json.loads(done.stdout)
    assert runs == ["open"]
    assert f"{locked.parent} cannot be searched: Permission denied" in problems
    assert f"{file} cannot be read: Permission denied" in problems
