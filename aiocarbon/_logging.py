"""Loggers of aiocarbon: structlog's bound loggers over the standard library's, configured by nobody but the user.

`structlog.configure` is never called, no handler but a `NullHandler` is added, and structlog itself is imported when
the first event is logged, because its import takes longer than everything else of aiocarbon together.
"""

from __future__ import annotations

import os
from typing import Any

DEBUG, WARNING, ERROR = 10, 30, 40
"""The levels of the standard library's logging, which is imported on use: it takes 10 ms."""


class Logger:
    """A named logger; events are dotted constants, facts are keys with units."""

    def __init__(self, name: str) -> None:
        self._name = f"aiocarbon.{name}"
        self._bound: Any = None

    def _logger(self) -> Any:
        if self._bound is None:
            import logging

            import structlog

            self._bound = structlog.wrap_logger(
                logging.getLogger(self._name),
                wrapper_class=structlog.stdlib.BoundLogger,
                processors=[
                    structlog.stdlib.filter_by_level,
                    structlog.stdlib.add_log_level,
                    structlog.processors.format_exc_info,
                    structlog.processors.KeyValueRenderer(key_order=["event"]),
                ],
                context_class=dict,
                cache_logger_on_first_use=False,
            )
        return self._bound

    def _is_heard(self, level: int) -> bool:
        """True if somebody listens: else structlog need not even be imported."""
        import logging

        root = logging.getLogger("aiocarbon")
        if not any(isinstance(handler, logging.NullHandler) for handler in root.handlers):
            root.addHandler(logging.NullHandler())
        logger: logging.Logger | None = logging.getLogger(self._name)
        if logger is None or not logger.isEnabledFor(level):
            return False
        while logger is not None:
            if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False

    def warning(self, event: str, **facts: Any) -> None:
        """Log something that a user should know; call it once per cause."""
        self._say(WARNING, event, facts)

    def debug(self, event: str, **facts: Any) -> None:
        """Log a detail."""
        self._say(DEBUG, event, facts)

    def error(self, event: str, **facts: Any) -> None:
        """Log a failure of the instrument."""
        self._say(ERROR, event, facts)

    def _say(self, level: int, event: str, facts: dict[str, Any]) -> None:
        if self._is_heard(level):
            try:
                bound = self._logger()
            except OSError:  # structlog cannot be loaded, as no file can be opened: what is logged is in reports too
                return
            bound.log(level, event, **facts)


def get_logger(name: str) -> Logger:
    """The logger "aiocarbon.<name>"."""
    return Logger(name)


def why(error: BaseException | None) -> str:
    """What an error says, where it was raised and what it came from; of a group, what each one in it says."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(why, error.exceptions))
    trace = error.__traceback__ if error is not None else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})" if trace is not None else ""
    cause = f", from {why(error.__cause__)}" if error is not None and error.__cause__ is not None else ""
    return f"{type(error).__name__}: {error}{place}{cause}"
