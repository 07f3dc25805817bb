"""One case, calibrated: each arm against itself, and against the referee with every ratio measured in full.

Nothing is made smaller and nothing is explained away. What the judge would report is put into the words it would use,
and is either a signature that the corpus knows or news.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections import Counter

from conformance.arm import Arm
from conformance.attribution import attributed, divergence_of
from conformance.calibration import FAILED, ITSELF, Calibration, Item, Ratios, Worst, ratios
from conformance.case import Case
from conformance.compare import compare
from conformance.errors import UnsupportedError, UsageError
from conformance.plan import Plan
from conformance.prepare import PreparedArm, release
from conformance.referee.departure import Judgement
from conformance.referee.judgement import Referee
from conformance.stage import FINAL
from conformance.trace import Trace
from conformance.training import Training, training


def calibrate(case: Case, plan: Plan, known: frozenset[str] = frozenset(), path: str = "") -> Calibration:
    """Calibrate with one case.

    Args:
        case: the case.
        plan: the arms.
        known: signatures that are no news.
        path: the case's file, by which it is named.

    Raises:
        UsageError: when an arm needs devices that cannot be had.
    """
    try:
        return _Case(training(case), plan, known, path).calibration()
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - a fault of the harness is what is looked for; other cases go on
        traceback.print_exc(file=sys.stderr)
        message = f"{type(error).__name__}: {error}"
        return Calibration(cases=1, failures=(Item(FAILED, path, "", message),))
    finally:
        release()


class _Case:
    def __init__(self, subject: Training, plan: Plan, known: frozenset[str], path: str) -> None:
        self.subject, self.plan, self.path = subject, plan, path
        # Each arm is judged by itself, which has no axis: of two arms that deviate at one stage in different ways, only
        # holding them against one another says which way is whose.
        self._baseline = frozenset(map(_without_axis, known))
        self._repeated = 0
        self._judgements: list[Judgement] = []
        self._known: set[str] = set()
        self._news: dict[str, Item] = {}
        self._raised: Counter[str] = Counter()
        self._unsupported: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._referee: Referee | None = None

    def calibration(self) -> Calibration:
        for arm in self.plan.arms:
            try:
                trace = self._twice(arm)
            except UnsupportedError as error:
                self._unsupported[f"{arm}: {error}"] += 1
                continue
            if trace.error is not None:
                # Numbers are of the case, or of the process; what is counted is the kind of message.
                self._raised[f"{arm}: {trace.error.kind}: {re.sub(r'[0-9]+', 'N', trace.error.message)}"] += 1
                continue
            self._judge(trace)
        self._attribute()
        return Calibration(
            cases=1,
            arms=len(self._judgements),
            repeated=self._repeated,
            compared=sum(item.compared for item in self._judgements),
            stages=self._stages(),
            known=dict.fromkeys(sorted(self._known), 1),
            news=tuple(sorted(self._news.values())),
            raised=dict(self._raised),
            unsupported=dict(self._unsupported),
            skipped=dict(self._skipped),
        )

    def _twice(self, arm: Arm) -> Trace:
        """What an arm does, held against what it does when it is prepared and run anew."""
        prepared = PreparedArm(arm, self.subject)
        trace = prepared.run()
        # What XLA compiles anew, it may fuse otherwise; what it has compiled owes the same bits.
        again = (prepared if arm.execution == "xla" else PreparedArm(arm, self.subject)).run()
        comparison = compare(again, trace)
        self._repeated += comparison.compared
        self._skipped.update(f"against itself: {line}" for line in comparison.skipped)
        first = comparison.first
        if first is not None:
            told = first.note or f"off by {first.magnitude:.4g}, and the same bits are due"
            when = "" if first.step in (None, FINAL) else f"[step {first.step}]"
            message = f"{first.stage.value}{when} {first.name} is another one when {arm} is run again: {told}"
            self._tell(f"{ITSELF}/{first.stage.value}", arm, message)
        return trace

    def _judge(self, trace: Trace) -> None:
        try:
            if self._referee is None:
                self._referee = Referee(self.subject, thorough=True, alternatives=False)
        except UnsupportedError as error:
            self._skipped[f"everything of {trace.arm}: {error}"] += 1
            return
        judgement = self._referee.judge(trace)
        self._judgements.append(judgement)
        self._skipped.update(judgement.skipped)

    def _attribute(self) -> None:
        """Put departures into the judge's words, which attributes those of one execution together."""
        for execution in self.plan.executions:
            judged = {item.arm: item for item in self._judgements if item.arm.execution == execution}
            for told in attributed(judged, self.plan.placements):
                if _without_axis(told.signature) in self._baseline:
                    self._known.add(told.signature)
                else:
                    self._tell(told.signature, told.suspect, divergence_of(told).message)

    def _tell(self, signature: str, arm: Arm, message: str) -> None:
        self._news.setdefault(signature, Item(signature, self.path, str(arm), message))

    def _stages(self) -> dict[str, Ratios]:
        seen: dict[str, list[Worst]] = {}
        for judgement in self._judgements:
            for stage, items in judgement.ratios.items():
                name = stage.value
                places = [Worst(r.value, self.path, str(judgement.arm), name, r.step, r.name) for r in items]
                seen.setdefault(name, []).extend(places)
        return {name: ratios(items) for name, items in seen.items()}


def _without_axis(signature: str) -> str:
    return signature.partition("/")[2]
