"""SARIF: what the schema asks for is there, and a finding points at the user's line, whatever it says."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from conformance.causes import CAUSES
from conformance.cli.writers import writers
from conformance.events import CaseJudged, RunEnded, TrialLoaded
from conformance.place import Place, place_of
from conformance.raised import Raised
from conformance.reports.sarif import FINGERPRINT, results, sarif, text, unjudged
from conformance.reports.sarif_line import line_of
from conformance.stage import Stage
from conformance.verdict import ArmReport, Cause, Divergence, Observation, Verdict, verdict_to_data

HOSTILE = "\x1b[31m[click](http://x.y) {0} \\[x] \u202e\x00 \ud800 <script>"
TRIAL, FIT = "trial/single/graph", "fit/single/graph"

LOOP = """import functools


def twice(function):
    @functools.wraps(function)
    def both(*given):
        return function(*given)
    return both


@twice
@twice
def train_step(model, optimizer, loss_fn, x, y):
    with tape:
        predictions = model(
            x, training=False
        )
        loss = loss_fn(y, predictions)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return loss


class Trainer:
    def step(self, x):
        return self.model(x)

    def __call__(self, model, x, y):
        return 1.0
"""


def verdict(
    stage: Stage = Stage.LOSS,
    *,
    text: str = "said",
    signature: str = "trainer/loss/mask_ignored",
    cause: str = "mask_ignored",
    raised: Raised | None = None,
    outcome: str = "diverges",
) -> Verdict:
    divergence = Divergence(
        arms=(TRIAL, FIT),
        axis="trainer",
        step=0,
        stage=stage,
        variable=text,
        magnitude=0.5,
        allowed=0.0,
        message=text,
    )
    said = Cause(name=cause, explanation=text, advice=text)
    seen = Observation(divergence=divergence, cause=said, signature=signature, wrong_arm=TRIAL)
    arms = (ArmReport(arm=TRIAL, status="raised" if raised else "ran", raised=raised), ArmReport(arm=FIT, status="ran"))
    return Verdict(case=None, verdict=outcome, arms=arms, observations=(seen,))


@pytest.fixture
def loop(tmp_path: Path) -> Any:
    """The names of the loops' module, executed from its file."""
    path = tmp_path / "my loops" / "loops.py"
    path.parent.mkdir()
    path.write_text(LOOP)
    names: dict[str, Any] = {"__file__": str(path)}
    exec(compile(LOOP, str(path), "exec"), names)  # noqa: S102 - as importing it would
    return names


def step_of(loop: Any) -> Place:
    place = place_of(loop["train_step"])
    assert place is not None
    return place


# The place.


def lines(place: Place | None) -> tuple[str, int, int]:
    assert place is not None
    return place.name, place.line, place.last_line


def test_a_function_is_found_behind_what_wraps_it(loop: Any) -> None:
    assert lines(place_of(loop["train_step"])) == ("train_step", 11, 21)
    assert lines(place_of(functools.partial(loop["train_step"], None))) == ("train_step", 11, 21)
    assert lines(place_of(loop["Trainer"]().step)) == ("step", 25, 26)
    assert lines(place_of(loop["Trainer"]())) == ("__call__", 28, 29)


def test_what_was_never_in_a_file_has_no_place() -> None:
    names: dict[str, Any] = {}
    exec("def typed(): ...", names)  # noqa: S102 - as somebody at a prompt does
    assert place_of(names["typed"]) is None
    assert place_of(len) is None


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        (Stage.OUTPUTS, 15),
        (Stage.LOSS, 18),
        (Stage.LOCAL_GRADIENT, 19),
        (Stage.GRADIENT, 19),
        (Stage.UPDATE, 20),
        (Stage.WEIGHTS, 20),
        (Stage.BATCH, 13),
        (Stage.LOGS, 13),
    ],
)
def test_the_call_that_makes_a_stage_is_pointed_at_or_else_the_def(loop: Any, stage: Stage, line: int) -> None:
    place = step_of(loop)
    assert line_of(place, stage) == line


def test_a_call_of_an_attribute_is_one_too(loop: Any) -> None:
    place = place_of(loop["Trainer"]().step)
    assert place is not None
    assert line_of(place, Stage.OUTPUTS) == 26
    assert line_of(place, Stage.LOSS) == 25


@pytest.mark.parametrize(
    "source", [None, "def broken(:\n", "x = 1\n", "\x00"], ids=["gone", "broken", "changed", "null"]
)
def test_a_file_that_cannot_be_read_is_pointed_at_as_far_as_it_is_known(tmp_path: Path, source: str | None) -> None:
    path = tmp_path / "loops.py"
    if source is not None:
        path.write_text(source)
    assert line_of(Place("f", str(path), 7, 9), Stage.LOSS) == 7


# The results.


def test_a_line_that_raised_is_pointed_at(loop: Any) -> None:
    place = step_of(loop)
    inside = Raised("ValueError", "no", line=f"{place.file}:16: ), training=False: x")
    outside = Raised("ValueError", "no", line=f"{place.file}:2: import")
    other = Raised("ValueError", "no", line="/elsewhere.py:16: x")
    found = [results(verdict(raised=raised), place)[0].line for raised in (inside, outside, other)]
    assert found == [16, 18, 18]


@pytest.mark.parametrize("outcome", ["conforms", "known", "unsupported"])
def test_what_is_no_news_gives_no_results(loop: Any, outcome: str) -> None:
    assert results(verdict(outcome=outcome), step_of(loop)) == []


def test_what_was_not_judged_is_said() -> None:
    assert unjudged(Verdict(case=None, verdict="unsupported", reason="no GPU")) == "unsupported: no GPU"
    assert unjudged(Verdict(case=None, verdict="raises", reason="both")) == "raises: both"
    assert unjudged(verdict(outcome="raises")) is None
    assert unjudged(Verdict(case=None, verdict="conforms")) is None


def log(loop: Any, root: Path, *verdicts: Verdict, notes: tuple[str, ...] = ()) -> dict[str, Any]:
    found = [item for one in verdicts for item in results(one, step_of(loop))]
    data: dict[str, Any] = json.loads(text(sarif(found, notes, root)))
    return data


def assert_valid(data: dict[str, Any]) -> None:
    """The properties that the schema requires of each object that is written, and the values it allows."""
    assert data["version"] == "2.1.0"
    assert data.keys() == {"$schema", "version", "runs"}
    for run in data["runs"]:
        assert run["tool"]["driver"]["name"]
        rules = run["tool"]["driver"]["rules"]
        assert len({rule["id"] for rule in rules}) == len(rules)
        for rule in rules:
            assert {rule[name]["text"] != "" for name in ("shortDescription", "fullDescription", "help")} == {True}
            assert "helpUri" not in rule
        for note in run["invocations"][0]["toolExecutionNotifications"]:
            assert note["message"]["text"]
            assert note["level"] in ("none", "note", "warning", "error")
        assert isinstance(run["invocations"][0]["executionSuccessful"], bool)
        for result in run["results"]:
            assert result["message"]["text"]
            assert result["level"] == "error"
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
            assert result["occurrenceCount"] >= 1
            assert result["partialFingerprints"][FINGERPRINT]
            (location,) = result["locations"]
            assert location["physicalLocation"]["region"]["startLine"] >= 1
            uri = location["physicalLocation"]["artifactLocation"]["uri"]
            assert not set(uri) & set(' \\"<>^`{|}')


def test_a_log_has_what_the_schema_requires(loop: Any, tmp_path: Path) -> None:
    others = (verdict(cause="clip_kind", signature="b"), verdict(Stage.UPDATE, cause="clip_kind", signature="c"))
    data = log(loop, tmp_path, verdict(), *others, notes=("unsupported: no",))
    assert_valid(data)
    (run,) = data["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["clip_kind", "mask_ignored"]
    assert len(run["results"]) == 3
    rule = run["tool"]["driver"]["rules"][1]
    assert rule["help"]["text"].startswith(CAUSES["mask_ignored"].advice[:20])


def test_a_log_without_findings_is_one_too(loop: Any, tmp_path: Path) -> None:
    data = log(loop, tmp_path)
    assert_valid(data)
    assert data["runs"][0]["results"] == []


def test_one_finding_of_several_cases_is_one_result(loop: Any, tmp_path: Path) -> None:
    (result,) = log(loop, tmp_path, verdict(), verdict(), verdict())["runs"][0]["results"]
    assert result["occurrenceCount"] == 3
    assert result["partialFingerprints"] == {FINGERPRINT: "trainer/loss/mask_ignored"}


def test_a_file_below_the_directory_is_named_from_there_and_another_by_its_whole_path(
    loop: Any, tmp_path: Path
) -> None:
    def artifact(root: Path) -> dict[str, str]:
        (result,) = log(loop, root, verdict())["runs"][0]["results"]
        place: dict[str, str] = result["locations"][0]["physicalLocation"]["artifactLocation"]
        return place

    assert artifact(tmp_path) == {"uri": "my%20loops/loops.py", "uriBaseId": "%SRCROOT%"}
    (tmp_path / "other").mkdir()
    assert artifact(tmp_path / "other") == {"uri": (tmp_path / "my loops" / "loops.py").resolve().as_uri()}


def test_what_others_say_is_text_and_no_link_or_placeholder(loop: Any, tmp_path: Path) -> None:
    data = log(loop, tmp_path, verdict(text=HOSTILE, cause="unexplained"), notes=(HOSTILE, "x" * 9_999))
    assert_valid(data)
    (run,) = data["runs"]
    told = [run["results"][0]["message"]["text"]]
    told += [note["message"]["text"] for note in run["invocations"][0]["toolExecutionNotifications"]]
    for said in told:
        assert said.isprintable()
        assert "{0}" not in said.replace("{{0}}", "")
        assert len(said) < 9_000
    assert r"\[click\](http://x.y) {{0}} \\\[x\]" in told[0]
    assert text(data).isascii()


def test_a_rule_of_what_keras_is_known_to_do_otherwise_has_its_own_words(loop: Any, tmp_path: Path) -> None:
    data = log(loop, tmp_path, verdict(cause="averaged_every_step", text="It averages twice."))
    assert data["runs"][0]["tool"]["driver"]["rules"][0]["fullDescription"]["text"] == "It averages twice."


# The writer of `check --loop`.


def judged(one: Verdict, outcome: str = "diverges") -> CaseJudged:
    return CaseJudged(index=0, seconds=0.1, outcome=outcome, verdict=verdict_to_data(one))


def written(path: Path, *events: Any) -> dict[str, Any]:
    (writer,) = writers(None, str(path))
    for event in (*events, RunEnded(outcomes={}, signatures={}, findings=0, seconds=1.0, report="")):
        writer(event)
    data: dict[str, Any] = json.loads(path.read_text("utf-8"))
    assert_valid(data)
    return data["runs"][0]  # type: ignore[no-any-return]


def test_the_run_of_a_loop_writes_its_findings_at_its_lines(loop: Any, tmp_path: Path) -> None:
    place = step_of(loop)
    loaded = TrialLoaded(name=place.name, file=place.file, line=place.line, last_line=place.last_line)
    run = written(tmp_path / "out.sarif", loaded, judged(verdict()), judged(verdict(signature="known"), "known"))
    (result,) = run["results"]
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 18}


def test_findings_of_a_loop_without_a_file_are_not_lost(tmp_path: Path) -> None:
    run = written(tmp_path / "out.sarif", judged(verdict()))
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"] == "no file of the loop is known: trainer/loss/mask_ignored"
