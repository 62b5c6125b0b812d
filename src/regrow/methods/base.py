"""Method: proposes the next topology. Frozen dataclasses of hyper-parameters; a method holds no state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial

from regrow.core.errors import RegrowError
from regrow.core.schedules import Every, Schedule
from regrow.core.site import Clock, Site
from regrow.core.topology import Topology


class Method(ABC):
    """Decides; never learns how its decision is executed.

    Attributes:
        every: when updates are due; None for never.
        replaces_step: an update takes the place of the optimizer step (RigL's original order) or follows it (ITOP's).
        needs: the signals it reads, of "grad", "moment", "dense_grad", "dense_moment", "explored".
    """

    every: Every | None
    replaces_step: bool

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]: ...

    def initial_density(self, density: float | None) -> float | None:
        """The density to start at, so that the run ends at `density`; a method that prunes starts above it."""
        return density

    @abstractmethod
    def births(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None = None) -> Mapping[str, int]:
        """Before the backward pass: an upper bound on growth per site, so that a backend collects enough candidates."""

    @abstractmethod
    def update(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None = None) -> Topology:
        """The next topology. `fraction` takes the place of the scheduled drop fraction (an exploration)."""


def topology_of(sites: Mapping[str, Site]) -> Topology:
    """The topology the sites are on."""
    return Topology(
        {name: site.index for name, site in sites.items()}, {name: site.shape for name, site in sites.items()}
    )


def blind(site: Site, needs: frozenset[str]) -> bool:
    """Has no backward pass reached the site, so that the dense signal its growth needs is missing? Then it stays."""
    return bool(needs & {"dense_grad", "dense_moment"}) and site.candidates is None


def replaced(schedule: Schedule, clock: Clock, fraction: float | None) -> float:
    """p, the share of the active weights that an update replaces: an exploration's, or else the schedule's.

    Raises:
        RegrowError: the schedule leaves [0, 1].
    """
    share = schedule(clock.progress) if fraction is None else fraction
    if not 0.0 <= share <= 1.0:
        raise RegrowError(
            f"fraction={_plain(schedule)} gives {share:g} at {clock.progress:.0%} of the run, but the share of weights "
            "replaced is in [0, 1]"
        )
    return share


def describe(method: Method) -> str:
    """The method and its hyper-parameters in one line, the same in every process."""
    assert is_dataclass(method)
    values = ((field.name, getattr(method, field.name)) for field in fields(method))
    return f"{type(method).__name__}({', '.join(f'{name}={_plain(value)}' for name, value in values)})"


def _plain(value: object) -> str:
    if isinstance(value, partial):  # its own words have the address of the function
        return f"{_plain(value.func)}{value.args}{value.keywords}"
    return getattr(value, "__name__", None) or repr(value)
