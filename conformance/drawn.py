"""`given`: a test over drawn cases, and a user's loop on trial in each of them.

It is `hypothesis.given` over `strategies.cases`, called once and with nothing around it, so that `@settings`,
`@example`, `@seed`, the database and `--hypothesis-seed` are Hypothesis's own. What is added is inside: the case is
judged before the body of the test sees it.

A case that a loop fails on is made smaller by the project's own means, which takes a tenth of the time that Hypothesis
would take (`conformance.first_failure`). What the user's own assertion says of a case or a verdict is nobody's to know
but Hypothesis's, which shrinks it as it shrinks anything.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hypothesis import Phase, settings
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from conformance import strategies
from conformance.case import Case
from conformance.case_code import code_of
from conformance.defaults import current, with_known
from conformance.errors import UsageError
from conformance.failure import divergence_error
from conformance.first_failure import SECONDS, FirstFailure, Within, supported
from conformance.untraced import Untraced

if TYPE_CHECKING:
    from conformance.plan import Plan
    from conformance.verdict import Observation, Verdict

CASE, VERDICT = "case", "verdict"
"""The arguments that a test may have beside its fixtures."""

MARK = "_conformance_given"
"""What is left on the test for the pytest plugin: the loop, or None."""

MOST_VERDICTS = 100
"""So many are remembered; which a test needs again it needs soon."""

_AROUND = 2
"""The lines that Hypothesis shows around a case: the call of the test."""

_FIRST = "_conformance_first_failure"
"""What is left on a test that takes neither: its `FirstFailure`."""

Test = Callable[..., Any]

_UNNAMED = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,
)


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
    weighted: bool | None = None,
) -> Callable[[Test], Test]:
    """Run a test on drawn cases, with Hypothesis.

    The test takes `case`, `verdict`, both, or neither where a loop is on trial; its other arguments are fixtures.
    `verdict` is the judgement of the loop on the case, or of `fit` against the guide's loop where none is given. A test
    that takes it says itself what it should be. Otherwise a case that the loop does not conform on fails the test,
    before its body runs. Cases that cannot be judged are passed over, as an event of Hypothesis's statistics.

    Under the pytest plugin what the session's baseline knows is no failure, and Hypothesis's own deadline of 200 ms
    does not hold, for a training takes longer; one that `@settings` names does.

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
        weighted: whether some cases have sample weights; by default where no loop is on trial, or one that takes
            `sample_weight`, for any other would leave them out.

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
    asked: dict[str, Any] = {
        "layers": _once(layers),
        "losses": _once(losses),
        "optimizers": _once(optimizers),
        "feeds": _once(feeds),
        "kinds": _once(kinds),
        "precisions": _once(precisions),
    }
    cases = strategies.cases(
        replicas=max(counts),
        max_layers=max_layers,
        weighted=loop is None or _weighs(loop) if weighted is None else weighted,
        **asked,
    )
    within = Within(**asked)

    judged: dict[Case, Verdict] = {}

    def judge(case: Case) -> Verdict:
        """The verdict on a case, each judged once: Hypothesis asks of some several times."""
        from conformance.api import check

        __tracebackhide__ = True
        if case in judged:
            return judged[case]
        verdict = with_known(check(loop, case=case, replicas=counts, executions=names), current().known)
        if len(judged) >= MOST_VERDICTS:
            del judged[next(iter(judged))]
        judged[case] = verdict
        return verdict

    def minimize(case: Case, observation: Observation, allowed: Callable[[Case], bool]) -> Verdict:
        """The verdict on the smallest case with an observation; on this one where no judge confirms another."""
        from conformance.api import plan_of
        from conformance.judge import judge_case
        from conformance.minimize import minimized

        def show(other: Case, plan: Plan, *, quick: bool = False) -> Verdict:
            return with_known(judge_case(other, plan, loop, quick=quick), current().known)

        plan = plan_of(loop, counts, names)
        try:
            return minimized(case, observation, plan, SECONDS, judge=show, within=allowed)
        except AssertionError:
            return judge(case)

    def decorate(test: Test) -> Test:
        signature = inspect.signature(test)
        takes = {name for name in (CASE, VERDICT) if name in signature.parameters}
        if not takes and loop is None:
            raise UsageError(
                f"{test.__name__}{signature} takes neither case nor verdict, and there is no loop to judge"
            )
        unnamed = [name for name, item in signature.parameters.items() if item.kind in _UNNAMED]
        if unnamed:
            raise UsageError(f"{test.__name__}{signature} takes {unnamed[0]!r} by its place; name every argument")
        seen = _without_verdict(signature)
        first = FirstFailure(f"{test.__module__}.{test.__qualname__}", judge, minimize, within)

        @functools.wraps(test)
        def inner(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            arguments = seen.bind(*args, **kwargs).arguments
            case = arguments[CASE]
            if VERDICT in takes:
                with Untraced():
                    arguments[VERDICT] = supported(judge(case))
            elif loop is not None:
                with Untraced():
                    if first.passes_over(case):
                        return None
                    failed = first.of(case)
                    if failed is not None:
                        raise divergence_error(failed, beside=len(code_of(case)) + _AROUND)
            if CASE not in takes:
                del arguments[CASE]
            return test(**arguments)

        inner.__signature__ = seen  # type: ignore[attr-defined]
        made: Any = hypothesis_given(case=_untraced(cases, first.instead))(inner)
        _stand(made, test)
        first.code = made.__code__
        setattr(made, MARK, loop)
        if not takes:
            setattr(made, _FIRST, first)
        test_made: Test = made
        return test_made

    return decorate


@st.composite
def _untraced(draw: st.DrawFn, cases: st.SearchStrategy[Case], instead: Callable[[Case], Case]) -> Case:
    """Draw a case out of sight of Hypothesis's tracer, and show what stands in its place."""
    with Untraced():
        return instead(draw(cases))


def _stand(made: Any, test: Any) -> None:
    """Let what Hypothesis made say that it stands where the user's function does: tracebacks show that line."""
    code = getattr(test, "__code__", None)
    if code is not None:
        made.__code__ = made.__code__.replace(co_filename=code.co_filename, co_firstlineno=code.co_firstlineno)


def settle(test: Test) -> None:
    """Change of a test's settings what trainings do not bear, before it is run.

    The deadline that Hypothesis gives to every test is lifted. A test that sees nothing of the case needs no shrinking
    by Hypothesis, for what a loop fails on is made smaller here; so it stops at the first case that fails.

    `@settings` stands above `given`, so it can be done only when both are through with the test.
    """
    name = "_hypothesis_internal_use_settings"
    told = getattr(test, name, None)
    if told is None:
        return
    if told.deadline == settings.get_profile("default").deadline:
        told = settings(told, deadline=None)
    first = getattr(test, _FIRST, None)
    if first is not None and Phase.shrink in told.phases:
        first.shrinks = True
        told = settings(told, phases=[phase for phase in told.phases if phase not in (Phase.shrink, Phase.explain)])
    setattr(test, name, told)


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


def _once(given: Any) -> Any:
    """An iterator's names as a tuple; what is wrong with others is said by who takes them."""
    return tuple(given) if isinstance(given, Iterator) else given


def _weighs(loop: Callable[..., Any]) -> bool:
    """Whether a loop can use sample weights; what is wrong with a loop is said by who takes it."""
    try:
        return "sample_weight" in inspect.signature(loop).parameters
    except (TypeError, ValueError):
        return False


def _without_verdict(signature: inspect.Signature) -> inspect.Signature:
    """The signature that Hypothesis sees: the case, and the fixtures that pytest fills in."""
    kept = [item for name, item in signature.parameters.items() if name not in (CASE, VERDICT)]
    place = sum(item.kind is item.POSITIONAL_OR_KEYWORD for item in kept)
    kept.insert(place, inspect.Parameter(CASE, inspect.Parameter.POSITIONAL_OR_KEYWORD))
    return signature.replace(parameters=kept)
