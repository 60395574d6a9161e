"""Who a process is: of which run, which start of it, which of how many processes, on which machine.

Decided from the environment alone, which the caller hands in. The run's id comes, in this order, from what the user
said, SLURM's job, torchrun's id, the local launcher that all processes of a start have in common, else it is new. For
the number of a process the innermost launcher is right: inside a SLURM step, torchrun's and mpirun's numbers count.

All of it serves to put journals together and to tell which are missing. No energy is ever counted by it: ranks elect
nobody, since two processes of one node may well both believe to be the first (reference: SLURM's batch process and its
step's task 0, two torchrun agents on one machine).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

LEAST_SPECIAL_STEP: Final = 1 << 31
"""SLURM's numbers for what is no ordinary step (batch, interactive, extern) lie just below 2^32 (slurm.h)."""

NEW_RUN: Final = "run id is new"
GIVE_ID: Final = "give all of them one AIOCARBON_RUN_ID to make them one run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a process is.

    Attributes:
        run_id: Id of the run.
        host: Name of the machine in reports.
        machine: Name that tells this machine from others of the same boot id; empty where none was given.
        job: The job as its launcher knows it; empty for none.
        attempt: Names the start of the run that the process belongs to; as many processes of it as the environment
            lets know of each other have the same name.
        restart: How often the launcher had started the job before; None if it does not say.
        rank: Number of the process, 0 for the first; None if nothing numbers it.
        world: How many are numbered so.
        local_rank: Its number on its node.
        expected_nodes: Names of the nodes that the attempt has; None if they are not known.
        expected_node_count: How many; None if not known.
        expected_tasks: How many processes the attempt has; None if not known.
        ended_by: What ends the process, where it never ends by itself: "Ray" for its workers; empty where it does.
        rules: How all this was found out, in words.
        advice: What a reader of the report must know of it; empty if nothing.
    """

    run_id: str
    host: str
    machine: str = ""
    job: str = ""
    attempt: str = ""
    restart: int | None = None
    rank: int | None = None
    world: int | None = None
    local_rank: int | None = None
    expected_nodes: tuple[str, ...] | None = None
    expected_node_count: int | None = None
    expected_tasks: int | None = None
    ended_by: str = ""
    rules: tuple[str, ...] = ()
    advice: str = ""

    @property
    def is_shared(self) -> bool:
        """True if other processes of the start have the run's id too: it was given, or a launcher tells it."""
        return NEW_RUN not in self.rules

    def said(self, *, run_id: str | None = None, node: str | None = None) -> Identity:
        """The same with what the user said of it.

        Args:
            run_id: Id of the run; None: nothing was said.
            node: Name of the machine; None: nothing was said.
        """
        who = self
        if run_id is not None:
            kept = tuple(rule for rule in who.rules if not rule.startswith("run id "))
            who = replace(who, run_id=run_id, rules=("run id as given", *kept), advice="")
        if node is not None and node != who.host:
            kept = tuple(rule for rule in who.rules if not rule.startswith("node "))
            # The launcher's names are not the user's: only how many nodes there are can be compared with them.
            who = replace(who, host=node, machine=node, rules=(*kept, "node as given"), expected_nodes=None)
        elif node is not None:
            who = replace(who, machine=node)
        return who


class Rank(NamedTuple):
    """The number of a process, and who gave it."""

    rank: int
    world: int | None
    local_rank: int | None
    by: str


class Launchers:
    """What an environment says of the launchers that a process stands under.

    Args:
        environ: The environment.
        launcher: Names the life of the process that started this one and its neighbours on this machine; empty if it
            is not known.
    """

    def __init__(self, environ: Mapping[str, str], launcher: str = "") -> None:
        self._environ = environ
        self._launcher = launcher
        self.rank = self._rank()

    def number(self, *names: str) -> int | None:
        """The first of these variables that holds a number from 0 on."""
        for name in names:
            text = self._environ.get(name, "").strip()
            if re.fullmatch(r"[0-9]{1,10}", text):
                return int(text)
        return None

    def _word(self, name: str) -> str:
        """A variable's value as it may stand in an id."""
        return re.sub(r"[^A-Za-z0-9._-]+", "_", self._environ.get(name, "").strip())[:60]

    # -- SLURM -------------------------------------------------------------------------------------------------

    @property
    def slurm_job(self) -> str:
        """The SLURM job, as "slurm-CLUSTER-ID"; empty outside."""
        number = self._word("SLURM_JOB_ID") or self._word("SLURM_JOBID")
        return "-".join(filter(None, ("slurm", self._word("SLURM_CLUSTER_NAME"), number))) if number else ""

    @property
    def slurm_step(self) -> int | None:
        """The number of the SLURM step; None in a batch script and outside."""
        step = self.number("SLURM_STEP_ID", "SLURM_STEPID") if self.slurm_job else None
        return step if step is not None and step < LEAST_SPECIAL_STEP else None

    # -- torchrun, DeepSpeed and MPI ----------------------------------------------------------------------------------

    @property
    def is_torchrun(self) -> bool:
        """True for a process that a torchrun agent started."""
        return "TORCHELASTIC_RUN_ID" in self._environ

    @property
    def torchrun_id(self) -> str:
        """The id that the user gave torchrun; empty where it is the default one, "none"."""
        found = self._word("TORCHELASTIC_RUN_ID")
        return "" if found.lower() == "none" else found

    @property
    def mpi(self) -> str:
        """The MPI launcher's name; empty where the process was started by none."""
        if self.number("OMPI_COMM_WORLD_RANK") is not None:
            return "mpirun"
        return "mpiexec" if self.number("PMI_RANK") is not None and self.number("PMI_SIZE") is not None else ""

    @property
    def is_deepspeed(self) -> bool:
        """True for a process that DeepSpeed's launcher started (its `launcher/launch.py` sets these)."""
        return not self.is_torchrun and None not in (self.number("RANK"), self.number("CROSS_SIZE"))

    @property
    def by(self) -> str:
        """Name of the launcher beside SLURM that started the process; empty where none did."""
        return "torchrun" if self.is_torchrun else "deepspeed" if self.is_deepspeed else self.mpi

    @property
    def is_on_one_node(self) -> bool:
        """True if torchrun, deepspeed or mpirun says that all processes of the start are on this machine."""
        if self.is_torchrun:
            return self.number("GROUP_WORLD_SIZE") == 1
        if self.is_deepspeed:
            return self.number("CROSS_SIZE") == 1
        size = self.number("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
        return bool(self.mpi) and size == self.number("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")

    @property
    def ended_by(self) -> str:
        """What ends the process; empty where it ends by itself. Ray 2.60 gives both to its workers, not to drivers."""
        return "Ray" if self.number("RAY_RAYLET_PID") is not None and "RAY_JOB_ID" in self._environ else ""

    def _rank(self) -> Rank | None:
        """The process's number by the innermost launcher that tells one."""
        sources = (
            (self.by if self.is_torchrun or self.is_deepspeed else "RANK", "RANK", "WORLD_SIZE", "LOCAL_RANK"),
            ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
            ("mpiexec", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
            ("SLURM", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
        )
        for by, rank_name, world_name, local_name in sources:
            rank, world = self.number(rank_name), self.number(world_name)
            if rank is None or (world is not None and rank >= world) or (by == "RANK" and world is None):
                continue
            if by == "SLURM" and self.slurm_step is None:
                continue  # a batch script is called task 0 as well, of a step that there is not
            return Rank(rank, world, self.number(local_name), by)
        return None

    # -- what follows ------------------------------------------------------------------------------------------

    def run_id(self) -> tuple[str, str, str]:
        """The run's id, the rule, and the advice; nothing where no launcher gives one."""
        if self.slurm_job:
            return self.slurm_job, "run id of the SLURM job", ""
        if self.is_torchrun and self.torchrun_id:
            return f"torchrun-{self.torchrun_id}", "run id of torchrun", ""
        if by := self.by:
            if self.is_on_one_node and self._launcher:
                return f"{by}-{self._launcher}", f"run id of the {by} process on this machine", ""
            more = ", or torchrun --rdzv-id" if self.is_torchrun else ""
            return "", "", f"{by} gives its processes no id, so they report as runs of their own: {GIVE_ID}{more}"
        return "", "", ""

    def attempt(self, own: str) -> tuple[str, str]:
        """The attempt's name, and the rule.

        A torchrun agent counts restarts for itself, and agents of one start differ in it: only on one machine is its
        count part of the name.
        """
        restart = self.number("SLURM_RESTART_COUNT") or 0
        job = f"{self.slurm_job}.{restart}" if self.slurm_job else ""
        start, rule = own, "each process"
        if self.by and self.is_on_one_node and self._launcher:
            count = self.number("TORCHELASTIC_RESTART_COUNT") or 0
            start, rule = f"{self._launcher}.{count}", "the launcher on this machine"
        elif self._environ.get("PMIX_NAMESPACE") and self.mpi:
            start, rule = f"mpi-{self._word('PMIX_NAMESPACE')}", "the MPI job"
        elif self.slurm_step is not None:
            start, rule = f"step-{self.slurm_step}", "the SLURM step"
        elif self.is_torchrun and self.torchrun_id:
            meeting = f"{self._environ.get('MASTER_ADDR')}:{self._environ.get('MASTER_PORT')}"
            start, rule = f"torchrun-{self.torchrun_id}-{digest(meeting)}", "torchrun's meeting point"
        return ".".join(filter(None, (job, start))), f"attempt by {rule}"

    def restart(self) -> int | None:
        """How often the job was started before."""
        if self.slurm_job:
            return self.number("SLURM_RESTART_COUNT") or 0
        return self.number("TORCHELASTIC_RESTART_COUNT") if self.is_torchrun else None

    def nodes(self) -> tuple[tuple[str, ...] | None, int | None, str]:
        """The attempt's nodes, how many there are, and the rule."""
        if not self.slurm_job:
            name = {"torchrun": "GROUP_WORLD_SIZE", "deepspeed": "CROSS_SIZE"}.get(self.by)
            count = self.number(name) if name else None
            return None, count, f"nodes by {self.by}" if count else ""
        in_step = self.slurm_step is not None
        for name in (*(("SLURM_STEP_NODELIST",) if in_step else ()), "SLURM_JOB_NODELIST", "SLURM_NODELIST"):
            text = self._environ.get(name, "")
            if text:
                from aiocarbon._core.nodelist import expand

                try:
                    names = expand(text)
                except ValueError:
                    continue
                return names, len(names), f"nodes by {name}"
        count = self.number(*(("SLURM_STEP_NUM_NODES",) if in_step else ()), "SLURM_JOB_NUM_NODES", "SLURM_NNODES")
        return None, count, "nodes by SLURM" if count else ""


def decide(environ: Mapping[str, str], *, hostname: str, own: str, launcher: str = "") -> Identity:
    """Who the process with this environment is, as long as the user says nothing else.

    Args:
        environ: Its environment.
        hostname: Name of the machine.
        own: A name that nothing else has, for what nothing names.
        launcher: Names the life of the process that started it and its neighbours on this machine; empty if unknown.
    """
    known = Launchers(environ, launcher)
    run_id, id_rule, advice = known.run_id()
    attempt, attempt_rule = known.attempt(own)
    nodes, count, nodes_rule = known.nodes()
    node = environ.get("SLURMD_NODENAME", "").strip() if known.slurm_job else ""
    rank = known.rank
    rules = (
        id_rule or NEW_RUN,
        attempt_rule,
        f"rank by {rank.by}" if rank else "",
        nodes_rule,
        "node by SLURMD_NODENAME" if node else "",
    )
    return Identity(
        run_id=run_id[:100] or own,
        host=node or hostname,
        machine=node,
        job=known.slurm_job or (run_id[:100] if known.is_torchrun else ""),
        attempt=attempt,
        restart=known.restart(),
        rank=rank.rank if rank else None,
        world=rank.world if rank else None,
        local_rank=rank.local_rank if rank else None,
        expected_nodes=nodes,
        expected_node_count=count,
        expected_tasks=rank.world if rank else None,
        ended_by=known.ended_by,
        rules=tuple(filter(None, rules)),
        advice=advice,
    )


def alone(run_id: str, host: str = "") -> Identity:
    """A process that nothing launched, of a run with this id."""
    return Identity(run_id=run_id, host=host, attempt=run_id, rules=("run id as given",))


def digest(text: str) -> str:
    """Twelve hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
