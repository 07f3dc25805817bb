"""Every case of the corpus is judged as it is recorded."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from conformance import cases
from conformance.arm import parse_placement
from conformance.case import from_json, load_case, to_json
from conformance.errors import UsageError
from conformance.judge import Plan, judge_case

FOLDER = Path(cases.__file__).resolve().parent
TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tf-nightly", "tf-nightly-cpu")


def installed(*distributions: str) -> str:
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    raise AssertionError(f"none of {distributions} is installed")


@pytest.mark.parametrize("entry", cases.entries(), ids=lambda entry: entry.name)
def test_a_case_is_judged_as_recorded(entry: cases.Entry) -> None:
    plan = Plan(placements=tuple(map(parse_placement, entry.placements)), executions=entry.executions)
    verdict = judge_case(cases.load(entry.name), plan)
    recorded = entry.recorded(installed("keras"), installed(*TENSORFLOWS))
    # Versions nobody has looked at: that it can be judged is all that is known.
    assert verdict.arms
    if recorded is not None:
        seen = tuple(item.signature for item in verdict.observations)
        assert (verdict.verdict, seen, verdict.flaky) == (recorded.verdict, recorded.signatures, ()), str(verdict)


def test_the_index_names_every_file_and_no_other() -> None:
    assert sorted(entry.name for entry in cases.entries()) == sorted(
        path.name.removesuffix(".case.json") for path in FOLDER.glob("*.case.json")
    )


@pytest.mark.parametrize("entry", cases.entries(), ids=lambda entry: entry.name)
def test_a_file_is_what_saving_its_case_writes(entry: cases.Entry) -> None:
    text = (FOLDER / f"{entry.name}.case.json").read_text("utf-8")
    assert to_json(from_json(text)) == text
    assert cases.load(entry.name) == load_case(FOLDER / f"{entry.name}.case.json")


@pytest.mark.parametrize("entry", cases.entries(), ids=lambda entry: entry.name)
def test_an_entry_says_who_is_wrong_why_and_what_to_do(entry: cases.Entry) -> None:
    assert entry.explanation.startswith(("Keras is wrong", "Nobody is wrong", "The loop is wrong"))
    assert entry.explanation.endswith(".")
    assert entry.cure.endswith(".")
    assert entry.verdicts
    for recorded in entry.verdicts:
        assert (recorded.verdict == "conforms") == (recorded.signatures == ())


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match=r"'gossip' is not in the corpus; it holds .*scalar_loss"):
        cases.load("gossip")
