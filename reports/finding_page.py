"""A finding as a page: every sentence of its report, decided once for all writers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from conformance.case import Case, to_json
from conformance.costs import Costs, partial, retraced
from conformance.finding import NOT_RUN, REPRODUCED, Finding
from conformance.history import History
from conformance.margin import Margins, ratio_of
from conformance.raised import Raised
from conformance.reports.chart import heat, plot
from conformance.reports.graph import graph
from conformance.reports.known import recorded
from conformance.reports.page import Cell, Definition, FindingPage, Reason, Script, Table
from conformance.reports.referee import ABOUT, against_referee, clause_of
from conformance.reports.text import lines, quoted
from conformance.reports.words import (
    AXES,
    QUANTITIES,
    REFEREE,
    STAGES,
    TEXTBOOK,
    amount,
    counted,
    in_words,
    times,
    when,
)
from conformance.verdict import EVERY_ARM, ArmReport, Divergence, Expected, Observation

_SHOWN = 8
"""A quantity with more elements is left to the script."""

_ULPS = 1_000
"""A distance of more units in the last place says nothing that the amount does not."""


def finding_page(finding: Finding, script: str, histories: Sequence[History] = ()) -> FindingPage:
    """The page of a finding.

    Args:
        finding: the finding.
        script: its repro script; empty where none can be written.
        histories: in which versions its script was tried, a package each.
    """
    item, verdict = finding.observation, finding.verdict
    found = item.divergence
    comparisons = ordered(verdict.comparisons, found)
    shown = telling(comparisons, found)
    return FindingPage(
        title=title(finding),
        verdict=_verdict(finding),
        wrong=item.wrong_arm or "",
        stage=found.stage.value,
        happened=tuple(_happened(finding)),
        numbers=_numbers(found, _raised(finding)),
        traceback="" if (raised := _raised(finding)) is None else lines(raised[1].traceback or ""),
        expected=tuple(_expected(found)),
        definition=_definition(item, verdict.case),
        reason=_reason(item),
        recorded=recorded(item.signature, finding.environment, histories),
        arms=_arms(verdict.arms, verdict.costs),
        rounding=verdict.rounding,
        heats=tuple(heat(each) for each in comparisons),
        alone=_alone(comparisons, found),
        plot=None if shown is None else plot(shown, found.stage),
        graph=None if verdict.case is None else graph(verdict.case, item),
        script=_script(finding, script),
        cases=tuple(_cases(finding)),
        tried=_tried(finding.attempts),
        environment=table_of(_environment(finding)),
        words=_words(finding),
        signature=item.signature,
    )


def title(finding: Finding) -> str:
    """The finding in one sentence."""
    found = finding.observation.divergence
    seen, wanted = (in_words(arm) for arm in found.arms)
    raised = _raised(finding)
    if raised is not None:
        arm, error = raised
        if found.axis == EVERY_ARM:
            return f"Every arm raises {error.kind}{f' in layer {quoted(error.named)}' if error.named else ''}"
        other = wanted if arm == found.arms[0] else seen
        told = f"{in_words(arm)} raises {error.kind} where {other} trains"
        return told[0].upper() + told[1:] if told.startswith("a custom") else told
    ratio = _times(found)
    what = QUANTITIES[found.stage].format(quoted(found.variable))
    told = f"{seen}: {what} {f'is {ratio} that' if ratio else 'differs from that'} of {wanted}"
    return told[0].upper() + told[1:] if seen.startswith("a custom") else told


def _raised(finding: Finding) -> tuple[str, Raised] | None:
    """The one of the finding's two arms that raised, and what."""
    of = finding.observation.divergence.arms
    raised = [(arm.arm, arm.raised) for arm in finding.verdict.arms if arm.raised is not None and arm.arm in of]
    return raised[0] if raised else None


def _times(found: Divergence) -> str:
    """The constant ratio in words; nothing where there is none, or it reads as 1."""
    if found.ratio is None or f"{found.ratio:.4g}" == "1":
        return ""
    return f"{found.ratio:.4g} times"


def _verdict(finding: Finding) -> str:
    wrong = finding.observation.wrong_arm
    if finding.observation.divergence.axis == EVERY_ARM:
        return "No arm is wrong more than another: the model or its parts are."
    if not wrong:
        return "Which of the two is wrong is not decided."
    words = in_words(wrong)
    told = f"Wrong is {words} ({quoted(wrong)})" if words != wrong else f"Wrong is {quoted(wrong)}"
    shared = finding.observation.divergence.axis == REFEREE and len(finding.verdict.arms) > 1
    return f"{told}{', and every other trainer that was judged there with it' if shared else ''}."


def _happened(finding: Finding) -> list[str]:
    found = finding.observation.divergence
    told = [_amounts(finding)]
    if against_referee(found):
        told.append(f"It is held against {in_words(REFEREE)}. {ABOUT}")
    if found.axis != REFEREE or len(finding.verdict.arms) > 1:
        told.append(AXES.get(found.axis, ""))
    return [sentence for sentence in told if sentence]


def _amounts(finding: Finding) -> str:
    """Where, how much and how much too much, in a sentence."""
    found = finding.observation.divergence
    raised = _raised(finding)
    if raised is not None:
        stage = f"It had come as far as the stage {quoted(found.stage.value)}, {STAGES[found.stage]}."
        if found.axis == EVERY_ARM:
            return f"{quoted(raised[0])} ends with an exception, and so does every other arm. {stage}"
        return f"{quoted(raised[0])} ends with an exception, the other arm trains to its end. {stage}"
    at = when(found.step, found.epoch)
    if found.step is None and found.epoch is None:
        at = "Over the whole training" if found.stage.value == "batch" else "After training"
    else:
        at = f"At {at}, counted from 0"
    if not math.isfinite(found.magnitude):
        return f"{at}, the two hold other things as {quoted(found.variable)}, so that no amount says how far apart."
    off = f"{at}, {quoted(found.variable)} is off by {amount(found.magnitude)}"
    if not found.allowed:
        return f"{off}, where the same bits are due."
    return f"{off}, where {found.allowed:.2g} is allowed: {times(found.magnitude / found.allowed)} times as much."


def _numbers(found: Divergence, raised: tuple[str, Raised] | None) -> Table:
    if raised is not None:
        arm, error = raised
        where = {word: quoted(text) for word, text in error.rows}
        rows = {"arm": quoted(arm), "exception": quoted(error.kind), "said": error.message, **where}
        return table_of({**rows, "in one line": found.message}, code=False)
    rows = {
        "arms": " against ".join(quoted(arm) for arm in found.arms),
        "stage": f"{quoted(found.stage.value)}, {STAGES[found.stage]}",
        "when": when(found.step, found.epoch),
        "quantity": quoted(found.variable),
        "off by": amount(found.magnitude),
        "allowed": f"{found.allowed:.3g}" if found.allowed else "0: the same bits are due",
    }
    ratio = ratio_of(found.magnitude, found.allowed)
    if math.isfinite(ratio) and found.allowed:
        rows["seen / allowed"] = times(ratio)
    if found.ulps is not None and found.ulps <= _ULPS:
        rows["units in the last place"] = str(found.ulps)
    if found.ratio is not None:
        rows["as a multiple"] = f"{found.ratio:.7g} times what {quoted(found.arms[1])} has"
    if found.expected is not None:
        rows["expected"] = _values(found.expected)
    return table_of({**rows, "in one line": found.message}, code=False)


def _values(expected: Expected) -> str:
    if len(expected.values) > _SHOWN:
        return f"{len(expected.values)} numbers"
    return quoted(" ".join(f"{float.fromhex(value):.9g}" for value in expected.values))


def _expected(found: Divergence) -> list[str]:
    seen, wanted = (quoted(arm) for arm in found.arms)
    if found.axis == EVERY_ARM:
        return ["It trains; or the layer says, in words of its own, what it does not take."]
    if against_referee(found):
        within = f", within {found.allowed:.3g}" if found.allowed else ""
        return [f"{seen} gives what training is by definition{within}."]
    if not math.isfinite(found.magnitude):
        return [f"{seen} does what {wanted} does."]
    how = f"within {found.allowed:.3g}, which is what rounding explains" if found.allowed else "bit for bit"
    return [f"{seen} and {wanted} agree {how}."]


def _definition(item: Observation, case: Case | None) -> Definition | None:
    """The clause that is not kept, where the cause says which."""
    clause = clause_of(item.cause.name, case)
    if clause is None:
        return None
    from conformance.referee.semantics import sources

    pairs = zip(sources(clause), clause.source.split("; "), strict=True)
    return Definition(clause.number, clause.sentence, tuple(pairs))


def _reason(item: Observation) -> Reason:
    cause = item.cause
    certainty = ""
    if cause.name not in ("unexplained", "raises_in_one_arm", "raises_in_every_arm"):
        certainty = (
            "What this cause foretells is what was seen, at every step, within rounding."
            if cause.exact
            else "It was not shown to reproduce every step."
        )
    return Reason(cause.name, cause.explanation, certainty, cause.evidence, cause.advice)


def _arms(arms: tuple[ArmReport, ...], costs: tuple[Costs, ...]) -> Table:
    rows = []
    for arm in arms:
        said = str(arm.raised) if arm.raised else arm.reason or ""
        cost = next((item for item in costs if item.arm == arm.arm), None)
        if cost is not None:
            said = "; ".join(text for text in (said, *retraced((cost,)), *partial((cost,))) if text)
        cells = (Cell(quoted(arm.arm)), Cell(in_words(arm.arm)), Cell(arm.status), _taken(arm.seconds))
        rows.append((*cells, *_cost(cost), Cell(said)))
    names = ("arm", "in words", "status", "seconds", "first step", "a step", "traces", "remarks")
    return Table(names, tuple(rows), frozenset({3, 4, 5, 6}))


def _cost(cost: Costs | None) -> tuple[Cell, Cell, Cell]:
    """The seconds of the first step and of one after it, and how many functions were traced, as far as is known."""
    if cost is None:
        return Cell(""), Cell(""), Cell("")
    traces = Cell("") if cost.traces is None else Cell(str(cost.traces), cost.traces)
    return _taken(cost.first_step), _taken(cost.step, 4), traces


def _taken(seconds: float | None, digits: int = 2) -> Cell:
    return Cell("") if seconds is None else Cell(f"{seconds:.{digits}f}", seconds)


def _script(finding: Finding, script: str) -> Script:
    said = {
        REPRODUCED: "The script was run in a clean process and shows the divergence.",
        NOT_RUN: "The script was not run.",
    }.get(finding.repro_status, "The script was run in a clean process and does not show the divergence there.")
    if not script:
        said = "No script can be written for this finding."
    printed = "" if finding.repro_status == NOT_RUN else finding.repro_output
    return Script(script, finding.repro_status, said, printed)


def _cases(finding: Finding) -> list[tuple[str, str]]:
    cases = [("Minimal case", finding.verdict.case), ("The case it was found in", finding.original)]
    return [(name, to_json(case)) for name, case in cases if case is not None]


def _environment(finding: Finding) -> dict[str, str]:
    told: dict[str, str] = msgspec.to_builtins(finding.environment)
    if finding.imports:
        told["needs"] = " ".join(f"--import {module}" for module in finding.imports)
    return told


def _tried(attempts: int) -> str:
    if not attempts:
        return ""
    were = "was" if attempts == 1 else "were"
    return f"{counted(attempts, 'smaller case')} {were} tried on the way to the minimal one."


def ordered(comparisons: tuple[Margins, ...], found: Divergence) -> list[Margins]:
    """The finding's own comparison, each of its two arms against the referee, then the others."""
    wanted = [found.arms, *((arm, REFEREE) for arm in found.arms)]
    return sorted(comparisons, key=lambda item: wanted.index(item.arms) if item.arms in wanted else len(wanted))


def _alone(comparisons: list[Margins], found: Divergence) -> str:
    """Why the finding's own two arms are not among the comparisons, where they are not."""
    if not comparisons or any(each.arms == found.arms for each in comparisons):
        return ""
    return "The two arms of this finding cannot be held against one another step by step; these are the others."


def telling(comparisons: list[Margins], found: Divergence) -> Margins | None:
    """The comparison whose curves say most: the first of the suspect's in which something is allowed and more was seen.

    Where the same bits are due, the one curve is nothing but 0; another comparison of the same arm shows how far beyond
    rounding it is.
    """
    own = [each for each in comparisons if each.arms == found.arms]
    for each in (*own, *(each for each in comparisons if each.arms[0] == found.arms[0])):
        if any(row.stage is found.stage and row.exceeds and row.allowed for row in each.rows):
            return each
    return own[0] if own else None


def table_of(rows: dict[str, str], *, code: bool = True) -> Table:
    """Names and values as a table."""
    return Table(
        ("what", "value"),
        tuple((Cell(name), Cell(quoted(value) if code else value)) for name, value in rows.items()),
    )


def _words(finding: Finding) -> Table:
    rows = {
        "case": "everything that determines a training: model, losses, optimizer, data, schedule, seed",
        "arm": "one way to run a case, written trainer/placement/execution, as in `fit/mirrored:2/graph`",
        "loop": "the custom training loop as the TensorFlow guide writes it",
        "stage": "a link of one training step; a fault that enters at one shows in all that follow",
        **{stage.value: told for stage, told in STAGES.items()},
        "referee": f"{TEXTBOOK}. {ABOUT}",
        "allowed": "what rounding explains in this very case, measured by moving its inputs by one unit in the last"
        " place; 0 where two trainers run alike, for then the same bits are due",
        "signature": "what makes two findings one and the same: what the difference follows, stage, cause, part",
    }
    return Table(("word", "meaning"), tuple((Cell(quoted(name)), Cell(told)) for name, told in rows.items()))
