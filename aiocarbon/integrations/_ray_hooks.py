"""What the callbacks for Ray's trainings share: what they need, how they fail, and how figures become metrics."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from aiocarbon._core.metrics import PREDICTED, PREFIX, REMAINING, metrics
from aiocarbon._logging import get_logger
from aiocarbon.errors import BudgetExceededError, ConfigError
from aiocarbon.integrations._ray_nodes import version_note

if TYPE_CHECKING:
    from aiocarbon.integrations._ray_accountant import Figures

log = get_logger("ray")

P = ParamSpec("P")
T = TypeVar("T")


def require(module: str) -> None:
    """See whether Ray is there; one of another major version than was tried is told.

    Args:
        module: Who asks.

    Raises:
        ImportError: It is not.
    """
    if find_spec("ray") is None:
        raise ImportError(f"aiocarbon.integrations.{module} needs Ray: pip install 'aiocarbon[ray]'", name="ray")
    try:
        note = version_note(version("ray"))
    except PackageNotFoundError:  # a Ray that was built by hand: nobody says which it is
        return
    if note:
        warn(note)


def needs(module: str, error: ImportError, ray_extra: str) -> ImportError:
    """What is raised where a part of Ray lacks a package: it names what installs it."""
    line = f"pip install 'aiocarbon[ray]' 'ray[{ray_extra}]'"
    return ImportError(f"aiocarbon.integrations.{module} needs {ray_extra} of Ray ({error}): {line}", name="ray")


def harmless(hook: Callable[P, T]) -> Callable[P, T | None]:
    """Let an error of the instrument cost a training its figures, and nothing else; a budget is no such error."""

    @functools.wraps(hook)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return hook(*args, **kwargs)
        except (BudgetExceededError, ConfigError):
            raise
        except Exception as error:  # whatever it is, the training is worth more than its figures
            warn(f"the instrument failed ({type(error).__name__}: {error}); the training goes on")
        return None

    return guarded


@functools.cache
def warn(message: str) -> None:
    """Tell something once in this process: hooks are called often."""
    log.warning("ray.training", why=message)
    try:
        warnings.warn(f"aiocarbon: {message}", RuntimeWarning, stacklevel=3)
    except RuntimeWarning:  # where warnings are errors, this one is none of the training
        return


def flat(figures: Figures | None, now_s: float) -> dict[str, float]:
    """Figures as keys such as "carbon/energy_kwh"; what is not known has no key.

    Args:
        figures: What the accountant said.
        now_s: Unix time; "carbon/age_s" tells how much older the figures are.
    """
    if figures is None or figures.used is None or figures.as_of_s is None:
        return {}
    found = {**metrics(figures.used), f"{PREFIX}age_s": max(now_s - figures.as_of_s, 0.0)}
    if figures.prediction is not None:
        fields = {f"predicted_{name}": name for name in PREDICTED} | {
            name: name for name in (f"remaining_{figure}" for figure in REMAINING)
        }
        for key, name in fields.items():
            value = getattr(figures.prediction, name)
            if value is not None:
                found[f"{PREFIX}{key}"] = value
    return found


def places(_: Any = None) -> list[str]:
    """Ray's ids of the nodes of this actor's resources: its own, and those of its placement group."""
    import ray
    from ray.util.placement_group import placement_group_table

    own = str(ray.get_runtime_context().get_node_id())
    group = ray.util.get_current_placement_group()
    table = {} if group is None else placement_group_table(group).get("bundles_to_node_id", {})
    return sorted({own, *(str(node) for node in table.values() if node)})


def actor_key(actor_id: str) -> str:
    """The name of the training that an actor is, for callbacks that do not know which trial of Tune that is."""
    return f"actor-{actor_id}"


def trial_id() -> str:
    """The trial of Tune that this process works for; empty if for none."""
    try:
        from ray.train._internal.session import get_session  # the public way warns where there is none

        return str(getattr(get_session(), "trial_id", None) or "")
    except ImportError as error:
        log.debug("ray.no_trial", why=str(error))
        return ""
