"""A cluster of three nodes on one machine, of known simulated watts: its parts add up, whatever of it dies."""

from __future__ import annotations

import asyncio
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import aiocarbon
from aiocarbon import Budget, BudgetExceededError
from aiocarbon._core.report import RunReport
from aiocarbon._core.units import J_PER_KWH
from aiocarbon.errors import ConfigError, UsageError
from aiocarbon.journal import load

ray: Any = pytest.importorskip("ray", reason="needs the extra ray: pip install 'aiocarbon[ray]'")

from aiocarbon.integrations._ray_actors import (  # noqa: E402  # they are not there without Ray
    NAMESPACE,
    EpochState,
    NodeMeter,
    Plan,
    keeper_name,
)
from aiocarbon.integrations._ray_nodes import NodeSeen, with_nodes  # noqa: E402
from aiocarbon.integrations.ray import ClusterTracker, sync_tracker, tracker  # noqa: E402

ROOT = str(Path(aiocarbon.__file__).parents[1])
WATTS = {"n1": 100.0, "n2": 250.0, "n3": 400.0, "n4": 900.0}
INTERVAL_S = 0.1
PATIENCE_S = 60.0
LEVEL_S = 3.0
EVALUATION_S = 1.0

pytestmark = [pytest.mark.ray, pytest.mark.anyio, pytest.mark.timeout(240), pytest.mark.filterwarnings("default")]


class Rollout:
    """An async actor, whose loop is not in the main thread; several of its methods run at once."""

    def __init__(self) -> None:
        self.is_over = False

    async def begin(self) -> tuple[str, int]:
        self.is_over = False
        tracked = await tracker()
        return tracked.run_id, os.getpid()

    async def play(self, name: str) -> None:
        tracked = await tracker()
        while not self.is_over:
            with tracked.span(name):
                await asyncio.sleep(0.1)

    async def end(self) -> None:
        self.is_over = True


class Learner:
    """A sync actor."""

    def begin(self) -> tuple[str, int]:
        return sync_tracker().run_id, os.getpid()

    def learn(self, seconds: float) -> None:
        with sync_tracker().span("learn"):
            time.sleep(seconds)


def evaluate() -> str:
    tracked = sync_tracker()
    with tracked.span("evaluate"):
        time.sleep(EVALUATION_S)
    return tracked.run_id


class OnOneMachine:
    """A Ray cluster whose nodes have meters of their own, and no lock that other nodes could see."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        self.cluster: Any = Cluster(initialize_head=True, head_node_args=self.node("n1"))
        self.nodes: dict[str, Any] = {"n1": self.cluster.head_node}
        for name in ("n2", "n3"):
            self.join(name)

    def environ(self, name: str) -> dict[str, str]:
        locks = self.folder / f"locks-{name}"
        locks.mkdir(mode=0o700, exist_ok=True)
        return {
            "AIOCARBON_NODE": name,
            "AIOCARBON_METERS": f"simulated:{WATTS[name]}",
            "AIOCARBON_LOCK_DIR": str(locks),
            "AIOCARBON_OFFLINE": "true",
            "AIOCARBON_CACHE": "none",
            "PYTHONPATH": ROOT,
        }

    def node(self, name: str) -> dict[str, Any]:
        return {"num_cpus": 1, "include_dashboard": False, "env_vars": self.environ(name), "resources": {name: 100}}

    def join(self, name: str) -> None:
        self.nodes[name] = self.cluster.add_node(wait=False, **self.node(name))

    def node_id(self, name: str) -> str:
        found: str = next(row["NodeID"] for row in ray.nodes() if name in row["Resources"])
        return found

    def drain(self, name: str) -> None:
        """Tell Ray that the node goes in a minute, as a provider does of a spot machine."""
        preemption = 2  # DRAIN_NODE_REASON_PREEMPTION of Ray's autoscaler.proto
        deadline_ms = int((time.time() + 60.0) * 1e3)
        worker = ray._private.worker.global_worker
        worker.gcs_client.drain_node(self.node_id(name), preemption, "spot", deadline_ms)

    def kill(self, name: str) -> None:
        self.cluster.remove_node(self.nodes.pop(name), allow_graceful=False)


@pytest.fixture(scope="module")
def cluster() -> Iterator[OnOneMachine]:
    set_here = pytest.MonkeyPatch()  # what a process inherits from its node
    # A short path: Ray's sockets lie in folders below its own, and theirs may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="acr-", ignore_cleanup_errors=True) as folder:
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        made = OnOneMachine(Path(folder))
        for variable, value in made.environ("n1").items():  # the driver is on the first node
            set_here.setenv(variable, value)
        try:
            made.cluster.wait_for_nodes()
            ray.init(address=made.cluster.address, log_to_driver=False)
            yield made
        finally:
            ray.shutdown()
            for name in reversed([*made.nodes]):  # the polite way waits for a head that is dead by then
                made.kill(name)
            made.cluster.shutdown()
            set_here.undo()


def joules(run: RunReport) -> float:
    return run.it_energy_kwh * J_PER_KWH


def by_node(run: RunReport) -> dict[str, tuple[float, float]]:
    """Joules and covered seconds of each node."""
    return {node.host: ((node.it_energy_kwh or 0.0) * J_PER_KWH, node.covered_s) for node in run.nodes}


async def until(cluster: ClusterTracker, holds: Callable[[RunReport], bool]) -> RunReport:
    """The first snapshot of which it holds."""
    end = time.monotonic() + PATIENCE_S
    while True:
        run = await cluster.snapshot()
        if holds(run):
            return run
        assert time.monotonic() < end, (by_node(run), run.spans)
        await asyncio.sleep(0.25)


async def level(cluster: ClusterTracker) -> tuple[RunReport, float]:
    """A snapshot in which no node is behind what it told at its best in some seconds, and when it was taken."""
    seen: list[tuple[RunReport, float]] = []
    end = time.monotonic() + LEVEL_S
    while time.monotonic() < end:
        run = await cluster.snapshot()
        seen.append((run, time.monotonic()))
        await asyncio.sleep(0.25)
    best = {name: max(by_node(run)[name][1] - at for run, at in seen) for name in by_node(seen[0][0])}
    return next(
        (run, at) for run, at in reversed(seen) if all(by_node(run)[name][1] - at > best[name] - 0.3 for name in best)
    )


def processes(run: RunReport) -> dict[str, int]:
    return {node.host: node.processes for node in run.nodes}


def spans(run: RunReport) -> set[str]:
    return {span.name for span in run.spans}


def add_up(run: RunReport) -> None:
    """The parts of a run make it."""
    told = math.fsum(span.energy_kwh for span in run.spans)
    assert run.unattributed is not None
    assert told + run.unattributed.energy_kwh == pytest.approx(run.energy_kwh, rel=1e-12)
    assert run.unattributed.energy_kwh >= 0.0
    assert math.fsum(node[0] for node in by_node(run).values()) == pytest.approx(joules(run), rel=1e-12)


# -- without a cluster ---------------------------------------------------------------------------------------------


def test_without_ray_the_import_says_which_extra_to_install() -> None:
    code = "import sys; sys.modules['ray'] = None\nimport aiocarbon.integrations.ray"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert told.returncode
    assert "ImportError" in told.stderr
    assert "pip install 'aiocarbon[ray]'" in told.stderr


def test_importing_it_does_not_load_ray() -> None:
    code = "import sys, aiocarbon.integrations.ray; print('ray' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert told.stdout.strip() == "False"


@pytest.mark.parametrize(
    "wrong", [{"epochs": -3}, {"strict": True}, {"meters": [object()]}, {"interval_s": -1}, {"run_id": "a/b"}]
)
def test_what_no_cluster_can_take_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ClusterTracker(**wrong)


def test_nodes_that_came_went_or_told_nothing_are_told(tmp_path: Path) -> None:
    with aiocarbon.sync.Tracker(meters="simulated:5", run_id="r", node="n1") as tracked:
        pass
    base: dict[str, Any] = {"address": "10.0.0.1", "joined_s": 1e9, "is_first": True}
    seen = [
        NodeSeen(node_id="a" * 40, host="n1", told_s=1e9 + 5, **base),
        NodeSeen(node_id="b" * 40, host="n2", told_s=1e9 + 5, left_s=1e9 + 8, **{**base, "is_first": False}),
        NodeSeen(node_id="c" * 40, problem="no room", **base),
    ]
    run = with_nodes(tracked.report(), seen)
    told = "\n".join(run.warnings)
    assert "node n2 joined at 2001-09-09T01:46:40+00:00" in told
    assert "node n2 was gone at 2001-09-09T01:46:48+00:00: what it told until 2001-09-09T01:46:45+00:00" in told
    assert "nothing was measured on node 10.0.0.1 (cccccccc) (no room): the figures lack it" in told
    assert "node n1 joined" not in told
    assert run.status == "partial"
    assert [node.it_energy_kwh for node in run.nodes if node.host.startswith("10.")] == [None]


# -- on the cluster ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def actors(cluster: OnOneMachine) -> list[Any]:
    """Four on each of three nodes: three async ones and a sync one. They outlive runs."""
    made = []
    for name in ("n1", "n2", "n3"):
        where = {"num_cpus": 0, "resources": {name: 1}, "max_restarts": 1}
        made += [ray.remote(Rollout).options(**where, max_concurrency=4).remote() for _ in range(3)]
        made.append(ray.remote(Learner).options(**where).remote())
    return made


async def test_actors_tasks_and_the_driver_are_one_run(
    cluster: OnOneMachine, actors: list[Any], tmp_path: Path
) -> None:
    alone = await tracker()
    assert any("reports for itself" in text for text in (await alone.snapshot()).warnings)
    await alone.aclose()
    folders: dict[str, Any] = {"journal": tmp_path / "j", "node_journal": tmp_path / "n", "interval_s": INTERVAL_S}
    actor = actors[4]
    tracking = ClusterTracker(
        name="parts", run_id="parts", epochs=4, budget=Budget(energy_kwh=1e6 / J_PER_KWH), **folders
    )
    async with tracking:
        with pytest.raises(UsageError):
            await tracking.start()
        assert tracking.report().nodes  # at once
        assert (await actor.begin.remote())[0] == "parts"
        playing = actor.play.remote("rollout")
        task = ray.remote(evaluate).options(num_cpus=0, resources={"n3": 1}).remote()
        assert (await tracker()).run_id == "parts"
        with tracking.span("learn"):
            assert await task == "parts"
        first = await tracking.epoch()
        assert (first.index, first.is_partial, first.is_final) == (0, False, False)
        assert first.power_w is not None
        assert tracking.prediction is not None
        assert tracking.prediction.epochs_seen == 1
        await until(tracking, lambda run: "rollout" in spans(run))  # what is told stays
        keeper = ray.get_actor(keeper_name(ray.get_runtime_context().get_job_id()), NAMESPACE)
        ray.kill(keeper, no_restart=False)  # Ray starts it again; what it kept lies in files
        ray.kill(actor, no_restart=False)
        with pytest.raises(ray.exceptions.RayError):
            await playing
        for _ in range(100):
            try:
                run_id, _ = await actor.begin.remote()
                break
            except ray.exceptions.ActorUnavailableError:  # Ray starts it again just now
                await asyncio.sleep(0.1)
        assert run_id == "parts"
        playing = actor.play.remote("again")
        run = await until(tracking, lambda run: spans(run) == {"rollout", "again", "learn", "evaluate"})
        assert (run.run_id, run.is_final, run.status) == ("parts", False, "complete")
        assert not any("did not end" in text for text in run.warnings)
        await actor.end.remote()
        await playing
        second = await tracking.epoch()
        assert second.index == 1
        predicted = tracking.prediction
        assert predicted is not None
        assert predicted.energy_kwh is not None
        assert predicted.energy_kwh > (await tracking.snapshot()).energy_kwh
    run = tracking.report()
    add_up(run)
    assert run.is_final
    assert (run.status, run.ended_well) == ("complete", True), run.warnings
    assert any("ended from outside, as Ray ends" in text for text in run.warnings)
    assert spans(run) == {"rollout", "again", "learn", "evaluate"}
    assert {node.host for node in run.nodes} == {"n1", "n2", "n3"}
    assert [epoch.index for epoch in run.epochs] == [0, 1]
    whole = math.fsum([run.outside.it_energy_kwh, *(epoch.it_energy_kwh for epoch in run.epochs)])
    assert whole == pytest.approx(run.it_energy_kwh, rel=1e-9)
    (evaluated,) = [span for span in run.spans if span.name == "evaluate"]
    # One process on its node had spans, so it has what the node drew in them.
    assert evaluated.energy_kwh * J_PER_KWH == pytest.approx(400.0 * EVALUATION_S * run.pue.value, rel=0.1)
    assert await tracking.snapshot() == run
    assert (await tracker()).run_id == "parts"

    # An actor that outlives a run tracks for the next one; its keeper is gone for good, as when a driver leaves.
    tracking = ClusterTracker(run_id="next", budget=Budget(energy_kwh=100.0 / J_PER_KWH), **folders)
    with pytest.raises(BudgetExceededError, match="is used up"):
        async with tracking:
            assert (await tracker()).run_id == "next"
            for _ in range(100):
                run_id, _ = await actor.begin.remote()
                if run_id == "next":
                    break
                await asyncio.sleep(0.1)
            assert run_id == "next"
            with anyio.fail_after(PATIENCE_S):
                await tracking.exceeded.wait()
            keeper = ray.get_actor(keeper_name(ray.get_runtime_context().get_job_id()), NAMESPACE)
            ray.kill(keeper)
            run = await tracking.snapshot()
            assert any("its nodes are measured on" in text for text in tracking.report().warnings)
            with tracking.span("no more"):
                raise AssertionError("unreachable")
    run = tracking.report()
    assert joules(run) > 100.0
    assert (run.status, run.ended_well) == ("partial", False)
    assert any("keeper of the cluster's run was gone" in text for text in run.warnings)


class Lonely(NodeMeter):
    """The meter of a node, in this process, of whose run nobody knows."""

    has_left = False

    def _leave(self) -> None:
        self.has_left = True


async def test_a_meter_that_nobody_listens_to_ends_and_its_file_stays(cluster: OnOneMachine, tmp_path: Path) -> None:
    plan = Plan(run_id="left", settings={"interval_s": INTERVAL_S}, base=str(tmp_path), ttl_s=0.0)
    meter = Lonely(plan, "a-node", "no-job", EpochState(index=3))
    meter._pause_s = 0.5
    await meter.run()
    assert meter.has_left
    (run,) = load(plan.folder("a-node")).runs
    assert (run.run_id, run.host, run.ended_well) == ("left", "n1", True)
    assert joules(run) == pytest.approx(100.0 * run.duration_s, rel=0.2)


async def test_a_tracker_a_meter_and_a_node_die_and_a_node_joins(
    cluster: OnOneMachine, actors: list[Any], tmp_path: Path
) -> None:
    tracking = ClusterTracker(
        name="kill", journal=tmp_path / "j", node_journal=tmp_path / "n", interval_s=INTERVAL_S, run_id="kill"
    )
    async with tracking:
        for _ in range(100):
            begun = [await ref for ref in [actor.begin.remote() for actor in actors]]
            if {run_id for run_id, _ in begun} == {"kill"}:
                break
            await asyncio.sleep(0.1)
        assert {run_id for run_id, _ in begun} == {"kill"}
        assert len({pid for _, pid in begun}) == 12
        names = {*(f"rollout-{n}" for n in range(12) if n % 4 < 3), "learn"}
        working = [actors[n].play.remote(f"rollout-{n}") for n in range(12) if n % 4 < 3]
        working += [actors[n].learn.remote(600.0) for n in (3, 7, 11)]
        await until(tracking, lambda run: processes(run) == {"n1": 6, "n2": 5, "n3": 5} and spans(run) == names)
        begin, begin_s = await level(tracking)

        cluster.drain("n3")
        ray.kill(actors[0])
        ray.kill(ray.get_actor(f"meter-kill-{cluster.node_id('n2')}", NAMESPACE))

        def is_caught_up(run: RunReport) -> bool:
            """Whether who took over has told: each node's energy and time go up to now, but for a moment."""
            for name, (energy_j, covered_s) in by_node(run).items():
                before_j, before_s = by_node(begin)[name]
                # Live, the last reading of a node and the newest word of its processes are an interval or two apart.
                lag_j = WATTS[name] * 2 * INTERVAL_S
                is_whole = energy_j - before_j == pytest.approx(WATTS[name] * (covered_s - before_s), 0.005, lag_j)
                if not is_whole or abs(covered_s - before_s - (time.monotonic() - begin_s)) > 1.0:
                    return False
            return processes(run)["n2"] == 6 and any("n3 was told to go by" in text for text in run.warnings)

        second = await until(tracking, is_caught_up)
        add_up(second)

        cluster.kill("n3")
        killed_s = time.monotonic()
        cluster.join("n4")
        third = await until(tracking, lambda run: by_node(run).get("n4", (0.0, 0.0))[1] > 1.0)
        assert by_node(third)["n3"][0] >= by_node(second)["n3"][0]
        assert third.status == "partial"
        cluster.cluster.head_node.kill_gcs_server(check_alive=False)
        last_s = time.monotonic()
    run = tracking.report()
    ended_s = time.monotonic()
    add_up(run)
    nodes = by_node(run)
    before = by_node(begin)
    for name in ("n1", "n2"):
        assert last_s - begin_s - 1.0 <= nodes[name][1] - before[name][1] <= ended_s - begin_s + 1.0
    # What the dead node had told stays: all but what was not sent.
    assert nodes["n3"][0] >= by_node(third)["n3"][0] >= by_node(second)["n3"][0]
    assert nodes["n3"][1] - before["n3"][1] <= killed_s - begin_s + 1.0
    since = {
        name: (node[0] - before.get(name, (0.0, 0.0))[0], node[1] - before.get(name, (0.0, 0.0))[1])
        for name, node in nodes.items()
    }
    # Of a node that died the last reading is older than the last word of its processes.
    unread_s = since["n3"][1] - since["n3"][0] / WATTS["n3"]
    assert -0.1 <= unread_s <= 1.0, since
    truth_j = math.fsum(WATTS[name] * seconds for name, (_, seconds) in since.items()) - WATTS["n3"] * unread_s
    assert joules(run) - joules(begin) == pytest.approx(truth_j, rel=0.005), since
    told = "\n".join(run.warnings)
    assert "node n4 joined" in told
    # Ray itself needs 14 s to see it: until then it is silent, and then gone.
    assert re.search(r"node n3 (is silent \(.+\)|was gone at \S+): what it told until \S+ is counted", told)
    assert run.status == "partial"
    assert spans(run) == names
    (found,) = load(tracking.folder).runs  # as `aiocarbon report` reads them
    assert joules(found) == joules(run)
