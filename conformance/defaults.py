"""What a session of tests asks for where a test does not say: set by the pytest plugin.

`conformance.given` takes the arms and what is known from here, `conformance.assert_conforms` what is known, the limits
that hold for every assertion of a session, and who keeps its verdicts. Without a session there is nothing of all that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.verdict import Verdict

    Keep = Callable[[Verdict, Any, Mapping[str, Any]], tuple[Verdict, str | None]]
    """Keeps the verdict of an assertion, told the loop and the other arguments; gives it with its repro, if one was
    written, and the folder of its first finding, if there is one."""


@dataclass(frozen=True)
class Defaults:
    """The arms of a judgement that names none.

    Attributes:
        replicas: numbers of replicas, as `conformance.check` takes them.
        executions: names of executions, as `conformance.check` takes them.
        known: signatures that are no news.
        max_retraces: how often an arm of the user's loop may trace functions beyond the first time; None for no limit.
        keep: keeps the verdicts of assertions; None where nobody does.
    """

    replicas: tuple[int, ...] = (1,)
    executions: tuple[str, ...] = ("graph",)
    known: frozenset[str] = frozenset()
    max_retraces: int | None = None
    keep: Keep | None = None


_current = Defaults()


def current() -> Defaults:
    """The defaults of this process."""
    return _current


def use(defaults: Defaults) -> None:
    """Make these the defaults of this process."""
    global _current  # noqa: PLW0603 - a process runs one session at a time, and a decorator has nobody to ask
    _current = defaults


def settle(verdict: Verdict, train_step: Any, arguments: Mapping[str, Any]) -> Verdict:
    """What an assertion makes of a verdict: what the session knows is known, all of it is kept, and news are raised.

    Args:
        verdict: the verdict.
        train_step: the loop on trial, or None.
        arguments: what else `conformance.assert_conforms` was given.

    Returns:
        The verdict, which conforms.

    Raises:
        DivergenceError: when it does not.
        RetracedError: where an arm of the user's loop traced functions more often than is allowed.
    """
    __tracebackhide__ = True
    verdict, folder = with_known(verdict, _current.known), None
    if _current.keep is not None:
        verdict, folder = _current.keep(verdict, train_step, arguments)
    if not verdict.conforms:
        from conformance.failure import divergence_error

        raise divergence_error(verdict, report=folder)
    hold(verdict)
    return verdict


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
