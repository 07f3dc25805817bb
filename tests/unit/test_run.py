"""What a run is made of: its job and shares, its baseline, durations, what was raised, and its events."""

from __future__ import annotations

import io
import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import cases, devices, events, supervisor
from conformance.baseline import load_baseline
from conformance.campaign import share
from conformance.case import Case, from_json, to_json
from conformance.cli.inputs import fresh_report
from conformance.cli.options import parse_duration
from conformance.errors import UsageError
from conformance.events import (
    CaseJudged,
    CaseStarted,
    Event,
    FindingMade,
    RunEnded,
    WorkerDied,
    WorkerSpent,
    from_line,
    to_line,
)
from conformance.info import drawn
from conformance.job import Job
from conformance.layer_error import describe
from conformance.occupied import LOCK, leave, occupy
from conformance.plan import Plan
from conformance.raised import Raised
from conformance.reports.campaign_tables import Tally
from conformance.reports.terminal import Terminal
from conformance.search import Search
from conformance.stage import Stage
from conformance.verdict import Cause, Divergence, Observation, Verdict
from conformance.worker import judge


@given(st.integers(1, 200), st.integers(1, 9), st.integers(0, 50))
def test_examples_are_shared_out_whole_and_with_seeds_of_their_own(examples: int, workers: int, seed: int) -> None:
    jobs = share(Job(report="out", examples=examples, seed=seed), workers)
    counts = [job.examples or 0 for job in jobs]
    assert sum(counts) == examples
    assert max(counts) - min(counts) <= 1
    assert len({job.seed for job in jobs}) == len({job.worker for job in jobs}) == len(jobs) == min(workers, examples)


@given(st.integers(1, 30), st.integers(1, 9))
def test_files_are_shared_out_and_none_twice(files: int, workers: int) -> None:
    paths = tuple(f"{number}.json" for number in range(files))
    jobs = share(Job(report="out", paths=paths), workers)
    assert sorted(path for job in jobs for path in job.paths) == sorted(paths)
    assert all(job.paths for job in jobs)


def test_a_search_by_time_is_every_workers() -> None:
    jobs = share(Job(report="out", seconds=60.0), 3)
    assert [(job.examples, job.seconds) for job in jobs] == [(None, 60.0)] * 3


def test_seeds_of_neighbouring_runs_do_not_meet() -> None:
    seeds = [job.seed for seed in range(5) for job in share(Job(report="out", examples=99, seed=seed), 64)]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("part", ["trainers", "placements", "executions"])
def test_a_job_of_arms_that_do_not_exist_is_refused(part: str) -> None:
    Job(report="out").validate()
    with pytest.raises(UsageError, match="gossip"):
        Job(report="out", **{part: ("gossip",)}).validate()


def test_a_baseline_is_a_list_of_signatures_with_a_sentence_each(tmp_path: Path) -> None:
    known = [{"signature": "a/b", "sentence": "said", "link": "https://x.y"}, {"signature": "c", "sentence": ""}]
    (tmp_path / "known.json").write_text(json.dumps({"findings": known}))
    assert load_baseline(tmp_path / "known.json").signatures == ("a/b", "c")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not a baseline"),
        ("[]", "not a baseline"),
        ('{"findings": [{"sentence": "x"}]}', "missing required field `signature`"),
        ('{"findings": [{"signature": "x", "sentence": "y", "colour": 1}]}', "unknown field `colour`"),
        ('{"format": 3}', "format 3 is from a newer release; this one reads up to 2"),
    ],
)
def test_a_malformed_baseline_is_refused_with_its_path(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "known.json"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        load_baseline(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert told in str(refused.value)


def test_a_known_divergence_does_not_hide_one_that_is_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tuple(
        Observation(
            divergence=Divergence(
                arms=("fit/single/graph", "loop/single/graph"),
                axis="trainer",
                step=0,
                stage=Stage.LOSS,
                variable="loss",
                magnitude=1.0,
                allowed=0.0,
                message="said",
            ),
            cause=Cause(name="mask_ignored", explanation="said", advice="said"),
            signature=signature,
        )
        for signature in ("known", "news", "more")
    )
    verdict = Verdict(case=None, verdict="diverges", observations=seen)
    written: list[str | None] = []

    def write(report: Path, verdict: Verdict, *_: object) -> Any:
        written.append(verdict.signature)
        return FindingMade(
            signature=str(verdict.signature),
            message="",
            cause="",
            explanation="",
            advice="",
            wrong_arm=None,
            folder="",
            repro="repro.py",
            repro_status="",
            layers=0,
            attempts=0,
            seconds=0.0,
        )

    monkeypatch.setattr("conformance.judge.judge_case", lambda *_: verdict)
    monkeypatch.setattr("conformance.findings.write", write)
    told: list[Event] = []
    path = Path(cases.__file__).parent / "clipnorm.case.json"
    for known in (("known",), ("known", "news", "more")):
        judge(Job(report=str(tmp_path), paths=(str(path),), known=known), None, None, told.append)
    assert written == ["news"]
    judged = [event for event in told if isinstance(event, CaseJudged)]
    assert [(event.outcome, event.signatures) for event in judged] == [
        ("diverges", ("known", "news", "more")),
        ("known", ("known", "news", "more")),
    ]


def _ends(at: int, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Verdict]:
    """A stand-in of judging, in a process of its own whose collective operations end with its case number `at`."""
    ended: list[bool] = []
    counted = itertools.count()
    monkeypatch.setattr("conformance.devices._ABORTED", ended)

    def stand_in(*_: Any, **__: Any) -> Verdict:
        if next(counted) == at:
            devices.note_aborted()
        return Verdict(case=None, verdict="conforms")

    return stand_in


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (0, ["CaseStarted", "CaseJudged", "WorkerSpent of none"]),
        (1, ["CaseStarted", "CaseJudged", "CaseStarted", "WorkerSpent of a case"]),
        (2, ["CaseStarted", "CaseJudged"] * 2 + ["CaseStarted", "WorkerSpent of a case"]),
    ],
)
def test_a_case_that_nothing_can_be_said_of_is_left_to_a_new_process_unless_it_was_the_first(
    at: int, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conformance.judge.judge_case", _ends(at, monkeypatch))
    seen: list[Event] = []
    path = str(Path(cases.__file__).parent / "clipnorm.case.json")
    judge(Job(report=str(tmp_path), paths=(path,) * 3), None, None, seen.append)
    spent = {True: "WorkerSpent of a case", False: "WorkerSpent of none"}
    names = [spent[item.case is not None] if isinstance(item, WorkerSpent) else type(item).__name__ for item in seen]
    assert names == told


def _search(examples: int, emit: Callable[[Event], None], first: Case | None = None) -> Search:
    return Search(
        Plan(),
        worker=0,
        examples=examples,
        seconds=None,
        seed=0,
        shrink_seconds=1.0,
        known=frozenset(),
        claim=lambda _: True,
        emit=emit,
        found=lambda *_: None,
        first=first,
    )


def test_a_search_leaves_the_case_that_nothing_can_be_said_of_and_the_next_one_begins_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("conformance.search.judge_case", _ends(2, monkeypatch))
    seen: list[Event] = []
    left = _search(5, seen.append).run()
    assert left is not None
    assert [type(item).__name__ for item in seen] == ["CaseStarted", "CaseJudged"] * 2 + ["CaseStarted"]
    assert isinstance(seen[-1], CaseStarted)
    assert from_json(seen[-1].case) == left
    monkeypatch.setattr("conformance.search.judge_case", _ends(-1, monkeypatch))
    again: list[Event] = []
    assert _search(3, again.append, left).run() is None
    started = [from_json(item.case) for item in again if isinstance(item, CaseStarted)]
    assert started[0] == left
    assert len(started) == 3


def test_a_case_that_is_judged_again_in_a_new_process_is_counted_once_and_said(tmp_path: Path) -> None:
    text = to_json(cases.load("clipnorm"))
    told = (
        CaseStarted(index=3, case=text),
        WorkerSpent(reason="said \x1b[31m", case=text),
        CaseStarted(index=0, case=text),
        CaseJudged(index=0, seconds=0.1, outcome="conforms"),
    )
    (tmp_path / "events.jsonl").write_bytes(b"".join(map(to_line, told)))
    assert drawn(tmp_path)["optimizers"] == {"SGD": 1}
    tally, stream = Tally(), io.StringIO()
    terminal = Terminal(stream, live=False)
    for event in told:
        tally.add(event)
        terminal(event)
    assert {count for counter in tally._drawn.values() for count in counter.values()} == {1}
    line = "worker 0 goes on in a new process: said ; its case is judged again there"
    assert stream.getvalue().splitlines() == [line]


def test_a_report_directory_is_one_runs_until_it_leaves_it(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    occupy(tmp_path)
    occupy(tmp_path)
    with (tmp_path / LOCK).open("ab") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        leave(tmp_path)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for take in (lambda: occupy(tmp_path), lambda: fresh_report(str(tmp_path))):
            with pytest.raises(UsageError, match="is being written by another run; name another directory, or wait"):
                take()
    (tmp_path / "events.jsonl").write_text("")
    fresh_report(str(tmp_path))
    assert not tmp_path.exists()


@pytest.mark.parametrize(
    ("left", "again"),
    [
        (Job(report="out", examples=9), Job(report="out", examples=6, seed=1_000_003)),
        (Job(report="out", examples=3), None),
        (Job(report="out", seconds=60.0), Job(report="out", seconds=20.0, seed=1_000_003)),
        (Job(report="out", seconds=30.0), None),
        (Job(report="out", paths=("1", "2", "3", "4")), Job(report="out", paths=("4",))),
        (Job(report="out", paths=("1", "2", "3")), None),
    ],
)
def test_who_goes_on_for_a_worker_that_was_lost_has_what_is_left_of_its_examples_its_files_or_its_time(
    left: Job, again: Job | None
) -> None:
    class _Process:
        pass

    worker = supervisor._Worker(left, _Process(), started=time.monotonic() - 40.0, judged=2)  # type: ignore[arg-type]
    worker.running = CaseStarted(index=2, case="{}")
    told = supervisor._again(worker)
    if told is not None and told.seconds is not None:
        told = msgspec.structs.replace(told, seconds=round(told.seconds))
    assert told == again


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("45", 45), ("1.5m", 90), ("0.5", 0.5)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "0", "0m", "-3m", "1d", "1m30s", " 5s", "5s ", "1e3", "nan", "inf", "1.s", "5\n"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration; write 90s, 10m or 2h"):
        parse_duration(text)


# What was raised.


def _thrown(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_an_exception_is_told_with_the_line_somebody_wrote() -> None:
    raised = describe(_thrown(ValueError("shapes (3,) and (4,)")))
    assert (raised.kind, raised.message) == ("ValueError", "shapes (3,) and (4,)")
    assert raised.line is not None
    assert raised.line.endswith(": raise error")
    assert Path(__file__).name in raised.line
    assert raised.layer is raised.operation is None


def test_a_long_message_is_one_short_line_without_escapes_and_frames() -> None:
    text = '\x1b[1mGraph execution error:\x1b[0m\n\nDetected at node x\n  File "a.py", line 3\n' + "word \n" * 200
    raised = describe(_thrown(RuntimeError(text)))
    assert raised.message.startswith("word word")
    # The middle is left out, and what is left is as long as may be but for a word.
    assert 290 < len(raised.message) <= 300
    assert raised.message.count(" [...] ") == 1
    assert raised.message.endswith("word")
    assert not set("\n\x1b") & set(raised.message)


def test_the_layer_the_operation_and_the_shapes_are_read_off_the_frames() -> None:
    layers: dict[str, Any] = {"__name__": "keras.src.layers.layer", "np": __import__("numpy")}
    # What Keras and TensorFlow are told by is the names of their modules, which only code run in one can have.
    exec("class Layer:\n    path = 'model/dense'\n    def call(self, inputs):\n        return matmul(inputs)\n", layers)  # noqa: S102 - see above
    operations: dict[str, Any] = {"__name__": "tensorflow.python.ops.math_ops"}
    exec("def matmul_v2(value):\n    raise ValueError('no')\n", operations)  # noqa: S102 - see above
    layers["matmul"] = operations["matmul_v2"]
    try:
        layers["Layer"]().call(layers["np"].ones((2, 3), "float32"))
    except ValueError as error:
        raised = describe(error)
    assert (raised.layer, raised.operation, raised.shapes) == ("model/dense", "matmul", "(2, 3) float32")
    assert str(raised).startswith(
        "ValueError: no (in layer model/dense (Layer), operation matmul, inputs (2, 3) float32"
    )


def test_an_exception_without_a_traceback_or_a_message_is_told_too() -> None:
    assert describe(KeyError()) == Raised("KeyError", "")
    assert str(Raised("KeyError", "")) == "KeyError"


# Events.

SEEN: list[Event] = [
    CaseJudged(worker=1, index=0, seconds=0.5, outcome="diverges", signatures=("a/b",), message="said", path="a.json"),
    CaseJudged(index=0, seconds=0.5, outcome="diverges", verdict={"magnitude": math.inf, "ratios": [math.nan, 1.0]}),
    WorkerDied(reason="killed by SIGKILL", case="{}", path="crashes/a.json"),
    WorkerSpent(reason="said", case="{}"),
    RunEnded(outcomes={"conforms": 3}, signatures={}, findings=0, seconds=1.0, report="out", interrupted=True),
]


@pytest.mark.parametrize("event", SEEN, ids=lambda event: type(event).__name__)
def test_an_event_is_one_line_and_the_same_event_again(event: Event) -> None:
    line = to_line(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    again = from_line(line)
    assert to_line(again) == line
    assert type(again) is type(event)


def test_floats_that_json_lacks_travel_as_strings() -> None:
    again = from_line(to_line(SEEN[1]))
    assert isinstance(again, CaseJudged)
    assert again.verdict == {"magnitude": "inf", "ratios": ["nan", 1.0]}


@pytest.mark.parametrize("line", [b"", b"{}", b'{"type": "Gossip"}', b'{"type": "Refused"}', b'{"type": "CaseSta'])
def test_a_line_that_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        from_line(line)


def test_every_kind_of_event_can_be_read() -> None:
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)} - {Event}
    assert kinds == set(events.AnyEvent.__args__)
