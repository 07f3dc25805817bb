"""Hunting a planted fault: draw cases until one shows it, then make that one small.

A divergence counts only if the same case, judged with the fault taken out, does not show it: Keras has divergences of
its own. Nor does one in the last places count that is rightly called rounding: a plain mean over batches of one size
differs by an ulp from a weighted one, and where it differs by more is what is looked for. Nor one of the weights that
a slot made of them shows a stage before they do: the hunt goes on to a case that has the fault where it enters.

Two ways lead there. `hunt` judges drawn cases at first sight and applies the passes alone, which is fast; `search` is
what `conformance run` does, Hypothesis's shrinker and second runs included.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from faults import Fault
from hypothesis import HealthCheck, Phase, given, seed, settings

from conformance.arm import Placement
from conformance.build import parts
from conformance.case import Case, from_json
from conformance.deviations import ROUNDING_ULPS
from conformance.events import CaseStarted, Event
from conformance.judge import judge_case
from conformance.minimize import Shrinking, confirmed, signatures
from conformance.plan import Plan
from conformance.search import Search
from conformance.stage import Stage
from conformance.strategies import cases
from conformance.verdict import Observation, Verdict

SEED = 20250
EXAMPLES = 100
SHRINK_SECONDS = 30.0
"""For the hunts through `Search`, whose time is Hypothesis's too."""
NO_CLOCK, ATTEMPTS = float("inf"), 60
"""For the others: a count, so that a loaded machine finds the same minimal case."""
ROUNDED = "/logs/numeric_precision"
"""In the signature of what is reported with other last places."""
OF_WEIGHTS = ("_average", "_linear")
"""How the slots end whose values are made of weights: EMA's averages, and the linear term of Ftrl."""


@dataclass(frozen=True)
class Quarry:
    """A fault that was found.

    Attributes:
        drawn: how many cases it took.
        case: the case it was found in.
        seen: what was found there.
        verdict: the verdict, in full, on the smallest case, with the fault's observation first.
        seconds: how long it took to find and to minimize.
        attempts: how many smaller cases were tried.
    """

    drawn: int
    case: Case
    seen: Observation
    verdict: Verdict
    seconds: tuple[float, float]
    attempts: int

    @property
    def smallest(self) -> Case:
        """The smallest case that shows the fault."""
        assert self.verdict.case is not None
        return self.verdict.case

    @property
    def told(self) -> Observation:
        """What the smallest case shows."""
        return self.verdict.observations[0]


class Planted:
    """A fault that is in Keras, and can be left out for a while.

    Attributes:
        fault: the fault.
    """

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Planted:
        self._stack.enter_context(self.fault.planted())
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def absent(self) -> Iterator[None]:
        """Keras as it is."""
        self._stack.close()
        try:
            yield
        finally:
            self._stack.enter_context(self.fault.planted())


def plan_of(fault: Fault) -> Plan:
    """The fewest and cheapest arms that can show a fault: eager steps are not traced.

    What `fit` and the loop share, the loop cannot show, so that is looked for in `fit` alone, held against the referee.
    """
    trainers = ("fit",) if fault.shared else ("fit", "loop")
    replicas = () if fault.replicas == 1 else (Placement(fault.replicas, mirrored=True),)
    return Plan(trainers, (Placement(), *replicas), ("eager",))


class _EnoughError(BaseException):
    """Ends the drawing, as no `Exception` does: those Hypothesis takes for a failing example."""


@functools.cache
def drawn(replicas: int = 1, count: int = EXAMPLES) -> tuple[Case, ...]:
    """The first cases that the default strategy draws, each once, the same ones on every call."""
    found: dict[Case, None] = {}

    @settings(
        max_examples=10 * count,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @seed(SEED)
    @given(cases(replicas=replicas))
    def draw(case: Case) -> None:
        found[case] = None
        if len(found) == count:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        draw()
    return tuple(found)


def hunt(fault: Fault) -> Quarry | None:
    """Judge drawn cases at first sight until one shows the fault, and simplify that one; None if none does."""
    plan, started = plan_of(fault), time.monotonic()
    with Planted(fault) as planted:
        for index, case in enumerate(drawn(plan.replicas)):
            seen = own(case, plan, planted)
            if seen is None:
                continue
            found = time.monotonic()
            shrinking = Shrinking(case, seen, plan, NO_CLOCK, most=ATTEMPTS)
            verdict = confirmed(shrinking, shrinking.simplified(case), plan)
            seconds = (found - started, time.monotonic() - found)
            return Quarry(index + 1, case, seen, verdict, seconds, shrinking.attempts)
    return None


@dataclass(frozen=True)
class Sight:
    """Where a fault was first seen: after how many cases, and what that case shows only with the fault."""

    drawn: int
    news: tuple[Observation, ...]
    seconds: float


def first_sight(fault: Fault) -> Sight | None:
    """Judge drawn cases until one shows the fault, and leave it at that; None if none does."""
    plan, started = plan_of(fault), time.monotonic()
    with Planted(fault) as planted:
        for index, case in enumerate(drawn(plan.replicas)):
            found = news(case, plan, planted)
            if any(_counts(item.signature) and _at_its_stage(item, fault) for item in found):
                return Sight(index + 1, found, time.monotonic() - started)
    return None


def own(case: Case, plan: Plan, planted: Planted) -> Observation | None:
    """The first that the case shows only with the fault, and that counts."""
    found = news(case, plan, planted)
    return next((item for item in found if _counts(item.signature) and _at_its_stage(item, planted.fault)), None)


def news(case: Case, plan: Plan, planted: Planted) -> tuple[Observation, ...]:
    """All that the case shows only with the fault."""
    observations = judge_case(case, plan, quick=True).observations
    if not observations:
        return ()
    with planted.absent():
        without = signatures(judge_case(case, plan, quick=True))
    return tuple(item for item in observations if item.signature not in without)


def _counts(signature: str) -> bool:
    return ROUNDED not in signature


def _at_its_stage(seen: Observation, fault: Fault) -> bool:
    """Whether it is more than a unit in the last place, and not the weights' fault in a slot that is made of them."""
    found = seen.divergence
    if found.ulps is not None and found.ulps <= ROUNDING_ULPS:
        return False
    in_slot = found.stage is Stage.UPDATE and found.variable.endswith(OF_WEIGHTS)
    return not (in_slot and fault.stage == Stage.WEIGHTS.value)


class _FoundError(Exception):
    """Ends a search with its first finding."""


def search(fault: Fault) -> Quarry | None:
    """Find the fault as `conformance run` finds one; None if it does not."""
    plan, began = plan_of(fault), time.monotonic()
    started: list[Case] = []
    quarry: list[Quarry] = []
    claimed: list[float] = []
    with Planted(fault) as planted:

        def emit(event: Event) -> None:
            if isinstance(event, CaseStarted):
                started.append(from_json(event.case))

        def claim(signature: str) -> bool:
            if not _counts(signature):
                return False
            with planted.absent():
                new = signature not in signatures(judge_case(started[-1], plan, quick=True))
            if new:
                claimed.append(time.monotonic())
            return new

        def found(verdict: Verdict, case: Case, attempts: int, seconds: float) -> None:
            seen = next(item for item in judge_case(case, plan).observations if item.signature == verdict.signature)
            quarry.append(Quarry(len(started), case, seen, verdict, (claimed[0] - began, seconds), attempts))
            raise _FoundError

        with contextlib.suppress(_FoundError):
            Search(
                plan,
                worker=0,
                examples=EXAMPLES,
                seconds=None,
                seed=SEED,
                shrink_seconds=SHRINK_SECONDS,
                known=frozenset(),
                claim=claim,
                emit=emit,
                found=found,
            ).run()
    return quarry[0] if quarry else None


SEARCHED = frozenset({"regularization_omitted", "partial_batch_dropped", "optimizer_state_reset"})
"""The faults that are looked for with `search`; the others with `hunt`."""


def way_of(fault: Fault) -> Callable[[Fault], Quarry | None]:
    """How a fault is looked for."""
    return search if fault.name in SEARCHED else hunt


def layers_with_weights(case: Case) -> int:
    """How many layers of a case's model have weights."""
    return sum(bool(layer.weights) for layer in parts(case).model().layers)
