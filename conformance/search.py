"""Drawing cases and judging them, one worker's share.

Hypothesis draws; a case with a divergence that nobody has claimed yet is handed to Hypothesis's shrinker, and then the
same sequence of draws is gone through again, with every verdict so far remembered, until nothing new is found in it.
So a search is determined by its seed, a case with two divergences gives two findings, and none is lost to another.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, Verbosity, example, given, settings
from hypothesis import seed as seeded

from conformance import devices
from conformance.case import Case, to_json
from conformance.events import CaseJudged, CaseStarted, DivergenceSeen, Event
from conformance.judge import judge_case
from conformance.minimize import Shrinking, confirmed, signatures
from conformance.plan import Plan
from conformance.strategies import cases
from conformance.verdict import CONFORMS, DIVERGES, KNOWN, RAISES, Observation, Verdict, verdict_to_data, without_steps

ENDLESS = 1_000_000
DRAWS_A_CASE = 20

SHRINK_SHARE = 5
"""A search spends the full time on so many findings; from then on each gets a part of what is left, and less and less,
for a first run that finds a dozen things should end, and the next one takes the baseline and has time for the rest."""


class _StillDivergesError(Exception):
    """What the shrinker keeps alive."""


class _OverError(BaseException):
    """Ends a search from inside a draw; no `Exception`, for those Hypothesis takes for a failing example."""


class Search:
    """One worker's search.

    Args:
        plan: the arms.
        worker: the worker's number.
        examples: how many cases to draw, or None.
        seconds: how long, or None.
        seed: the seed of the draws.
        shrink_seconds: how much of the processor's time to spend on one finding; see `SHRINK_SHARE`.
        known: signatures that are no news.
        claim: says whether a signature is this worker's to minimize; once claimed, never again.
        emit: takes the events.
        found: takes a finding's (verdict, original case, attempts, seconds).
        first: a case that is judged before any is drawn.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        worker: int,
        examples: int | None,
        seconds: float | None,
        seed: int,
        shrink_seconds: float,
        known: frozenset[str],
        claim: Callable[[str], bool],
        emit: Callable[[Event], None],
        found: Callable[[Verdict, Case, int, float], None],
        first: Case | None = None,
    ) -> None:
        self.plan, self.worker, self.seed = plan, worker, seed
        self.examples = ENDLESS if examples is None else examples
        self._end = None if seconds is None else time.monotonic() + seconds
        self._shrink_seconds, self._known, self._claim = shrink_seconds, known, claim
        self._shrink_left = SHRINK_SHARE * shrink_seconds
        self._emit, self._found = emit, found
        self._first = first
        self._left: Case | None = None
        self._verdicts: dict[Case, Verdict] = {}
        self._costs: dict[Case, float] = {}
        self._settled: set[tuple[Case, str]] = set()

    def run(self) -> Case | None:
        """Search until the examples or the time are used up and every finding is made, or this process is spent.

        Returns:
            The case that is to be judged in another process, where this one can train nothing more on replicas.
        """
        while self._once():
            pass
        return self._left

    def _once(self) -> bool:
        """Go through the draws from the beginning up to the next new finding; whether there was one."""
        shrinking: list[Shrinking] = []
        last: list[Case] = []

        @_settings(self.examples, Phase.explicit, Phase.generate, Phase.shrink)
        @seeded(self.seed)
        @given(cases(replicas=self.plan.replicas))
        def explore(case: Case) -> None:
            if not shrinking:
                new = self._new(case)
                if new is not None:
                    self._emit(DivergenceSeen(signature=new.signature, message=new.divergence.message))
                    started.append((time.monotonic(), time.process_time()))
                    seconds = max(min(self._shrink_seconds, self._shrink_left / 3), self._shrink_seconds / 2)
                    shrinking.append(Shrinking(case, new, self.plan, seconds, cost=self._costs[case]))
                    last.append(case)
            # Where the finding has a smallest case already, Hypothesis need not look for one.
            if shrinking and (case == last[0] or (shrinking[0].take_known() is None and shrinking[0](case))):
                last.append(case)
                raise _StillDivergesError

        started: list[tuple[float, float]] = []
        try:
            (explore if self._first is None else example(self._first)(explore))()
        except _OverError:
            return False
        except _StillDivergesError:
            smallest = shrinking[0].simplified(last[-1])
            self._shrink_left = max(0.0, self._shrink_left - (time.process_time() - started[0][1]))
            verdict = confirmed(shrinking[0], smallest, self.plan)
            spent = time.monotonic() - started[0][0]
            self._found(verdict, last[0], shrinking[0].attempts, spent)
            return True
        return False

    def _new(self, case: Case) -> Observation | None:
        """Judge a case; its first divergence that is news and ours, if any."""
        verdict = self._judged(case)
        for item in verdict.observations:
            if item.signature in self._known or (case, item.signature) in self._settled:
                continue
            self._settled.add((case, item.signature))
            if self._claim(item.signature):
                return item
        return None

    def _judged(self, case: Case) -> Verdict:
        if case in self._verdicts:
            return self._verdicts[case]
        over = self._end is not None and time.monotonic() > self._end
        if over or len(self._verdicts) >= self.examples:
            raise _OverError
        if devices.aborted():
            self._left = case
            raise _OverError
        index = len(self._verdicts)
        self._emit(CaseStarted(index=index, case=to_json(case)))
        started, worked = time.monotonic(), time.process_time()
        verdict = judge_case(case, self.plan, alternatives=False)
        if devices.aborted() and self._verdicts:
            # Of the first case of a process a new one would say the same.
            self._left = case
            raise _OverError
        self._verdicts[case], self._costs[case] = verdict, time.process_time() - worked
        self._emit(judged(index, verdict, time.monotonic() - started, self._known))
        return verdict


def _settings(examples: int, *phases: Phase) -> settings:
    return settings(
        # Several draws may give one case; a search is over when it has judged so many cases.
        max_examples=min(ENDLESS, DRAWS_A_CASE * examples),
        database=None,
        deadline=None,
        derandomize=False,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        print_blob=False,
    )


def draw(examples: int, seed: int, replicas: int) -> list[Case]:
    """Draw so many cases, no two the same; they are determined by the seed.

    Args:
        examples: how many.
        seed: the seed of the draws.
        replicas: the most replicas any arm needs.

    Returns:
        The cases in the order in which they were drawn; fewer where no more can be found.
    """
    drawn: dict[Case, None] = {}

    @_settings(examples, Phase.generate)
    @seeded(seed)
    @given(cases(replicas=replicas))
    def collect(case: Case) -> None:
        drawn.setdefault(case)
        if len(drawn) >= examples:
            raise _OverError

    with contextlib.suppress(_OverError):
        collect()
    return list(drawn)


def judged(index: int, verdict: Verdict, seconds: float, known: frozenset[str], path: str | None = None) -> CaseJudged:
    """The event for a verdict; one whose divergences are all known is `known`."""
    found = signatures(verdict)
    outcome = verdict.verdict
    if outcome in (DIVERGES, RAISES) and found and set(found) <= known:
        outcome = KNOWN
    message = verdict.reason or (verdict.divergence.message if verdict.divergence else None)
    if outcome == CONFORMS and verdict.flaky:
        message = f"flaky: {verdict.flaky[0]}"
    # Of a case that was given, who gave it may want every step.
    data = verdict_to_data(verdict if path else without_steps(verdict)) | {"verdict": outcome}
    return CaseJudged(
        index=index,
        seconds=seconds,
        outcome=outcome,
        signatures=found,
        message=message,
        path=path,
        verdict=data,
    )
