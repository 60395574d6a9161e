"""The reinforcement learning on Ray: it learns, each process tells its part, and the parts make the whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiocarbon._core.units import J_PER_KWH

pytest.importorskip("ray", reason="needs the extra ray: pip install 'aiocarbon[ray]'")

from benchmarks.workloads.rl_ray import main  # there is none without Ray

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240), pytest.mark.filterwarnings("default")]

WATTS = 250.0
RANDOM_RETURN = 22.0
"""Mean return of random play in CartPole-v1, as `test_rl_example.py` finds it."""


def test_it_learns_and_its_parts_make_the_meters_total(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rl.json"
    asked = ["--actors", "2", "--updates", "60", "--every", "20", "--all-updates", "--meters", f"simulated:{WATTS}"]
    assert main([*asked, "--journal", str(tmp_path / "j"), "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    report = result["report"]
    assert (result["updates"], [version for version, _ in result["returns"]]) == (60, [20, 40, 60])
    assert max(returned for _, returned in result["returns"]) > 3 * RANDOM_RETURN
    assert result["mean_age"] > 0.0  # policies that played were stale: it is asynchronous
    assert result["add_up"] is True
    assert report["it_energy_kwh"] * J_PER_KWH == pytest.approx(WATTS * report["duration_s"], rel=0.02)
    spans = {span["name"]: span for span in report["spans"]}
    assert spans.keys() == {"start", "rollout", "update", "evaluation"}
    assert (spans["update"]["count"], spans["evaluation"]["count"]) == (60, 3)
    assert {child["name"] for child in report["children"]} == {"actor-0", "actor-1"}
    assert sum(child["steps"] for child in report["children"]) == result["environment_steps"]
    assert (report["status"], report["ended_well"]) == ("complete", True)
    # The driver, a node's meter, two actors, the learner and the evaluator; all of them ended by themselves.
    assert [node["processes"] for node in report["nodes"]] == [6]
    assert len(report["epochs"]) == 3
    told = capsys.readouterr().out
    assert "the meters' total" in told
    assert "per environment step" in told
    assert "NOT THE METERS' TOTAL" not in told
