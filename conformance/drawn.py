"""`given`: a test over drawn cases, and a user's loop on trial in each of them.

It is `hypothesis.given` over `strategies.cases`, called once and with nothing around it, so that `@settings`,
`@example`, `@seed`, the database, `--hypothesis-seed` and shrinking are Hypothesis's own. What is added is inside: the
case is judged before the body of the test sees it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hypothesis import event, reject
from hypothesis import given as hypothesis_given

from conformance import strategies
from conformance.defaults import current
from conformance.errors import DivergenceError, UsageError
from conformance.failure import failure
from conformance.verdict import UNSUPPORTED

if TYPE_CHECKING:
    from conformance.case import Case
    from conformance.verdict import Verdict

CASE, VERDICT = "case", "verdict"
"""The arguments that a test may have beside its fixtures."""

MARK = "_conformance_given"
"""What is left on the test for the pytest plugin: the loop, or None."""

Test = Callable[..., Any]


def given(
    *,
    loop: Callable[..., Any] | None = None,
    replicas: int | Sequence[int] | None = None,
    executions: Sequence[str] | None = None,
    max_layers: int = 5,
    layers: Iterable[str] | None = None,
    losses: Iterable[str] | None = None,
    optimizers: Iterable[str] | None = None,
    feeds: Iterable[str] | None = None,
    kinds: Iterable[str] | None = None,
    precisions: Iterable[str] = ("float32",),
) -> Callable[[Test], Test]:
    """Run a test on drawn cases, with Hypothesis.

    The test takes `case`, `verdict`, both, or neither where a loop is on trial; its other arguments are fixtures.
    `verdict` is the judgement of the loop on the case, or of `fit` against the guide's loop where none is given. A test
    that takes it says itself what it should be. Otherwise a case that the loop does not conform on fails the test,
    before its body runs. Cases that cannot be judged are passed over, as an event of Hypothesis's statistics.

    Args:
        loop: the loop on trial, as `conformance.check` takes it.
        replicas: numbers of replicas to judge on, as `conformance.check` takes them; N alone is 1 and N. By default the
            session's `--conformance-replicas`, or 1. An epoch has at least a row for each.
        executions: as `conformance.check` takes them; by default the session's, or `graph`.
        max_layers: this and the rest as `conformance.strategies.cases` takes them.
        layers: the layers to draw from.
        losses: the losses to draw from.
        optimizers: the optimizers to draw from.
        feeds: the feeds to draw from.
        kinds: the kinds of models to draw from.
        precisions: the precisions to draw from.

    Raises:
        UsageError: when an argument is out of range, or the test takes neither `case` nor `verdict` and there is no
            loop.

    Example:
        >>> from hypothesis import settings
        >>> @settings(max_examples=3, database=None)
        ... @given(losses=["mean_squared_error"], max_layers=1)
        ... def test_there_is_a_loss_an_output(case):
        ...     assert len(case.losses) == len(case.model.outputs)
        >>> test_there_is_a_loss_an_output()
    """
    counts = _counts(replicas)
    names = current().executions if executions is None else tuple(executions)
    cases = strategies.cases(
        replicas=max(counts),
        max_layers=max_layers,
        layers=layers,
        losses=losses,
        optimizers=optimizers,
        feeds=feeds,
        kinds=kinds,
        precisions=precisions,
    )

    def judged(case: Case) -> Verdict:
        from conformance.api import check

        __tracebackhide__ = True
        verdict = check(loop, case=case, replicas=counts, executions=names)
        if verdict.verdict == UNSUPPORTED:
            event(f"unsupported: {verdict.reason}")
            reject()
        return verdict

    def decorate(test: Test) -> Test:
        signature = inspect.signature(test)
        takes = {name for name in (CASE, VERDICT) if name in signature.parameters}
        if not takes and loop is None:
            raise UsageError(
                f"{test.__name__}{signature} takes neither case nor verdict, and there is no loop to judge"
            )

        @functools.wraps(test)
        def inner(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            case = kwargs.pop(CASE)
            if loop is not None or VERDICT in takes:
                verdict = judged(case)
                if VERDICT in takes:
                    kwargs[VERDICT] = verdict
                elif not verdict.conforms:
                    raise DivergenceError(failure(verdict), verdict)
            if CASE in takes:
                kwargs[CASE] = case
            return test(*args, **kwargs)

        inner.__signature__ = _without_verdict(signature)  # type: ignore[attr-defined]
        made: Test = hypothesis_given(case=cases)(inner)
        setattr(made, MARK, loop)
        return made

    return decorate


def _counts(given: int | Sequence[int] | None) -> tuple[int, ...]:
    """The numbers of replicas to judge on; what is wrong with a number is said by who takes it."""
    if given is None:
        return current().replicas
    if isinstance(given, int):
        return tuple(dict.fromkeys((1, given)))
    counts = tuple(given)
    if not counts or not all(isinstance(count, int) for count in counts):
        raise UsageError(f"replicas={given!r} should be whole numbers, as in (1, 2)")
    return counts


def _without_verdict(signature: inspect.Signature) -> inspect.Signature:
    """The signature that Hypothesis sees: the case, and the fixtures that pytest fills in."""
    kept = [item for name, item in signature.parameters.items() if name not in (CASE, VERDICT)]
    place = sum(item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD) for item in kept)
    kept.insert(place, inspect.Parameter(CASE, inspect.Parameter.POSITIONAL_OR_KEYWORD))
    return signature.replace(parameters=kept)
