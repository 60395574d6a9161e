"""Those that are compared: what is missing is told, what is near the network is refused, errors are errors."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest

from benchmarks import accuracy_peers, contenders, plots, startup_peers, table, training
from benchmarks.__main__ import GROUPS, NAMES, main
from benchmarks.accuracy_peers import SCENES, Outcome, Scene, judge, rows_of
from benchmarks.contenders import ALL, ASYNC, PEERS, TRACKERS, made, python, why_not
from benchmarks.pairs import Stop
from benchmarks.progress import Bar, progress, workers
from benchmarks.result import ChildError, Result, Row, at_most
from benchmarks.workloads.steps import STEPS

S = 1_000_000_000
ROOT = Path(__file__).resolve().parents[1]
STILL = "gpu one\nwave 0 const 100\n"


def told(code: str, *arguments: str) -> object:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_the_network_ends_at_this_machine() -> None:
    code = """
import json, socket
from benchmarks.contenders.offline import cut
cut()
heard = []
for address in (("192.0.2.1", 80), ("127.0.0.1", 9)):
    with socket.socket() as s:
        s.settimeout(5)
        try:
            s.connect(address)
        except OSError as error:
            heard.append(error.errno)
try:
    socket.getaddrinfo("example.org", 80)
except socket.gaierror as error:
    heard.append("unknown")
heard.append(len(socket.getaddrinfo("localhost", 80)) > 0)
a, b = socket.socketpair()
a.send(b"x")
heard.append(b.recv(1).decode())
print(json.dumps(heard))
"""
    import errno

    assert told(code) == [errno.ENETUNREACH, errno.ECONNREFUSED, "unknown", True, "x"]


def test_the_interpreter_is_the_one_that_is_named() -> None:
    assert python({contenders.PYTHON_VARIABLE: "/opt/other/python"}) == "/opt/other/python"
    assert python({contenders.PYTHON_VARIABLE: ""}) == sys.executable


def test_who_is_not_installed_is_told_and_stays_in_the_table() -> None:
    for entry in ALL:
        why = why_not(entry)
        assert not why or "aiocarbon[bench]" in why or entry.is_ours
    absent = {entry.name: "not installed" for entry in PEERS}
    found = {entry.name: {} if entry in PEERS else {"enter_ms": [50.0, 52.0]} for entry in TRACKERS}
    rows = startup_peers.rows_of("enter_ms", found, absent, failed={}, is_judged=True)
    assert [row.metric.rpartition(": ")[2] for row in rows] == [entry.name for entry in startup_peers.CONTENDERS]
    assert [row.note for row in rows if row.value is None] == ["not installed"] * len(PEERS)
    assert rows[0].ok is None  # nobody to be compared with is no success


def test_aiocarbon_is_held_against_the_cheapest_that_does_the_same_work() -> None:
    def verdict(ours: float, *others: float) -> bool | None:
        found = {entry.name: {"cpu_s": [1.0]} for entry in TRACKERS}
        found[ASYNC.name] = {"cpu_s": [ours]}
        found |= {entry.name: {"cpu_s": [cost]} for entry, cost in zip(PEERS, others, strict=True)}
        return startup_peers.rows_of("cpu_s", found, {}, failed={}, is_judged=True)[0].ok

    assert verdict(0.1, 0.2, 0.3, 0.01)  # the last one reads nothing between marks
    assert verdict(0.25, 0.2, 0.3, 0.01) is False


def test_rounds_that_fail_are_told_and_aiocarbon_passes_none_by_them() -> None:
    found = {entry.name: {"enter_ms": [50.0, 52.0]} for entry in TRACKERS} | {ASYNC.name: {"enter_ms": [1.0]}}
    why = {ASYNC.name: "failed: it died", PEERS[0].name: "failed: it too"}
    rows = startup_peers.rows_of("enter_ms", found, why, failed={ASYNC.name: 9, PEERS[0].name: 1}, is_judged=True)
    assert rows[0].ok is False
    assert "9 more failed: it died" in rows[0].note
    assert any("1 more failed: it too" in row.note and row.ok is None for row in rows)
    none = startup_peers.rows_of("enter_ms", {**found, ASYNC.name: {}}, why, failed={ASYNC.name: 10}, is_judged=True)
    assert (none[0].value, none[0].ok) == (None, False)


def test_an_import_that_fails_is_a_failure_of_its_contender() -> None:
    with pytest.raises(ChildError, match="no_such_tool"):
        startup_peers._took_ms("import no_such_tool", {"PATH": "/usr/bin"})


def test_the_interpreter_that_an_import_is_held_against_is_bare() -> None:
    loaded = told(startup_peers.cut_off("import json, sys; print(json.dumps(sorted(sys.modules)))"))
    assert isinstance(loaded, list)
    assert not {"benchmarks", "asyncio", "dataclasses", "importlib.metadata", "subprocess"} & set(loaded)


def heard(**said: object) -> dict[str, object]:
    given = {"duration_s": 4.0, "energy_j": 400.0, "epochs_j": [], "tasks_j": {}} | said
    return {
        "begin_ns": 1 * S,
        "end_ns": 5 * S,
        "joins": False,
        "marks": [(2 * S, 2 * S + S // 2), (4 * S, 4 * S + 1)],
        "tasks": {"a": (1 * S, 3 * S), "b": (2 * S, 5 * S)},
        "said": given,
    }


def percent(scene: Scene, lost_ns: int | None = None, **said: object) -> float:
    return judge(scene, 0, heard(**said), lost_ns).percent


def test_a_run_is_as_long_as_the_contender_says() -> None:
    scene = Scene(name="x", text=STILL)
    assert percent(scene) == pytest.approx(0.0)
    assert percent(scene, duration_s=2.0, energy_j=200.0) == pytest.approx(0.0)
    assert percent(scene, energy_j=300.0) == pytest.approx(-25.0)
    assert percent(scene, energy_j=None) == math.inf


def test_epochs_lie_between_the_contenders_own_calls() -> None:
    scene = Scene(name="x", text=STILL, what="epochs")
    assert percent(scene, epochs_j=[100.0, 150.0]) == pytest.approx(0.0)  # half a second lies between them
    assert percent(scene, epochs_j=[110.0, 150.0]) == pytest.approx(5.0)  # of two the mean
    assert percent(scene, epochs_j=[90.0, 165.0]) == pytest.approx(10.0)  # without signs
    assert percent(scene, epochs_j=[100.0]) == math.inf
    assert percent(scene, epochs_j=[100.0, None]) == math.inf


def test_tasks_are_each_judged_or_their_sum() -> None:
    assert percent(Scene(name="x", text=STILL, what="tasks"), tasks_j={"a": 200.0, "b": 300.0}) == pytest.approx(0.0)
    assert percent(Scene(name="x", text=STILL, what="tasks"), tasks_j={"a": 200.0}) == math.inf
    shares = Scene(name="x", text=STILL, what="shares")
    assert percent(shares, tasks_j={"a": 150.0, "b": 250.0}) == pytest.approx(0.0)
    assert percent(shares, tasks_j={"a": 200.0, "b": 300.0}) == pytest.approx(25.0)  # counted twice
    assert percent(shares, tasks_j={"a": 200.0, "b": None}) == pytest.approx(-50.0)


def test_what_a_lost_device_drew_counts_until_it_was_lost() -> None:
    scene = Scene(name="x", text=STILL + STILL, lost_s=1.0)
    assert percent(scene, 3 * S, energy_j=600.0) == pytest.approx(0.0)


def test_a_contender_that_fails_is_no_measure_for_the_others() -> None:
    scene = SCENES[0]
    found = {entry.name: [Outcome(percent=math.inf, story="it raised")] for entry in PEERS}
    ours = [Outcome(percent=0.2, story="1 of 1 J")]
    alone = rows_of(scene, {**found, ASYNC.name: ours})
    assert alone[0].ok is None
    assert [row.value for row in alone[1:]] == [None] * len(PEERS)
    assert [row.note for row in alone[1:]] == ["it raised"] * len(PEERS)
    good = [Outcome(percent=-0.15, story="1 of 1 J")]
    assert rows_of(scene, {**found, PEERS[0].name: good, ASYNC.name: ours})[0].ok is False
    broken = rows_of(scene, {ASYNC.name: [Outcome(percent=math.inf, story="died")], PEERS[0].name: good})
    assert broken[0].ok is False


def test_a_shorter_scene_is_the_same_scene() -> None:
    for scene in SCENES:
        short = scene.shortened(0.4)
        assert (short.name, short.text, short.what, short.blocked) == (
            scene.name,
            scene.text,
            scene.what,
            scene.blocked,
        )
        assert sum(short.epochs) < sum(scene.epochs)
        assert all(index < len(short.epochs) for index in short.blocked)


def test_a_powercap_tree_is_laid_out_as_the_kernels(tmp_path: Path) -> None:
    (counter,) = made.powercap(tmp_path / "tree")
    assert (tmp_path / "tree" / "intel-rapl:0" / "energy_uj").samefile(counter)
    assert (tmp_path / "tree" / "intel-rapl" / "subsystem" / "intel-rapl:0" / "name").read_text() == "package-0\n"


def test_a_counter_wraps_where_it_is_asked_to_and_no_more_often_than_the_rarest_reader_reads(tmp_path: Path) -> None:
    (counter,) = made.powercap(tmp_path / "tree")
    # 100 W from a begin long ago; whoever looks between sees it 50 J past its wrap, or as much more as it took to look.
    begun_ns = time.monotonic_ns()
    with made.moved([counter], STILL, begun_ns - 20 * S, zero_s=19.5):
        while counter.read_text() == "0\n":
            pass
        value_uj = int(counter.read_text())
        most_uj = (time.monotonic_ns() - begun_ns) / 1e9 * 100e6 + 50e6
    assert 49e6 < value_uj <= most_uj
    for scene in SCENES:
        watts = accuracy_peers.truth.parse(scene.text).gpus[0].trace.energy_j(1300.0) / 1300.0
        assert scene.meters != "cpu" or (watts * 15e6 < made.RANGE_UJ and scene.wraps_s is not None)


def test_what_moves_the_counters_ends_with_who_began_it(tmp_path: Path) -> None:
    (counter,) = made.powercap(tmp_path / "tree")
    others = "1"  # a process that is not its parent
    command = [sys.executable, "-c", made.MOVER, STILL, others, "0", str(made.RANGE_UJ), "0.0", str(counter)]
    assert subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode == 0


def test_what_is_no_number_or_of_no_time_is_no_figure() -> None:
    scene = Scene(name="x", text=STILL)
    assert percent(scene, energy_j=math.nan) == math.inf
    assert percent(scene, duration_s=0.0, energy_j=0.0) == math.inf


def test_a_few_rounds_that_fail_are_not_hidden_by_the_median() -> None:
    rounds = [Outcome(percent=0.01, story="")] * 9 + [Outcome(percent=math.inf, story="died")]
    found = {PEERS[0].name: [Outcome(percent=5.0, story="")], ASYNC.name: rounds}
    assert rows_of(SCENES[0], found)[0].ok is False
    assert "died" in rows_of(SCENES[0], found)[0].note


def blocks(*cpu_s: tuple[float, float]) -> list[tuple[dict[str, float | None], dict[str, float | None]]]:
    def block(of: float) -> dict[str, float | None]:
        return {"cpu_s": of, "wall_s": of, "switches": 1.0, "instructions": None}

    return [(block(off), block(on)) for off, on in cpu_s]


def verdicts(*cpu_s: tuple[float, float], is_judged: bool = True) -> dict[str, bool | None]:
    rows = training.rows_of(training.CASES[0], Stop(), blocks(*cpu_s), "none", is_judged=is_judged)
    return {row.metric.rpartition(": ")[2]: row.ok for row in rows}


def test_training_passes_where_no_slowdown_is_told_and_the_interval_is_narrow() -> None:
    slow, width = "slowdown that can be told from none", "half-width of the interval"
    even = verdicts(*[(1.0, 1.0)] * 20)
    assert even[slow]
    assert even[width]
    slower = verdicts(*[(1.0, 1.02)] * 20)
    assert slower[slow] is False
    wide = verdicts(*[(1.0, 0.9), (1.0, 1.1)] * 10)
    assert wide[slow]
    assert wide[width] is False  # it passes nothing by being vague
    assert slow not in verdicts((1.0, 1.0), is_judged=False)


def test_every_case_names_a_step_and_a_contender_that_exist() -> None:
    for case in training.CASES:
        assert case.step in STEPS
        assert case.contender in (*contenders.BY_NAME, training.CLI)
    assert len({case.name for case in training.CASES}) == len(training.CASES)


def test_one_benchmark_that_fails_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: object) -> list[Row]:
        raise OSError("no such thing")

    # `all` imports what it runs by name: a module that fails has to stand there.
    broken = types.SimpleNamespace(QUESTION="q?", run=fails)
    works = types.SimpleNamespace(QUESTION="q?", run=lambda **_: [Row("figure", 1.0, "ms")])
    monkeypatch.setitem(sys.modules, "benchmarks.scale", broken)
    monkeypatch.setitem(sys.modules, "benchmarks.memory", works)
    for name in ("cluster", "records"):
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", works)
    assert main(["scale", "--quick"]) == 1
    text = capsys.readouterr().out
    assert "failed: OSError: no such thing" in text
    assert text.count("figure") == 3


def test_groups_hold_benchmarks_that_exist() -> None:
    for names in GROUPS.values():
        assert set(names) <= set(NAMES)


def test_a_result_keeps_single_values_only_where_there_are_some() -> None:
    rows = [Row("a", 1.0, "ms", data=(1.0, 2.0)), Row("b", 1.0, "ms")]
    kept = json.loads(Result(name="n", question="q?", command="c", quick=True, rows=rows).to_json())["rows"]
    assert [row.get("data") for row in kept] == [[1.0, 2.0], None]


def test_a_result_is_json_that_any_reader_takes() -> None:
    rows = [at_most("a", math.inf, "%", 1.0, "one pair"), at_most("b", math.nan, "%", 1.0)]
    text = Result(name="n", question="q?", command="c", quick=True, rows=rows).to_json()
    assert "Infinity" not in text
    assert "NaN" not in text
    assert [(row["value"], row["ok"], row["note"]) for row in json.loads(text)["rows"]] == [
        (None, False, "inf; one pair"),
        (None, False, "nan"),
    ]


def test_what_is_interrupted_begins_nothing_more() -> None:
    begun: list[int] = []
    is_on, may_end = threading.Event(), threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        is_on.set()
        may_end.wait()

    def interrupted() -> None:
        with workers(1) as pool:
            waiting = [pool.submit(work, number) for number in range(3)]
            is_on.wait()
            waiting[-1].add_done_callback(lambda _: may_end.set())  # as soon as it is given up
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert begun == [0]


def test_no_bar_is_drawn_where_nobody_looks(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log, progress(log) as bar:
        bar.show("x", 1, 2)
        assert bar.watched("x", 2, tmp_path / "none", lambda: 5) == 5
    assert (tmp_path / "log").read_text() == ""


def test_a_bar_shows_the_bytes_that_the_work_writes(tmp_path: Path) -> None:
    file, shown = tmp_path / "steps", []
    bar = Bar(lambda what, done, total: shown.append((what, done, total)))

    def work() -> str:
        file.write_text("...")
        while not shown:
            pass
        return "done"

    assert bar.watched("x", 9, file, work) == "done"
    assert ("x", 3, 9) in shown


def test_plots_are_drawn_of_what_there_is(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra bench")
    rows = [Row(f"numpy, {who}: CPU time of a step", 1.0, "%", data=(1.0, 2.0, 3.0)) for who in ("zeus", "aiocarbon")]
    lines = plots.draw([Result(name="training", question="q?", command="c", quick=True, rows=rows)], tmp_path)
    assert Path(lines[0]).exists()
    assert "no case" in lines[1]


def test_scenes_differ_in_name_and_are_understood() -> None:
    assert len({scene.name for scene in SCENES}) == len(SCENES)
    assert all(accuracy_peers.truth.parse(scene.text).gpus for scene in SCENES)


def test_the_main_table_shows_what_is_kept_and_a_dash_for_the_rest() -> None:
    machine = {"cpu": "a CPU", "cores": 2}
    rows = [
        {"metric": "eight GPUs: aiocarbon async", "value": 0.0512, "unit": "%", "ok": True, "note": ""},
        {"metric": "eight GPUs: carbontracker", "value": 87.5, "unit": "%", "ok": None, "note": ""},
        {"metric": "eight GPUs: zeus", "value": None, "unit": "%", "ok": None, "note": "raised LostError"},
        {"metric": "eight GPUs: codecarbon", "value": None, "unit": "%", "ok": None, "note": "not installed: pip"},
    ]
    kept = {"rows": rows, "machine": machine, "versions": {"zeus": "1.2"}, "commit": "abc", "quick": True}
    text = table.table({"accuracy_peers": kept})
    (line,) = [line for line in text.splitlines() if "eight GPUs" in line]
    assert [cell.strip() for cell in line.split("|")[2:6]] == ["0.0512 %", "87.5 %", "-", "fails"]
    assert "zeus 1.2" in text
    assert "no result" in text
    assert all(line.count("|") == text.splitlines()[0].count("|") for line in text.splitlines() if line.startswith("|"))


def test_a_cost_that_misses_its_limit_is_shown_also_where_it_would_not_be() -> None:
    def lines(ok: bool) -> list[str]:
        row = {"metric": "enter: aiocarbon async", "value": 172.0, "unit": "ms", "ok": ok, "note": ""}
        kept = {"rows": [row], "machine": {"cpu": "", "cores": 2}, "versions": {}, "commit": "abc", "quick": False}
        return [line for line in table.table({"startup_peers": kept}).splitlines() if line.startswith("| enter |")]

    assert lines(True) == []
    assert len(lines(False)) == 1
    assert "172 ms (**missed**)" in lines(False)[0]


def test_a_change_is_shown_with_its_interval_and_missed_if_it_is_told_from_none_or_was_not_narrow() -> None:
    def row(metric: str, value: float, *, ok: bool | None = None, note: str = "") -> dict[str, Any]:
        return {"metric": metric, "value": value, "unit": "%", "ok": ok, "note": note}

    change = "CPU time of a step"
    rows = [
        row(f"numpy, aiocarbon async: {change}", 0.2, note="95 % interval -0.1 to +0.5 (±0.3), half of the 10 pairs"),
        row("numpy, aiocarbon async: half-width of the interval", 0.3, ok=True),
        row(f"cnn, aiocarbon async: {change}", 0.2, note="95 % interval -1.1 to +1.5 (±1.3), half of the 300 pairs"),
        row("cnn, aiocarbon async: half-width of the interval", 1.3, ok=False),
    ]
    kept = {"rows": rows, "machine": {"cpu": "", "cores": 2}, "versions": {}, "commit": "abc", "quick": False}
    lines = table.table({"training": kept}).splitlines()
    cells = [line.split("|")[2].strip() for line in lines if change in line]
    assert cells == ["+0.20 % (-0.1 to +0.5)", "+0.20 % (-1.1 to +1.5) (**missed**)", "-"]
