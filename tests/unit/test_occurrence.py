"""What a run says of its baseline: what occurred, what did not, what that proves, and what it comes to."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance import campaign, cases, occurrence
from conformance.baseline import CORPUS, Baseline, Known
from conformance.cli.codes import FAILED, NEWS, OK
from conformance.cli.outcome import Outcome, consume
from conformance.cli.run import hint
from conformance.errors import UsageError
from conformance.events import (
    BaselineCompared,
    CaseJudged,
    CorpusAsked,
    Event,
    Occurrence,
    Problem,
    RunEnded,
    WorkerDied,
    from_line,
)
from conformance.job import Job
from conformance.occurrence import closing, compared
from conformance.reports.terminal import Terminal

ARMS = Job(report="out", trainers=("fit", "loop"), placements=("single", "mirrored:2"), executions=("graph", "eager"))
CLIPNORM = "distribution/gradient/clip_order/clipnorm"
MEANS = "distribution/loss/replica_mean_of_means"


def baseline(*signatures: str) -> Baseline:
    return Baseline(tuple(Known(signature, f"{signature} is known.", link="https://x.y") for signature in signatures))


def names(items: tuple[Occurrence, ...]) -> list[str]:
    return [item.known.signature for item in items]


def told(events: Iterator[Event]) -> tuple[BaselineCompared, list[Event]]:
    *others, last = events
    assert isinstance(last, BaselineCompared)
    return last, [event for event in others if not isinstance(event, CorpusAsked)]


def test_what_occurred_is_counted_by_its_cases_and_the_rest_is_gone() -> None:
    seen = compared(baseline("trainer/a", "both/b"), "known.json", ARMS, {"trainer/a": 3, "other": 1}, 40)
    assert [(item.known.signature, item.cases) for item in seen.occurred] == [("trainer/a", 3)]
    assert names(seen.gone) == ["both/b"]
    assert seen.how(seen.gone[0]) == "not seen in 40 cases, which is no proof"


@pytest.mark.parametrize(
    ("given", "hidden"),
    [
        ({"placements": ("single",)}, ["distribution/x", "both/x"]),
        ({"trainers": ("fit",)}, ["trainer/x", "both/x"]),
        ({"executions": ("graph",)}, ["execution/x"]),
        ({}, []),
    ],
)
def test_what_the_arms_cannot_show_is_not_gone(given: dict[str, Any], hidden: list[str]) -> None:
    known = baseline("trainer/x", "distribution/x", "both/x", "execution/x", "referee/x")
    job = Job(**{**{name: getattr(ARMS, name) for name in ARMS.__struct_fields__}, **given})
    seen = compared(known, "known.json", job, {}, 1)
    assert names(seen.hidden) == hidden
    assert sorted(names(seen.gone) + hidden) == sorted(known.signatures)


def test_a_run_without_a_baseline_says_nothing_of_one() -> None:
    assert list(closing(Baseline(), "", ARMS)({}, 40, True)) == []


@pytest.mark.parametrize(("partial", "more"), [(True, True), (False, False)], ids=["chosen cases", "interrupted"])
def test_a_run_that_is_no_search_to_its_end_calls_nothing_gone(partial: bool, more: bool) -> None:
    ending = closing(baseline("trainer/a", "trainer/b"), "known.json", ARMS, strict=True, partial=partial)
    seen, others = told(ending({"trainer/a": 1}, 1, more))
    assert (names(seen.occurred), seen.gone, seen.hidden, others) == (["trainer/a"], (), (), [])


# Decided by the corpus.


def judging(monkeypatch: pytest.MonkeyPatch, shown: dict[str, tuple[str, ...] | None]) -> list[Job]:
    """Stands in for the workers: each case shows these signatures, or kills its worker; the jobs they were given."""
    jobs: list[Job] = []

    def supervise(given: list[Job], report: Path) -> Iterator[Event]:
        jobs.extend(given)
        for job in given:
            for index, path in enumerate(job.paths):
                signatures = shown[Path(path).name.partition(".")[0]]
                if signatures is None:
                    yield WorkerDied(reason="killed")
                else:
                    yield CaseJudged(index=index, seconds=0.0, outcome="diverges", signatures=signatures, path=path)

    monkeypatch.setattr(occurrence, "supervise", supervise)
    return jobs


def test_an_entry_that_a_run_did_not_see_is_decided_by_its_own_case(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = judging(monkeypatch, {"clipnorm": (CLIPNORM,), "constant_folding": ()})
    seen, others = told(closing(baseline(CLIPNORM), CORPUS, ARMS, strict=True)({}, 40, True))
    assert (names(seen.occurred), seen.gone, others) == ([CLIPNORM], (), [])
    assert seen.occurred[0].decided == "its case clipnorm of the corpus still shows it"
    (job,) = jobs
    entry = next(item for item in cases.entries() if item.name == "clipnorm")
    assert (job.placements, job.executions) == (entry.placements, entry.executions)
    assert (job.paths, job.known, job.write) == ((str(cases.path("clipnorm")),), (), False)


def test_an_entry_whose_case_shows_nothing_more_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    judging(monkeypatch, {"clipnorm": ("distribution/gradient/other",)})
    seen, _ = told(closing(baseline(CLIPNORM), CORPUS, ARMS, strict=True)({}, 40, True))
    assert names(seen.gone) == names(seen.told) == [CLIPNORM]
    assert seen.how(seen.gone[0]) == "its case clipnorm of the corpus no longer shows it"


def test_one_of_several_cases_is_enough_to_keep_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    named = [entry.name for entry in cases.entries_showing(MEANS)]
    assert len(named) > 1
    shown: dict[str, tuple[str, ...] | None] = dict.fromkeys(named, ())
    judging(monkeypatch, {**shown, named[-1]: (MEANS,)})
    seen, _ = told(closing(baseline(MEANS), CORPUS, ARMS, strict=True)({}, 40, True))
    assert names(seen.occurred) == [MEANS]


def test_what_the_arms_cannot_show_is_decided_by_its_case_too(monkeypatch: pytest.MonkeyPatch) -> None:
    judging(monkeypatch, {"clipnorm": ()})
    single = Job(report="out", placements=("single",))
    seen, _ = told(closing(baseline(CLIPNORM, "both/ours"), "known.json", single, strict=True)({}, 40, True))
    assert (names(seen.gone), names(seen.hidden)) == ([CLIPNORM], ["both/ours"])


def test_what_occurred_is_not_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judging(monkeypatch, {}) == []
    seen, _ = told(closing(baseline(CLIPNORM), CORPUS, ARMS, strict=True)({CLIPNORM: 2}, 40, True))
    assert names(seen.occurred) == [CLIPNORM]


def test_a_case_that_kills_its_worker_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    judging(monkeypatch, {"clipnorm": None})
    seen, others = told(closing(baseline(CLIPNORM), "known.json", ARMS, strict=True)({}, 40, True))
    assert [type(event) for event in others] == [WorkerDied]
    assert seen.gone[0].decided == ""


def test_a_worker_that_refuses_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(jobs: list[Job], report: Path) -> Iterator[Event]:
        raise UsageError("no devices")
        yield

    monkeypatch.setattr(occurrence, "supervise", refuse)
    seen, others = told(closing(baseline(CLIPNORM), CORPUS, ARMS, strict=True)({}, 40, True))
    assert others == [Problem(message="cases of the corpus could not be judged: no devices")]
    assert names(seen.gone) == [CLIPNORM]


# What it comes to.


def seen(source: str = "known.json", *, decided: str = "") -> BaselineCompared:
    return BaselineCompared(
        source=source,
        cases=40,
        occurred=(Occurrence(known=Known("trainer/a", "It is known.", "https://x.y/1"), cases=2),),
        gone=(Occurrence(known=Known("trainer/b", "It was known."), decided=decided),),
        hidden=(Occurrence(known=Known("both/c", "It hides.")),),
    )


ENDED = RunEnded(outcomes={"known": 2}, signatures={}, findings=0, seconds=1.0, report="out")


@pytest.mark.parametrize(("strict", "code"), [(False, OK), (True, NEWS)])
def test_only_a_strict_baseline_fails_over_what_no_longer_occurs(strict: bool, code: int) -> None:
    outcome = Outcome(strict=strict)
    outcome(seen())
    assert outcome.code == code


def test_a_lost_worker_is_worse_than_what_no_longer_occurs() -> None:
    outcome = Outcome(strict=True)
    outcome(WorkerDied(reason="killed"))
    outcome(seen())
    assert outcome.code == FAILED


def test_a_strict_baseline_of_which_all_occurred_passes() -> None:
    outcome = Outcome(strict=True)
    outcome(BaselineCompared(source="known.json", cases=1, occurred=seen().occurred))
    assert outcome.code == OK


def test_a_run_that_judges_more_than_it_was_asked_for_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    judging(monkeypatch, {"clipnorm": (CLIPNORM,)})
    first, _ = closing(baseline(CLIPNORM), CORPUS, ARMS, strict=True)({}, 40, True)
    assert on_terminal(first) == ["judging 1 case of the corpus, for known findings that the run did not see"]


def on_terminal(*events: Event) -> list[str]:
    stream = io.StringIO()
    for terminal in [Terminal(stream, live=False)]:
        for event in events:
            terminal(event)
    return stream.getvalue().splitlines()


def test_the_terminal_tells_what_is_known_and_what_no_longer_occurs() -> None:
    assert on_terminal(seen()) == [
        "known, in 2 cases: trainer/a: It is known. (https://x.y/1)",
        "no longer occurs: trainer/b: It was known. (not seen in 40 cases, which is no proof)",
        "1 known cannot be seen in these arms",
    ]


def test_most_of_the_corpus_is_missed_by_chance_and_takes_one_line() -> None:
    lines = on_terminal(seen(CORPUS))
    assert lines[1].startswith("1 known finding of the corpus did not occur in 40 cases, which is no proof; --strict")
    decided = on_terminal(seen(CORPUS, decided="its case b of the corpus no longer shows it"))
    assert decided[1] == "no longer occurs: trainer/b: It was known. (its case b of the corpus no longer shows it)"


def objects(capsys: pytest.CaptureFixture[str], known: Baseline, *events: Event) -> list[dict[str, Any]]:
    consume(events, as_json=True, known=known)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


CONTRACT = {"path", "case", "verdict", "arms", "divergence", "wrong_arm", "cause", "signature", "repro"}


def test_what_no_longer_occurs_is_an_object_without_a_case(capsys: pytest.CaptureFixture[str]) -> None:
    (item,) = objects(capsys, baseline(), seen(), ENDED)
    assert item.keys() >= CONTRACT
    assert (item["case"], item["verdict"], item["signature"]) == (None, None, "trainer/b")
    assert (item["status"], item["known"][0]["sentence"]) == ("no longer occurs", "It was known.")
    assert objects(capsys, baseline(), seen(CORPUS), ENDED) == []


def test_the_object_of_a_known_case_quotes_the_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    event = CaseJudged(index=0, seconds=0.0, outcome="known", signatures=("trainer/a",), verdict={"verdict": "known"})
    (item,) = objects(capsys, baseline("trainer/a", "trainer/b"), event)
    assert item["known"] == [{"signature": "trainer/a", "sentence": "trainer/a is known.", "link": "https://x.y"}]
    (other,) = objects(capsys, baseline("trainer/b"), event)
    assert "known" not in other


def test_a_hostile_baseline_is_harmless_on_a_terminal() -> None:
    hostile = "\x1b[31m\u202ex\r\n\x07"
    known = Known(hostile, hostile, hostile)
    event = BaselineCompared(
        source=hostile,
        cases=1,
        occurred=(Occurrence(known=known, cases=1, decided=hostile),),
        gone=(Occurrence(known=known, decided=hostile),),
    )
    lines = on_terminal(event)
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


# In a run.


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_a_run_says_of_its_baseline_is_kept_and_comes_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    def supervise(jobs: list[Job], report: Path) -> Iterator[Event]:
        yield CaseJudged(index=0, seconds=0.0, outcome="known", signatures=("trainer/a",))
        if interrupted:
            raise KeyboardInterrupt

    monkeypatch.setattr(campaign, "supervise", supervise)
    job = Job(report=str(tmp_path / "out"), examples=1)
    *_, last, ended = campaign.run(job, 1, closing(baseline("trainer/a", "trainer/b"), "known.json", job))
    assert isinstance(last, BaselineCompared)
    assert isinstance(ended, RunEnded)
    assert (names(last.occurred), names(last.gone)) == (["trainer/a"], [] if interrupted else ["trainer/b"])
    kept = [from_line(line) for line in (tmp_path / "out" / "events.jsonl").read_bytes().splitlines()]
    assert kept[-2:] == [last, ended]


def test_a_run_says_which_of_its_findings_the_corpus_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = {"keras": "3.15.1", "tensorflow": "2.21.0"}
    monkeypatch.setattr("conformance.environment.installed", lambda: here)
    hint({CLIPNORM, "trainer/loss/ours"}, as_json=True)
    title = cases.entries_showing(CLIPNORM)[0].title
    assert capsys.readouterr() == ("", f"known in Keras 3.15.1: {CLIPNORM}: {title}; --baseline corpus leaves it out\n")
    monkeypatch.setattr("conformance.environment.installed", lambda: {**here, "keras": "2.0"})
    hint({CLIPNORM}, as_json=False)
    assert capsys.readouterr() == ("", "")
