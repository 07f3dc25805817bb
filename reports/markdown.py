"""A finding as the issue one would file, and a run as a page.

What a case or an exception says is escaped by `conformance.reports.text`: a message cannot break a table, open a tag,
mention a person or close a fence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from conformance.case import to_json
from conformance.finding import NOT_RUN, Finding
from conformance.reports.referee import ABOUT, against_referee, clause_of
from conformance.reports.summary import summary
from conformance.reports.text import code, fence, markdown
from conformance.reports.words import REFEREE, in_words
from conformance.verdict import ArmReport, Divergence, Expected

_SHOWN = 8
"""A quantity with more elements is left to the script."""


def report(finding: Finding, script: str) -> str:
    """A finding as Markdown.

    Args:
        finding: the finding.
        script: its repro script; empty where none can be written.

    Returns:
        Markdown, ending in a newline.
    """
    blocks = [
        f"# {title(finding)}",
        *_happened(finding),
        *_cause(finding),
        "## Arms",
        _arms(finding.verdict.arms),
        *_rounding(finding),
        *_script(finding, script),
        *_case(finding),
        "## Environment",
        _table(("", ""), [(name, code(value)) for name, value in msgspec.to_builtins(finding.environment).items()]),
        f"Signature: {code(finding.signature)}",
    ]
    return "\n\n".join(blocks) + "\n"


def title(finding: Finding) -> str:
    """The finding in one sentence of Markdown."""
    found = finding.observation.divergence
    seen, wanted = (markdown(in_words(arm)) for arm in found.arms)
    raised = {arm.arm: arm.raised for arm in finding.verdict.arms if arm.raised and arm.arm in found.arms}
    for arm, error in raised.items():
        other = wanted if arm == found.arms[0] else seen
        return f"{markdown(in_words(arm))} raises {markdown(error.kind)} where {other} trains"
    ratio = f"{found.ratio:.4g} times that of" if found.ratio is not None else "differs from"
    what = f"{markdown(found.stage.value.replace('_', ' '))} of {code(found.variable)}"
    return f"{seen}: {what} {'is ' if found.ratio is not None else ''}{ratio} {wanted}"


def _happened(finding: Finding) -> list[str]:
    found, wrong = finding.observation.divergence, finding.observation.wrong_arm
    decided = f"Wrong is {code(wrong)}." if wrong else "Which of the two is wrong is not decided."
    blocks = [markdown(found.message), decided]
    if against_referee(found):
        blocks.append(f"It is held against {markdown(in_words(REFEREE))}. {markdown(ABOUT)}")
    if found.axis == REFEREE and len(finding.verdict.arms) > 1:
        told = "Every trainer that was judged there does the same, so holding them against one another shows nothing."
        blocks.append(told)
    expected = [_expected(found), *_definition(finding)]
    return ["## What happened", *blocks, _numbers(found), "## Expected", *expected]


def _definition(finding: Finding) -> list[str]:
    """The clause that is not kept, where the cause says which."""
    from conformance.referee.semantics import escaped, sources

    clause = clause_of(finding.observation.cause.name, finding.verdict.case)
    if clause is None:
        return []
    where = f"clause {clause.number} of {code('docs/semantics.md')}"
    return [f"By definition ({where}): {escaped(clause.sentence)}", f"Source: {'; '.join(sources(clause))}"]


def _numbers(found: Divergence) -> str:
    when = [("step", found.step), ("epoch", found.epoch)]
    rows = [
        ("arms", " against ".join(code(arm) for arm in found.arms)),
        ("follows", "neither trainer, distribution nor execution" if found.axis == REFEREE else markdown(found.axis)),
        *((name, str(value)) for name, value in when if value is not None),
        ("stage", code(found.stage.value)),
        ("quantity", code(found.variable)),
        ("off by", f"{found.magnitude:.6g}" if math.isfinite(found.magnitude) else "not comparable"),
        ("allowed", f"{found.allowed:.3g}" if found.allowed else "0: the same bits are due"),
        *([("units in the last place", str(found.ulps))] if found.ulps is not None else []),
        *([("ratio", f"{found.ratio:.6g}")] if found.ratio is not None else []),
        *([("expected", _values(found.expected))] if found.expected is not None else []),
    ]
    return _table(("", ""), rows)


def _values(expected: Expected) -> str:
    if len(expected.values) > _SHOWN:
        return f"{len(expected.values)} numbers"
    return code(" ".join(f"{float.fromhex(value):.9g}" for value in expected.values))


def _expected(found: Divergence) -> str:
    seen, wanted = (code(arm) for arm in found.arms)
    if against_referee(found):
        within = f", within {found.allowed:.3g}" if found.allowed else ""
        return f"{seen} gives what training is by definition{within}."
    if not math.isfinite(found.magnitude):
        return f"{seen} does what {wanted} does."
    how = f"within {found.allowed:.3g}" if found.allowed else "bit for bit"
    return f"{seen} and {wanted} agree {how}."


def _cause(finding: Finding) -> list[str]:
    cause = finding.observation.cause
    exact = "It reproduces every step within rounding." if cause.exact else "It was not shown to reproduce every step."
    evidence = "\n".join(f"- {markdown(line)}" for line in cause.evidence)
    return [
        f"## Cause: {code(cause.name)}",
        markdown(cause.explanation),
        *([exact] if cause.name != "unexplained" else []),
        *([evidence] if evidence else []),
        f"Advice: {markdown(cause.advice)}",
    ]


def _arms(arms: tuple[ArmReport, ...]) -> str:
    rows = []
    for arm in arms:
        said = str(arm.raised) if arm.raised else arm.reason or ""
        rows.append((code(arm.arm), markdown(arm.status), f"{arm.seconds:.2f}", markdown(said)))
    return _table(("arm", "status", "seconds", "reason"), rows)


def _rounding(finding: Finding) -> list[str]:
    """The differences that are no divergences."""
    if not finding.verdict.rounding:
        return []
    told = "\n".join(f"- {markdown(message)}" for message in finding.verdict.rounding)
    why = (
        f"These differences are no divergences ({code('rounding_amplified')}): both arms took every step as the referee"
        " does, and rounding alone has grown between them."
    )
    return ["## Rounding", why, told]


def _script(finding: Finding, script: str) -> list[str]:
    if not script:
        return ["## Script", "No script can be written for this finding."]
    status = f"In a clean process: **{markdown(finding.repro_status)}**."
    printed = [] if finding.repro_status == NOT_RUN else [fence(finding.repro_output, "text")]
    return ["## Script", fence(script, "python"), status, *printed]


def _case(finding: Finding) -> list[str]:
    cases = [("Minimal case", finding.verdict.case), ("The case it was found in", finding.original)]
    told = [
        f"<details><summary>{name}</summary>\n\n{fence(to_json(case), 'json')}\n\n</details>"
        for name, case in cases
        if case is not None
    ]
    tried = f"{finding.attempts} smaller cases were tried on the way to the minimal one."
    return ["## Case", *told, *([tried] if finding.attempts else [])]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


__all__ = ["report", "summary", "title"]
