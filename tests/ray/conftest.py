"""A cluster of two nodes of known simulated watts, for what trains on one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import aiocarbon

ROOT = str(Path(aiocarbon.__file__).parents[1])
WATTS = {"n1": 100.0, "n2": 250.0}


def _environ(folder: Path, name: str) -> dict[str, str]:
    locks = folder / f"locks-{name}"
    locks.mkdir(mode=0o700)
    return {
        "AIOCARBON_NODE": name,
        "AIOCARBON_METERS": f"simulated:{WATTS[name]}",
        "AIOCARBON_LOCK_DIR": str(locks),
        "AIOCARBON_OFFLINE": "true",
        "AIOCARBON_LOCATION": "DK",
        "AIOCARBON_PUE": "1.0",
        "AIOCARBON_CACHE": "none",
        "PYTHONPATH": ROOT,
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # how often Train looks for reports
    }


@dataclass(frozen=True)
class TwoNodes:
    """The cluster: a folder beside it, and the watts of each node by its name, which is a resource of it too."""

    folder: Path
    watts: Mapping[str, float]


@pytest.fixture(scope="module")
def two_nodes(request: pytest.FixtureRequest) -> Iterator[TwoNodes]:
    """Runs for a module; the driver has joined it."""
    import ray
    from ray.cluster_utils import Cluster

    # A short path: Ray's sockets lie in folders below its own, and theirs may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ac2-", ignore_cleanup_errors=True) as name:
        ray.cloudpickle.register_pickle_by_value(request.module)
        folder = Path(name)
        nodes = [
            {"num_cpus": 4, "include_dashboard": False, "env_vars": _environ(folder, node), "resources": {node: 100}}
            for node in WATTS
        ]
        cluster = Cluster(initialize_head=True, head_node_args=nodes[0])
        try:
            cluster.add_node(wait=False, **nodes[1])
            cluster.wait_for_nodes()
            ray.init(address=cluster.address, log_to_driver=False)
            yield TwoNodes(folder, WATTS)
        finally:
            ray.shutdown()
            cluster.shutdown()
