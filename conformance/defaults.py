"""What a session of tests asks for where a test does not say: set by the pytest plugin.

`conformance.given` takes the arms and what is known from here, `conformance.assert_conforms` the limits that hold for
every assertion of a session.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance.verdict import Verdict


@dataclass(frozen=True)
class Defaults:
    """The arms of a judgement that names none.

    Attributes:
        replicas: numbers of replicas, as `conformance.check` takes them.
        executions: names of executions, as `conformance.check` takes them.
        known: signatures that are no news.
        max_retraces: how often an arm of the user's loop may trace functions beyond the first time; None for no limit.
    """

    replicas: tuple[int, ...] = (1,)
    executions: tuple[str, ...] = ("graph",)
    known: frozenset[str] = frozenset()
    max_retraces: int | None = None


_current = Defaults()


def current() -> Defaults:
    """The defaults of this process."""
    return _current


def use(defaults: Defaults) -> None:
    """Make these the defaults of this process."""
    global _current  # noqa: PLW0603 - a process runs one session at a time, and a decorator has nobody to ask
    _current = defaults


def hold(verdict: Verdict) -> None:
    """Hold a verdict against the limits of this process.

    Raises:
        RetracedError: where an arm of the user's loop traced functions more often than is allowed.
    """
    __tracebackhide__ = True
    from conformance.costs import beyond
    from conformance.errors import RetracedError

    told = beyond(verdict.costs, _current.max_retraces)
    if told is not None:
        raise RetracedError(told, verdict)


def with_known(verdict: Verdict, known: Collection[str]) -> Verdict:
    """The verdict, `known` where these signatures have every divergence of it, else with the news first."""
    from msgspec.structs import replace

    from conformance.verdict import DIVERGES, KNOWN, RAISES

    if not known or verdict.verdict not in (DIVERGES, RAISES) or not verdict.observations:
        return verdict
    news = [item for item in verdict.observations if item.signature not in known]
    if not news:
        return replace(verdict, verdict=KNOWN)
    old = [item for item in verdict.observations if item.signature in known]
    return replace(verdict, observations=(*news, *old))
