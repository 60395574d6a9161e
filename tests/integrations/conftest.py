"""What goes wrong with an engine, for those who look at one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def killed() -> Callable[[Any], None]:
    """Ends an engine, whose host it is given, as an error of its own does."""

    def kill(host: Any) -> None:
        async def fail() -> None:
            raise RuntimeError("scripted")

        async def verb(engine: Any) -> None:
            engine.group.start_soon(fail)

        host.call(verb)
        host._thread.join()

    return kill
