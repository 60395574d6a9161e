"""What all tests share: the same examples every time, no time limit on one of them, and no packet to the outside."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# A machine of CI is slow at times; a found example must be found again.
settings.register_profile("aiocarbon", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("aiocarbon")

# A test that wants the network has a local server, and says offline=False and where to keep what it answers.
os.environ["AIOCARBON_OFFLINE"] = "true"
os.environ["AIOCARBON_CACHE"] = "none"

# Tests of jobs make jobs of their own, also where the whole suite runs in one.
for variable in [name for name in os.environ if name.startswith(("SLURM", "TORCHELASTIC", "OMPI_", "PMI", "PMIX"))]:
    del os.environ[variable]

# Tests run beside each other: only those of processes that share a device meet, each in a folder of its own.
os.environ["AIOCARBON_LOCK_DIR"] = "none"


@pytest.fixture
def anyio_backend() -> str:
    """What asks and serves over HTTP stands on aiohttp, which knows asyncio alone."""
    return "asyncio"
