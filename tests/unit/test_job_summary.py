"""The summary of a job: what came of the run, within the size that is shown, whatever the findings say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from conformance.baseline import Known
from conformance.cli.writers import GITHUB, writers
from conformance.errors import UsageError
from conformance.events import (
    BaselineCompared,
    CaseJudged,
    Event,
    FindingMade,
    Occurrence,
    Problem,
    RunEnded,
    WorkerDied,
    WorkerReady,
)
from conformance.finding import Environment
from conformance.reports.job_summary import REFUSED, ROOM, JobSummary
from conformance.stage import Stage
from conformance.verdict import ArmReport, Cause, Divergence, Observation, Verdict, verdict_to_data

HOSTILE = (
    "\x1b[31m`|<b>@all #1\x1b]0;title\x07 ]( http://x.y \r\x00\u202e \"\"\" ''' \\ {x} ${y} ``` </details>"
    " [a](b) _c_ *d*\ud800"
)
LONG = "<b>|`" * 20_000


def judged(signature: str = "trainer/loss/x", text: str = "said", outcome: str = "diverges") -> CaseJudged:
    divergence = Divergence(
        arms=("trial/single/graph", "fit/single/graph"),
        axis="trainer",
        step=0,
        stage=Stage.LOSS,
        variable=text,
        magnitude=float("inf"),
        allowed=0.0,
        message=text,
    )
    cause = Cause(name="mask_ignored", explanation=text, advice=text, evidence=(text,))
    seen = Observation(divergence=divergence, cause=cause, signature=signature, wrong_arm="trial/single/graph")
    verdict = Verdict(
        case=None, verdict=outcome, arms=(ArmReport(arm="fit/single/graph", status="ran"),), observations=(seen,)
    )
    data = verdict_to_data(verdict)
    return CaseJudged(index=0, seconds=0.1, outcome=outcome, signatures=(signature,), message=text, verdict=data)


def made(signature: str = "trainer/loss/x", text: str = "smallest", repro: str = "") -> FindingMade:
    return FindingMade(
        signature=signature,
        message=text,
        cause="mask_ignored",
        explanation=text,
        advice=text,
        wrong_arm=None,
        folder=text,
        repro=repro,
        repro_status="reproduced",
        layers=1,
        attempts=3,
        seconds=1.0,
    )


def ended(**given: Any) -> RunEnded:
    return RunEnded(**{"outcomes": {}, "signatures": {}, "findings": 0, "seconds": 1.0, "report": "out", **given})


def text(*events: Event, room: int = ROOM) -> str:
    summary = JobSummary()
    for event in events:
        summary(event)
    return summary.text(room)


def test_a_finding_is_one_row_with_the_cases_that_showed_it() -> None:
    said = text(judged(), judged(), made(), judged("other/x"), ended())
    assert said.startswith("## Conformance: 2 findings in 3 cases\n")
    rows = [line for line in said.splitlines() if line.startswith("| ")][2:]
    assert rows == [
        "| smallest | `mask_ignored` | not decided | 2 | reproduced |",
        "| said | `mask_ignored` | `trial/single/graph` | 1 | none |",
    ]
    assert said.count("<details>") == said.count("</details>") == 2
    assert said.count("Advice: said") == 2


def test_a_run_without_findings_says_so() -> None:
    event = CaseJudged(index=0, seconds=0.1, outcome="conforms")
    said = text(event, ended())
    assert said.startswith("## Conformance: no finding in 1 case\n")
    assert "Cases: 1 conforms." in said


def test_versions_problems_and_what_was_not_judged_are_said() -> None:
    environment = Environment("3.11", "2.21.0", "3.15.1", "2.4", "0.1", "linux", "2 x CPU")
    unsupported = CaseJudged(
        index=0,
        seconds=0.1,
        outcome="unsupported",
        message="no",
        verdict=verdict_to_data(Verdict(case=None, verdict="unsupported")),
    )
    lost = WorkerDied(reason="killed by SIGKILL", path="crashes/a.json")
    events = (WorkerReady(environment=environment), unsupported, unsupported, lost, Problem(message="left out"))
    said = text(*events, ended())
    for told in ("TensorFlow `2.21.0`, Keras `3.15.1`", "unsupported: no (2 times)", "killed by SIGKILL", "left out"):
        assert told in said


@pytest.mark.parametrize("last", [(), (ended(interrupted=True),)], ids=["cut off", "interrupted"])
def test_a_run_that_did_not_end_by_itself_says_so(last: tuple[Event, ...]) -> None:
    assert "and the run did not end by itself" in text(judged(), *last)


def test_known_findings_are_no_news_and_those_that_are_gone_are() -> None:
    told = BaselineCompared(
        source="known.json",
        cases=1,
        occurred=(Occurrence(known=Known("trainer/loss/x", "It is known."), cases=1),),
        gone=(Occurrence(known=Known("trainer/loss/y", "It was known.")),),
    )
    said = text(judged(outcome="known"), told, ended())
    assert said.startswith("## Conformance: no finding in 1 case\n")
    assert "| mask" not in said
    assert "It is known." in said
    assert "**No longer occurs:**\n\n- `trainer/loss/y`: It was known. (not seen in 1 case, which is no proof)" in said


def test_the_script_is_folded_in(tmp_path: Path) -> None:
    script = tmp_path / "repro.py"
    script.write_text('print("````")\n')
    said = text(made(repro=str(script)), ended())
    assert '`````python\nprint("````")\n`````' in said
    assert "cannot be read" in text(made(repro=str(tmp_path / "gone.py")), ended())


def test_what_others_say_does_nothing() -> None:
    said = text(judged(HOSTILE, HOSTILE), made(HOSTILE, HOSTILE), Problem(message=HOSTILE), ended())
    assert "\x1b" not in said
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", said)
    # What stands between backticks is shown as it is.
    live = re.sub(r"`[^`\n]*`", "", said)
    for what in ("http://", "@all", "<b>"):
        assert what not in live
    assert live.count("</details>") == live.count("<details>") == 1
    rows = [line for line in said.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
    said.encode("utf-8", "backslashreplace")


def test_a_long_text_is_shortened() -> None:
    assert len(text(judged(text=LONG), Problem(message=LONG), ended())) < 100_000


@pytest.mark.parametrize("room", [ROOM, 20_000, 1_000])
def test_a_summary_that_would_be_too_large_is_cut_and_says_so(room: int) -> None:
    events = [judged(f"trainer/loss/{number}", HOSTILE * 20) for number in range(700)]
    said = text(*events, ended(), room=room)
    assert len(said.encode("utf-8", "backslashreplace")) <= room < REFUSED
    assert said.startswith("## Conformance: 700 findings in 700 cases\n")
    assert re.fullmatch(
        r"\*\*\d+ parts of this summary left out, for it would be too large; the report directory has everything\.\*\*",
        said.splitlines()[-1],
    )
    assert said.count("<details>") == said.count("</details>")


# Where it goes.


def write(*events: Event, summary: str | None = None) -> None:
    for event in events:
        for writer in made_writers(summary):
            writer(event)


_MADE: dict[str | None, Any] = {}


def made_writers(summary: str | None) -> Any:
    return _MADE.setdefault(summary, writers(summary))


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    _MADE.clear()
    monkeypatch.delenv(GITHUB, raising=False)


def test_nobody_who_asked_for_none_gets_one() -> None:
    assert writers(None) == []


def test_a_job_has_one_appended_without_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.md"
    path.write_text("# Before\n")
    monkeypatch.setenv(GITHUB, str(path))
    write(judged(), ended())
    assert path.read_text("utf-8").startswith("# Before\n## Conformance: 1 finding in 1 case\n")


def test_what_is_there_already_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "summary.md"
    path.write_bytes(b"x" * (REFUSED - 100_000))
    monkeypatch.setenv(GITHUB, str(path))
    write(judged(), ended())
    assert path.stat().st_size == REFUSED - 100_000
    assert "so no summary was appended" in capsys.readouterr().err


def test_a_summary_that_cannot_be_appended_does_not_fail_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(GITHUB, str(tmp_path / "nowhere" / "summary.md"))
    write(judged(), ended())
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_that_was_asked_for_holds_this_run_alone(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before")
    write(judged(), ended(), summary=str(path))
    assert path.read_text("utf-8").startswith("## Conformance: 1 finding in 1 case\n")


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no directory"):
        writers(str(tmp_path / "nowhere" / "summary.md"))
    with pytest.raises(UsageError, match=r"--sarif .* is a directory"):
        writers(None, str(tmp_path))
