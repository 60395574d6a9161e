"""A real SLURM on this one machine: slurmctld and several slurmd out of Debian's packages, for the time of the tests.

Each slurmd plays a node of its own name. They share host name, boot id, file system and processes with each other, as
containers of one machine would; what tells them apart is SLURMD_NODENAME.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import aiocarbon

ROOT = str(Path(aiocarbon.__file__).parents[1])
PACKAGES = ("slurm-wlm", "munge")
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
DAEMONS = ("slurmctld", "slurmd", "munged", "srun", "sbatch", "scontrol")
PATIENCE_S = 90.0
WATTS = {"n1": 100.0, "n2": 250.0, "n3": 400.0}
"""What each node's simulated device draws."""

ON_NODE = """\
#!/bin/bash
# Runs a command as on a node of its own: with its own meters, and no lock that other nodes could see.
case $SLURMD_NODENAME in {cases} esac
export AIOCARBON_LOCK_DIR={folder}/locks-$SLURMD_NODENAME
mkdir -p -m 700 $AIOCARBON_LOCK_DIR
exec "$@"
"""

CONFIG = """\
ClusterName=acc
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job otherwise waits two minutes, for credentials of its former start to expire.
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=0,bf_interval=1
KillWait=8
# Nodes may have more processors than this machine: several jobs of mostly sleeping tasks run at once.
SlurmdParameters=config_overrides
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports}] CPUs=32 State=UNKNOWN
PartitionName=main Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A cluster that runs.

    Attributes:
        folder: Its files, as on a file system that all nodes share.
        on_node: A program that runs a command with what is a node's own.
        watts: What each node's simulated device draws.
    """

    watts = WATTS

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(("AIOCARBON_", "SLURM"))} | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": PATH,
            "PYTHONPATH": ROOT,
            "AIOCARBON_OFFLINE": "true",
            "AIOCARBON_CACHE": "none",
            "AIOCARBON_LOCATION": "DK",
            "AIOCARBON_INTERVAL_S": "0.2",
        }
        cases = " ".join(f"{node}) export AIOCARBON_METERS=simulated:{watts:g};;" for node, watts in WATTS.items())
        self.on_node = folder / "on-node"
        self.on_node.write_text(ON_NODE.format(cases=cases, folder=folder))
        self.on_node.chmod(0o755)
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._is_up = False

    def start(self) -> None:
        """Write what the daemons read, and start them; returns when all nodes are idle."""
        folder, nodes = self.folder, len(WATTS)
        ports = free_ports(nodes + 1)
        (folder / "ctld").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        told = CONFIG.format(
            host=socket.gethostname().split(".")[0],
            folder=folder,
            nodes=nodes,
            ctld_port=ports[0],
            ports=",".join(map(str, ports[1:])),
        )
        (folder / "slurm.conf").write_text(told)
        # 22.05 knows no way to do without control groups, but with this process tracking it never looks at the mount.
        version = tuple(map(int, re.findall(r"\d+", self.says("slurmd", "-V"))[:2]))
        none = (
            "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/nonexistent\n"
            if version < (23, 2)
            else "CgroupPlugin=disabled\n"
        )
        (folder / "cgroup.conf").write_text(none)
        self._start(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={folder}/munge.key",
            f"--socket={folder}/munge.sock",
            f"--pid-file={folder}/munge.pid",
            f"--log-file={folder}/munge.log",
            f"--seed-file={folder}/munge.seed",
        )
        # Without it each of SLURM's programs would try for ten seconds.
        self.until("munged answers", (folder / "munge.sock").exists)
        self._start("slurmctld", "-D")
        for n in range(1, nodes + 1):
            (folder / f"n{n}").mkdir()
            self._start("slurmd", "-D", "-N", f"n{n}")
        self.until("all nodes are idle", lambda: self.says("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * nodes)
        self._is_up = True

    def _start(self, *words: str) -> None:
        with (self.folder / f"{words[0]}.out").open("ab") as out:
            self._daemons.append(
                subprocess.Popen(words, env=self.environ, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
            )

    def close(self) -> None:
        """End all jobs and daemons."""
        if self._is_up:
            self.says("scancel", "--user=root", check=False)
            self.until("no job is left", lambda: not self.says("squeue", "-h", check=False).strip())
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    # -- what tests do ------------------------------------------------------------------------------------------

    def says(self, *words: str, check: bool = True, **environ: str) -> str:
        """What a program says on stdout, run as on a login node."""
        done = subprocess.run(
            words, env=self.environ | environ, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: str, *options: str) -> str:
        """Submit a batch script of bash; the job's number. What it prints lies in `output`."""
        path = self.folder / f"script-{time.monotonic_ns()}.sh"
        path.write_text(f"#!/bin/bash\n{script}")
        said = self.says("sbatch", "--parsable", f"--output={self.folder}/job-%j.out", *options, str(path))
        return said.strip().partition(";")[0]

    def output(self, job: str) -> str:
        """What a job has printed so far."""
        path = self.folder / f"job-{job}.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def state(self, job: str) -> str:
        """A job's state: PENDING, RUNNING, COMPLETED, CANCELLED, TIMEOUT..."""
        found = re.search(r"JobState=(\S+)", self.says("scontrol", "show", "job", job))
        return found[1] if found else ""

    def until_over(self, job: str) -> str:
        """Wait for a job's end; its last state."""
        over = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL"}
        self.until(f"job {job} is over", lambda: self.state(job) in over, job)
        return self.state(job)

    def until(self, what: str, holds: Callable[[], Any], job: str = "") -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                logs = "".join(p.read_text(errors="replace")[-2000:] for p in sorted(self.folder.glob("*.log")))
                pytest.fail(f"in vain: {what}\n{self.output(job)}\n{logs}")
            time.sleep(0.05)

    def report(self, *paths: str | Path) -> dict[str, Any]:
        """What `aiocarbon report` makes of journals."""
        words = (sys.executable, "-m", "aiocarbon", "report", *map(str, paths), "--json", "-")
        told: dict[str, Any] = json.loads(self.says(*words))
        return told


def free_ports(n: int) -> list[int]:
    """Ports that nobody uses now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def have(programs: Sequence[str]) -> bool:
    """Whether all these programs are there."""
    return all(shutil.which(name, path=PATH) for name in programs)


def install() -> None:
    """Install SLURM, or skip the tests with the reason."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a SLURM of one's own needs Linux and root")
    if have(DAEMONS):
        return
    if not have(("apt-get",)):
        pytest.skip("there is no SLURM, and no apt-get to install it with")
    quiet = {"env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, "capture_output": True, "check": False}
    for words in (("update", "-qq"), ("install", "-y", "-qq", "--no-install-recommends", *PACKAGES)):
        done = subprocess.run(("apt-get", *words), **quiet)  # type: ignore[call-overload] # the keywords are right
    if not have(DAEMONS):
        pytest.skip(f"SLURM could not be installed: {done.stderr.decode(errors='replace')[-300:]}")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    install()
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
