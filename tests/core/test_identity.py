"""Who a process is, by what its launchers say: environments as they were seen, and what they lack on bad days."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core import nodelist
from aiocarbon._core.identity import Identity, Launchers, alone, decide

SLURM = {
    "SLURM_JOB_ID": "42",
    "SLURM_CLUSTER_NAME": "acc",
    "SLURM_JOB_NODELIST": "n[1-3,7]",
    "SLURM_JOB_NUM_NODES": "4",
    "SLURMD_NODENAME": "n1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
"""A batch script: it is called process 0 of a step that there is not."""

STEP = SLURM | {
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "6",
    "SLURM_STEP_NODELIST": "n[1-3]",
    "SLURMD_NODENAME": "n3",
}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "3",
    "LOCAL_WORLD_SIZE": "4",
    "GROUP_RANK": "0",
    "GROUP_WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}
DEEPSPEED = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "LOCAL_SIZE": "2",
    "CROSS_RANK": "0",
    "CROSS_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "PMIX_NAMESPACE": "2398552065",
    "PMIX_RANK": "1",
}
MPICH = {"PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"}


def who(environ: dict[str, str], *, own: str = "own-1", launcher: str = "f00d") -> Identity:
    return decide(environ, hostname="box", own=own, launcher=launcher)


# -- who nobody launched -------------------------------------------------------------------------------------------


def test_a_process_of_its_own_has_a_new_run_and_a_new_attempt() -> None:
    found = who({"HOME": "/"})
    assert (found.run_id, found.attempt, found.host, found.machine, found.job) == ("own-1", "own-1", "box", "", "")
    assert (found.rank, found.world, found.restart, found.expected_nodes, found.expected_tasks) == (None,) * 5
    assert found.advice == ""


def test_what_the_user_says_comes_before_every_launcher() -> None:
    found = who(STEP | TORCHRUN).said(run_id="mine", node="big-box")
    assert (found.run_id, found.host, found.machine) == ("mine", "big-box", "big-box")
    assert "run id as given" in found.rules
    assert "node as given" in found.rules
    # The launcher's names of nodes are not the user's: only their number can be compared.
    assert (found.expected_nodes, found.expected_node_count) == (None, 3)
    assert found.attempt == who(STEP | TORCHRUN).attempt


def test_saying_nothing_changes_nothing() -> None:
    assert who(STEP).said() == who(STEP)


# -- SLURM ---------------------------------------------------------------------------------------------------------


def test_a_task_of_a_step() -> None:
    found = who(STEP)
    assert (found.run_id, found.job) == ("slurm-acc-42", "slurm-acc-42")
    assert (found.rank, found.world, found.local_rank) == (5, 6, 1)
    assert (found.host, found.machine) == ("n3", "n3")
    assert (found.expected_nodes, found.expected_node_count, found.expected_tasks) == (("n1", "n2", "n3"), 3, 6)
    assert (found.restart, found.attempt) == (0, "slurm-acc-42.0.step-0")


def test_all_tasks_of_a_step_agree_on_its_attempt_and_a_requeue_makes_another() -> None:
    tasks = [who(STEP | {"SLURM_PROCID": str(n)}, own=f"own-{n}", launcher=f"l{n}") for n in range(6)]
    assert len({task.attempt for task in tasks}) == 1
    again = who(STEP | {"SLURM_RESTART_COUNT": "1"})
    assert again.run_id == tasks[0].run_id
    assert again.restart == 1
    assert again.attempt not in {task.attempt for task in tasks}
    assert who(STEP | {"SLURM_STEP_ID": "1"}).attempt not in {task.attempt for task in tasks}


def test_a_batch_script_is_no_rank_though_slurm_numbers_it() -> None:
    found = who(SLURM)
    assert (found.rank, found.world, found.local_rank, found.expected_tasks) == (None, None, None, None)
    assert found.expected_nodes == ("n1", "n2", "n3", "n7")
    assert found.attempt == "slurm-acc-42.0.own-1"


@pytest.mark.parametrize("step", ["4294967290", "4294967291", "4294967292"])
def test_what_slurm_numbers_as_no_ordinary_step_is_none(step: str) -> None:
    assert who(SLURM | {"SLURM_STEP_ID": step}).rank is None


def test_a_cluster_without_a_name_and_the_old_variables_will_do() -> None:
    assert who({"SLURM_JOBID": "7"}).run_id == "slurm-7"
    assert who({"SLURM_JOBID": "7", "SLURM_NODELIST": "a,b"}).expected_nodes == ("a", "b")
    assert who({"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "my cluster/x"}).run_id == "slurm-my_cluster_x-7"


@pytest.mark.parametrize(
    "text", ["n[1-", "n]", "n[x]", "n[3-1]", "n1,,n2", "n1,", "n[1-999999999999]", "a b", "n[[1]]"]
)
def test_a_node_list_that_cannot_be_read_leaves_the_number_of_nodes(text: str) -> None:
    found = who(SLURM | {"SLURM_JOB_NODELIST": text})
    assert (found.expected_nodes, found.expected_node_count) == (None, 4)


@pytest.mark.parametrize("value", ["", "-1", "x", "1e3", "99999999999", "6", " "])
def test_a_number_that_is_none_is_no_rank(value: str) -> None:
    assert who(STEP | {"SLURM_PROCID": value}).rank is None


# -- torchrun ------------------------------------------------------------------------------------------------------


def test_torchrun_s_processes_on_one_machine_are_one_run_by_their_agent() -> None:
    ranks = [who(TORCHRUN | {"RANK": str(n)}, own=f"own-{n}") for n in range(4)]
    assert {(rank.run_id, rank.attempt) for rank in ranks} == {("torchrun-f00d", "f00d.0")}
    assert [rank.rank for rank in ranks] == [0, 1, 2, 3]
    assert who(TORCHRUN, launcher="beef").run_id != ranks[0].run_id
    again = who(TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "1"})
    assert (again.run_id, again.attempt, again.restart) == ("torchrun-f00d", "f00d.1", 1)


def test_torchrun_s_id_names_the_run_on_several_nodes() -> None:
    environ = TORCHRUN | {"TORCHELASTIC_RUN_ID": "exp 7", "GROUP_WORLD_SIZE": "2", "MASTER_ADDR": "head"}
    one, other = who(environ, launcher="a"), who(environ | {"GROUP_RANK": "1", "RANK": "7"}, own="own-2", launcher="b")
    assert (one.run_id, one.expected_node_count) == ("torchrun-exp_7", 2)
    assert (one.run_id, one.attempt) == (other.run_id, other.attempt)
    # Agents count restarts each for itself: those that count otherwise must not seem to be of another start.
    assert who(environ | {"TORCHELASTIC_RESTART_COUNT": "1"}, launcher="b").attempt == one.attempt


def test_several_nodes_without_any_id_are_runs_of_their_own_and_the_remedy_is_told() -> None:
    found = who(TORCHRUN | {"GROUP_WORLD_SIZE": "2"})
    assert found.run_id == "own-1"
    assert "AIOCARBON_RUN_ID" in found.advice
    assert "--rdzv-id" in found.advice
    assert found.said(run_id="mine").advice == ""


def test_without_proof_of_the_agent_a_process_is_its_own() -> None:
    found = who(TORCHRUN, launcher="")
    assert found.run_id == found.attempt == "own-1"
    assert "AIOCARBON_RUN_ID" in found.advice


def test_deepspeed_s_processes_on_one_machine_are_one_run_by_their_launcher() -> None:
    found = who(DEEPSPEED)
    assert (found.run_id, found.attempt) == ("deepspeed-f00d", "f00d.0")
    assert (found.rank, found.world, found.local_rank, found.expected_tasks) == (1, 2, 1, 2)
    assert found.expected_node_count == 1
    assert found.is_shared
    assert who(DEEPSPEED | {"RANK": "0", "LOCAL_RANK": "0"}).run_id == found.run_id


def test_deepspeed_over_several_machines_gives_no_id_and_the_remedy_is_told() -> None:
    found = who(DEEPSPEED | {"CROSS_SIZE": "2", "WORLD_SIZE": "4"})
    assert found.run_id == "own-1"
    assert "AIOCARBON_RUN_ID" in found.advice
    assert not found.is_shared
    assert found.said(run_id="mine").is_shared


def test_inside_slurm_torchrun_numbers_the_processes_and_slurm_names_job_and_node() -> None:
    found = who(STEP | TORCHRUN | {"RANK": "9", "WORLD_SIZE": "12", "GROUP_WORLD_SIZE": "3"})
    assert (found.run_id, found.host, found.rank, found.world) == ("slurm-acc-42", "n3", 9, 12)
    assert (found.expected_tasks, found.expected_nodes) == (12, ("n1", "n2", "n3"))
    assert found.attempt == "slurm-acc-42.0.step-0"
    batch = who(SLURM | TORCHRUN)
    assert (batch.rank, batch.attempt) == (3, "slurm-acc-42.0.f00d.0")


def test_rank_alone_numbers_nobody_without_a_world() -> None:
    assert who({"RANK": "3"}).rank is None
    assert who({"RANK": "3", "WORLD_SIZE": "4"}).rank == 3


# -- MPI -----------------------------------------------------------------------------------------------------------


def test_open_mpi_and_mpich() -> None:
    found = who(OPEN_MPI)
    assert (found.rank, found.world, found.local_rank, found.run_id) == (1, 4, 1, "mpirun-f00d")
    found = who(MPICH)
    assert (found.rank, found.world, found.local_rank) == (2, 4, 0)
    assert (found.run_id, found.attempt) == ("own-1", "own-1")  # two nodes, and nothing that both know
    assert "AIOCARBON_RUN_ID" in found.advice


def test_mpi_over_several_nodes_agrees_on_the_attempt_by_its_name_space() -> None:
    environ = OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    one, other = who(environ, launcher="a"), who(environ | {"OMPI_COMM_WORLD_RANK": "3"}, own="own-2", launcher="b")
    assert one.attempt == other.attempt
    assert one.said(run_id="x").run_id == other.said(run_id="x").run_id


def test_what_mpirun_starts_under_slurm_is_numbered_by_mpirun() -> None:
    assert who(STEP | OPEN_MPI).rank == 1
    assert who(STEP | OPEN_MPI).run_id == "slurm-acc-42"


# -- laws ----------------------------------------------------------------------------------------------------------

NAMES = sorted({*STEP, *TORCHRUN, *OPEN_MPI, *MPICH, "SLURM_RESTART_COUNT", "SLURM_NODELIST"})


@given(st.dictionaries(st.sampled_from(NAMES), st.one_of(st.text(max_size=30), st.integers(-5, 9).map(str))))
def test_any_environment_gives_an_identity_that_may_name_a_folder(environ: dict[str, str]) -> None:
    found = who(environ)
    assert 0 < len(found.run_id) <= 100
    assert all(c.isalnum() or c in "._-" for c in found.run_id)
    assert found.attempt
    assert found.rank is None or found.world is None or 0 <= found.rank < found.world
    assert Launchers(environ).slurm_job in ("", found.run_id)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("n1", ("n1",)),
        ("n[1-3,7]", ("n1", "n2", "n3", "n7")),
        ("gpu[08-11],login", ("gpu08", "gpu09", "gpu10", "gpu11", "login")),
        ("r[1-2]n[1-2]", ("r1n1", "r1n2", "r2n1", "r2n2")),
        ("a[1-2]-ib,a[2-3]-ib", ("a1-ib", "a2-ib", "a3-ib")),
        ("n[0]", ("n0",)),
    ],
)
def test_node_lists(text: str, names: tuple[str, ...]) -> None:
    assert nodelist.expand(text) == names


@given(st.lists(st.integers(0, 9999), min_size=1, max_size=50, unique=True))
def test_a_list_of_numbers_expands_to_them(numbers: list[int]) -> None:
    assert nodelist.expand(f"n[{','.join(f'{n:04d}' for n in numbers)}]") == tuple(f"n{n:04d}" for n in numbers)


@given(st.text(alphabet="n019[]-, ", max_size=40))
def test_any_text_expands_or_is_refused(text: str) -> None:
    try:
        names = nodelist.expand(text)
    except ValueError:
        return
    assert all(names)
    assert len(set(names)) == len(names)


def test_a_list_of_too_many_nodes_is_refused_at_once() -> None:
    for text in ("n[1-99999]-[1-99999]", "n[1-200000]", "n" + "[1-9]" * 9):
        with pytest.raises(ValueError, match=r"nodes|numbers|brackets"):
            nodelist.expand(text)


def test_ray_ends_its_workers_and_not_its_drivers() -> None:
    # As seen in a worker and in a driver's job of Ray 2.60.
    worker = {"RAY_JOB_ID": "ffffffff", "RAY_RAYLET_PID": "10871", "RAY_CLIENT_MODE": "0"}
    assert who(worker).ended_by == "Ray"
    assert who(STEP | worker).ended_by == "Ray"
    for environ in ({}, {"RAY_ADDRESS": "auto"}, {"RAY_JOB_ID": "01000000"}, {"RAY_RAYLET_PID": "10871"}):
        assert not who(environ).ended_by


def test_alone_is_a_process_that_nothing_launched() -> None:
    found: Any = alone("r", "h")
    assert (found.run_id, found.host, found.attempt, found.rank) == ("r", "h", "r", None)
