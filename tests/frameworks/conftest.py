"""What the tests of all frameworks share: a machine whose joules are known, and warnings of frameworks let be."""

from __future__ import annotations

import os
from typing import Any

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture
def known() -> dict[str, Any]:
    """Settings of a tracker in whose figures nothing is looked up."""
    return {"meters": "simulated:250", "location": "DK", "pue": 1.0, "interval_s": 0.05}
