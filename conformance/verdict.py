"""What is said of one case: the verdict and everything that backs it, as plain data.

These types are what the JSON contract shows and what every writer reads; nothing in them needs TensorFlow, NumPy or
the process that judged.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from conformance.case import Case, to_data
from conformance.costs import Costs, retraced
from conformance.margin import Margins, thinned
from conformance.raised import Raised
from conformance.stage import Stage

UNJUDGED = "the referee judges nothing"
"""How a line of what was not compared begins where arms were held against one another alone."""

LOOP = "trial/"
"""How the arms of a loop on trial begin."""

CONFORMS, DIVERGES, KNOWN, RAISES, UNSUPPORTED = "conforms", "diverges", "known", "raises", "unsupported"

EVERY_ARM = "all"
"""The axis of what shows in every arm alike, and follows neither trainer, nor distribution, nor execution."""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What the referee says a quantity should have been, in float64; floats as `float.hex`, which loses nothing."""

    shape: tuple[int, ...]
    values: tuple[str, ...]


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """The first place where two arms differ by more than is allowed.

    Attributes:
        arms: the two arms, the one suspected first.
        axis: what the difference follows: `trainer`, `distribution`, `execution`, `both` (a trainer that is wrong
            only under replicas), or `all` (every arm raises).
        step: the step, from 0; None when it is not one step's (an epoch's logs, an exception).
        epoch: the epoch, from 0, of an epoch's logs.
        stage: the stage.
        variable: the variable's path, or the quantity's name.
        magnitude: largest absolute difference; infinite where shapes or NaNs differ or something is missing.
        allowed: the largest difference that rounding explains; 0 where the same bits are due.
        ulps: largest distance in units in the last place, where it means something.
        ratio: the constant c with first = c x second within the allowance, where there is one other than 1.
        message: seen, wanted and where, in one line.
        expected: of an arm that is held against the referee, what the quantity should have been; None where it is
            large, or no number.
    """

    arms: tuple[str, str]
    axis: str
    step: int | None
    stage: Stage
    variable: str
    magnitude: float
    allowed: float
    message: str
    epoch: int | None = None
    ulps: int | None = None
    ratio: float | None = None
    expected: Expected | None = None


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why.

    Attributes:
        name: a name of the contract; `unexplained` where no deviation reproduces what was seen.
        explanation: a sentence.
        advice: what to write instead, or to do.
        exact: whether the deviation reproduces every step of the arm within rounding.
        evidence: what was seen that speaks for it, a line each.
    """

    name: str
    explanation: str
    advice: str
    exact: bool = False
    evidence: tuple[str, ...] = ()


class ArmReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one arm: `status` is `ran`, `raised` or `unsupported`, the latter two with a reason."""

    arm: str
    status: str
    seconds: float = 0.0
    reason: str | None = None
    raised: Raised | None = None


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One divergence of a case with what follows from it. A case may show several, one an axis."""

    divergence: Divergence
    cause: Cause
    signature: str
    wrong_arm: str | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement of one case.

    Attributes:
        case: the case; None where a user's own parts were judged.
        verdict: `conforms`, `diverges`, `known`, `raises` or `unsupported`.
        arms: what became of each arm.
        observations: the divergences, the gravest first.
        reason: why it is `raises` or `unsupported`.
        repro: where the repro was written.
        compared: how many quantities were compared.
        not_compared: what one arm reports and another does not.
        flaky: divergences that a second run did not repeat, as messages.
        rounding: differences of arms that each took every step as the referee does, so that rounding alone has grown
            between them (`rounding_amplified`), as messages; they are no divergences.
        remarks: what Keras does otherwise than it documents, in all arms alike, where parts or a loop of the user's own
            are judged: no divergence of theirs.
        costs: what the first run of each arm cost: seconds, functions traced, data; no part of the judgement.
        comparisons: of each two arms that were compared, and of each arm that was held against the referee, what was
            seen and what was allowed, a row a step and stage.
    """

    case: Case | None
    verdict: str
    arms: tuple[ArmReport, ...] = ()
    observations: tuple[Observation, ...] = ()
    reason: str | None = None
    repro: str | None = None
    compared: int = 0
    not_compared: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()
    rounding: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    comparisons: tuple[Margins, ...] = ()
    costs: tuple[Costs, ...] = ()

    @property
    def conforms(self) -> bool:
        """Whether every arm agreed, or differs only as a baseline says."""
        return self.verdict in (CONFORMS, KNOWN)

    @property
    def divergence(self) -> Divergence | None:
        """The gravest divergence."""
        return self.observations[0].divergence if self.observations else None

    @property
    def cause(self) -> Cause | None:
        """The cause of the gravest divergence."""
        return self.observations[0].cause if self.observations else None

    @property
    def wrong_arm(self) -> str | None:
        """The arm that is wrong, where the others agree on that."""
        return self.observations[0].wrong_arm if self.observations else None

    @property
    def raised(self) -> Raised | None:
        """What was raised, where that is what is wrong: by the arm that diverges so, or by every arm."""
        found = self.divergence
        if self.verdict != RAISES and (found is None or found.step is not None or found.epoch is not None):
            return None
        arms = [report for report in self.arms if self.verdict == RAISES or (found and report.arm == found.arms[0])]
        return next((report.raised for report in arms if report.raised is not None), None)

    @property
    def signature(self) -> str | None:
        """The signature of the gravest divergence."""
        return self.observations[0].signature if self.observations else None

    @property
    def acquitted(self) -> tuple[str, ...]:
        """The wrong arms, where a loop on trial was judged and none of its arms is one of them; else nothing.

        What is wrong is then `fit` alone, as it is where a last batch splits unevenly over replicas.
        """
        wrong = tuple(dict.fromkeys(item.wrong_arm or "" for item in self.observations))
        loops = [report for report in self.arms if report.arm.startswith(LOOP)]
        judged = loops and all(report.status == "ran" for report in loops) and not self.flaky
        if not judged or any(line.startswith(UNJUDGED) for line in self.not_compared):
            return ()
        return () if any(not arm or arm.startswith(LOOP) for arm in wrong) else wrong

    def __str__(self) -> str:
        head = f"{self.verdict}: {', '.join(report.arm for report in self.arms)}"
        if self.acquitted:
            are = "are" if len(self.acquitted) > 1 else "is"
            head = f"{self.verdict}, and your loop is right: {', '.join(self.acquitted)} {are} wrong"
        lines, raised = [head], self.raised
        if raised is not None:
            lines += [f"  {word}: {text}" for word, text in (("raised", raised.said), *raised.rows)]
        elif self.reason:
            lines.append(f"  {self.reason}")
        for item in self.observations:
            if item.divergence.axis != EVERY_ARM:
                wrong = f"wrong: {item.wrong_arm}" if item.wrong_arm else "which arm is wrong is not decided"
                lines += [f"  {item.divergence.message}", f"  {wrong}"]
            lines.append(f"  {item.cause.name}: {item.cause.explanation}")
            if raised is None:
                lines += [f"    {line}" for line in item.cause.evidence]
            lines.append(f"  advice: {item.cause.advice}")
        lines += [f"  flaky: {message}" for message in self.flaky]
        lines += [f"  rounding_amplified, which is no divergence: {message}" for message in self.rounding]
        lines += [f"  remark: {message}" for message in self.remarks]
        lines += [f"  {line}" for line in self.not_compared if line.startswith(UNJUDGED)]
        lines += [f"  retraced, which is no divergence: {line}" for line in retraced(self.costs)]
        if self.repro:
            lines.append(f"  repro: {self.repro}")
        return "\n".join(lines)


def verdict_to_data(verdict: Verdict) -> dict[str, Any]:
    """The verdict as the JSON object of the command line's contract; floats that JSON lacks travel as strings."""
    first = verdict.observations[0] if verdict.observations else None
    data = {
        "case": None if verdict.case is None else to_data(verdict.case),
        "verdict": verdict.verdict,
        "arms": verdict.arms,
        "divergence": verdict.divergence,
        "wrong_arm": verdict.wrong_arm,
        "cause": verdict.cause,
        "signature": verdict.signature,
        "repro": verdict.repro,
        "reason": verdict.reason,
        "raised": verdict.raised,
        "others": verdict.observations[1:] if first else (),
        "compared": verdict.compared,
        "not_compared": verdict.not_compared,
        "flaky": verdict.flaky,
        "rounding": verdict.rounding,
        "remarks": verdict.remarks,
        "comparisons": verdict.comparisons,
        "costs": verdict.costs,
    }
    return {key: json_safe(msgspec.to_builtins(value)) for key, value in data.items()}


def verdict_from_data(data: dict[str, Any]) -> Verdict:
    """The verdict that `verdict_to_data` wrote."""
    from conformance.case import from_data

    observations = []
    if data.get("divergence"):
        first = {key: data[key] for key in ("divergence", "cause", "signature", "wrong_arm")}
        observations = [first, *data.get("others", ())]
    return Verdict(
        case=None if data["case"] is None else from_data(data["case"]),
        verdict=data["verdict"],
        arms=msgspec.convert(data["arms"], tuple[ArmReport, ...]),
        observations=msgspec.convert(_floats(observations), tuple[Observation, ...]),
        reason=data.get("reason"),
        repro=data.get("repro"),
        compared=data.get("compared", 0),
        not_compared=tuple(data.get("not_compared", ())),
        flaky=tuple(data.get("flaky", ())),
        rounding=tuple(data.get("rounding", ())),
        remarks=tuple(data.get("remarks", ())),
        comparisons=tuple(_margins(item) for item in data.get("comparisons", ())),
        costs=msgspec.convert(data.get("costs", ()), tuple[Costs, ...]),
    )


def without_steps(verdict: Verdict) -> Verdict:
    """The verdict with the furthest-off row of each stage alone in its comparisons, and without tracebacks.

    A search keeps what it says of thousands of cases in one file; a finding of its own has all of it.
    """
    arms = tuple(
        report
        if report.raised is None
        else msgspec.structs.replace(report, raised=msgspec.structs.replace(report.raised, traceback=None))
        for report in verdict.arms
    )
    return msgspec.structs.replace(verdict, arms=arms, comparisons=tuple(thinned(item) for item in verdict.comparisons))


def json_safe(value: Any) -> Any:
    """Plain data with NaN and infinities as the strings `nan`, `inf` and `-inf`."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return value


def _margins(data: dict[str, Any]) -> Margins:
    rows = [
        {key: float(value) if key in ("seen", "allowed", "ratio") else value for key, value in row.items()}
        for row in data.get("rows", ())
    ]
    return msgspec.convert({**data, "rows": rows}, Margins)


def _floats(observations: list[Any]) -> list[Any]:
    restored = []
    for item in observations:
        divergence = dict(item["divergence"])
        for name in ("magnitude", "allowed", "ratio"):
            if isinstance(divergence.get(name), str):
                divergence[name] = float(divergence[name])
        restored.append({**item, "divergence": divergence})
    return restored
