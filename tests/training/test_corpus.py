"""Every case of the corpus is judged as it is recorded."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from conformance import cases
from conformance.case import from_json, load_case, to_json
from conformance.cases.make import plan_of, script_of
from conformance.errors import UsageError
from conformance.judge import judge_case

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
    verdict = judge_case(cases.load(entry.name), plan_of(entry))
    recorded = entry.recorded(installed("keras"), installed(*TENSORFLOWS))
    # Versions nobody has looked at: that it can be judged is all that is known.
    assert verdict.arms
    if recorded is not None:
        seen = tuple(item.signature for item in verdict.observations)
        assert (verdict.verdict, seen, verdict.flaky) == (recorded.verdict, recorded.signatures, ()), str(verdict)
        assert unmeasured(script_of(verdict)) == unmeasured(written(entry)), "run python -m conformance.cases.make"


def written(entry: cases.Entry) -> str | None:
    path = cases.repro(entry.name)
    return path.read_text("utf-8") if path.exists() else None


def unmeasured(script: str | None) -> str | None:
    """A script without the numbers that were measured, which end otherwise on another machine.

    Nor has it what TensorFlow said as it raised: its names of nodes are counted through in each process.
    """
    if script is None:
        return None
    told = re.sub(r"(?s)(?<=Actual: ).*?(?=\n(?:Why|Source|Exits)\b)", "#", script)
    return " ".join(re.sub(r"-?\d+\.[\d.]*(e[-+]?\d+)?|\d+e[-+]?\d+", "#", told).split())


def test_a_script_of_the_folder_belongs_to_a_case_that_diverges() -> None:
    diverging = {entry.name for entry in cases.entries() if any(item.signatures for item in entry.verdicts)}
    scripts = {path.name.removesuffix(".repro.py") for path in FOLDER.glob("*.repro.py")}
    assert scripts <= diverging


def test_a_script_is_compared_without_what_was_measured_alone() -> None:
    assert unmeasured("off by 0.125, 2 times\natol=1e-06") == unmeasured("off by 0.1250001, 2 times atol=1.1e-06")
    raised = "Actual: ValueError: at _{}\nplace_{}\nExits with 1"
    assert unmeasured(raised.format(1, 2)) == unmeasured(raised.format(3, 4)) == "Actual: # Exits with 1"
    assert unmeasured("seed(1), 0.5") != unmeasured("seed(2), 0.5")


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
