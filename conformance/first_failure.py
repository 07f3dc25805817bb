"""The first case that a loop fails on in a run of a drawn test, and the smallest one it is made into.

The key idea is that Hypothesis goes on as it is, and is given nothing to do. When a loop fails on a drawn case, that is
made smaller on the spot by `conformance.minimize`, which leaps where Hypothesis takes away choice by choice, asks only
whether the same finding shows, and does that without graphs where it can. From then on the strategy draws the smallest
case wherever it would draw the first, so that it is what Hypothesis judges again and prints; and no case that was not
judged before is judged in that run, so that its shrinker ends at once. Of what is drawn nothing else changes: the
choices are the same, and so the database, `@reproduce_failure` and the seed mean what they meant.

What a case was made into is kept in Hypothesis's database beside the choices, so that it is not looked for again.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import CodeType, FrameType

from hypothesis import Phase, event, reject, settings
from hypothesis.control import current_build_context

from conformance.case import Case, from_json, owner_of, to_json
from conformance.errors import CaseError
from conformance.verdict import UNSUPPORTED, Observation, Verdict

SECONDS = 20.0
"""How much of the processor's time is spent on making a case smaller; few need half of it."""

_KEY = b"conformance.smallest "

Judge = Callable[[Case], Verdict]
Minimize = Callable[[Case, Observation, Callable[[Case], bool]], Verdict]


@dataclass(frozen=True)
class Within:
    """What a smaller case may have: what the user asks for, and what the case has that it is made from."""

    layers: Collection[str] | None = None
    losses: Collection[str] | None = None
    optimizers: Collection[str] | None = None
    feeds: Collection[str] | None = None
    kinds: Collection[str] | None = None
    precisions: Collection[str] | None = None

    def holds(self, case: Case, first: Case) -> bool:
        """Whether a case made from another could be drawn, as far as names go."""
        had = _names(first)
        return all(
            asked is None or names <= {*asked, *had[what]}
            for what, names in _names(case).items()
            if (asked := getattr(self, what)) is not None
        ) and (case.data.sample_weight is None or first.data.sample_weight is not None)


def _names(case: Case) -> dict[str, set[str]]:
    return {
        "layers": {owner_of(case.model, node).layer or "" for node in case.model.nodes},
        "losses": {loss.name for loss in case.losses},
        "optimizers": {case.optimizer.name},
        "feeds": {case.data.feed},
        "kinds": {case.model.kind},
        "precisions": {case.precision},
    }


class FirstFailure:
    """The verdicts of a drawn test that fails by itself where its loop does not conform.

    Args:
        test: what the test is called, for what is kept in the database.
        judge: judges a case in full.
        minimize: gives the verdict on the smallest case, of those a function accepts, that has an observation of the
            verdict on a case.
        within: what a smaller case may have.
    """

    def __init__(self, test: str, judge: Judge, minimize: Minimize, within: Within) -> None:
        self._test, self._judge, self._minimize, self._within = test, judge, minimize, within
        self._failed: dict[Case, Verdict] = {}
        self._passed: set[Case] = set()
        self._smallest: dict[Case, Case] = {}
        self._run: FrameType | None = None
        self.code: CodeType | None = None
        """The code of the function that Hypothesis made: a run of the test is a frame of it."""
        self.shrinks = False
        """Whether to shrink although the settings leave it out, for it was taken out of them."""

    def instead(self, case: Case) -> Case:
        """The case to show in the place of a drawn one."""
        return self._smallest.get(case, case)

    def passes_over(self, case: Case) -> bool:
        """Whether a case is not to be judged: the run has failed already, and by the smallest case there is."""
        if case in self._failed or case in self._passed:
            return False
        run = self._running()
        return run is not None and run is self._run

    def of(self, case: Case) -> Verdict | None:
        """The verdict on a case where it fails; None where it passes."""
        if case in self._failed or case in self._passed:
            return self._failed.get(case)
        run = self._running()
        shrinks = run is not None and self._may_shrink()
        verdict = self._kept(case) if shrinks else None
        if verdict is None:
            verdict = supported(self._judge(case))
            if verdict.conforms:
                self._passed.add(case)
                return None
            if shrinks and verdict.observations:
                verdict = self._minimize(case, verdict.observations[0], lambda other: self._within.holds(other, case))
        if shrinks and verdict.observations:
            self._run = run
            self._take(case, verdict)
        self._failed[case] = verdict
        return verdict

    def _take(self, case: Case, verdict: Verdict) -> None:
        """Show the case of a verdict in the place of another, from now on and in later sessions."""
        smallest = verdict.case
        assert smallest is not None
        self._smallest[case] = smallest
        self._failed[smallest] = verdict
        if (database := _told().database) is not None:
            for old in list(database.fetch(self._key(case))):
                database.delete(self._key(case), old)
            database.save(self._key(case), to_json(smallest).encode())

    def _kept(self, case: Case) -> Verdict | None:
        """The verdict on what an earlier session made of a case, where it fails still."""
        database = _told().database
        for kept in () if database is None else list(database.fetch(self._key(case))):
            try:
                smallest = from_json(kept)
            except CaseError:
                # From another release, or of a layer that is no longer registered.
                continue
            if self._within.holds(smallest, case):
                verdict = self._judge(smallest)
                if verdict.observations and not verdict.conforms:
                    return verdict
        return None

    def _key(self, case: Case) -> bytes:
        return _KEY + hashlib.sha256(f"{self._test}\n{to_json(case)}".encode()).hexdigest().encode()

    def _may_shrink(self) -> bool:
        """Whether what fails now may shrink: not an explicit example, nor what Hypothesis runs for the last time."""
        wanted = self.shrinks or Phase.shrink in _told().phases
        return wanted and not current_build_context().is_final

    def _running(self) -> FrameType | None:
        """The run that is on: the frame of what Hypothesis made, for a test may run many times in one process."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code is not self.code:
            frame = frame.f_back
        return frame


def supported(verdict: Verdict) -> Verdict:
    """The verdict, unless it says that nothing can be said: then Hypothesis passes the case over, and counts it."""
    if verdict.verdict == UNSUPPORTED:
        event(f"unsupported: {verdict.reason}")
        reject()
    return verdict


def _told() -> settings:
    """The settings of the test that runs."""
    told = settings.default
    assert told is not None
    return told
