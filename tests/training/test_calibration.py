"""`conformance info --calibration`, and `--baseline corpus`: what they say of silence, of faults and of themselves."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from conformance import calibrator, campaign, cases, cli, search
from conformance.arm import parse_placement
from conformance.calibration import Calibration
from conformance.calibrator import calibrate
from conformance.case import load_case
from conformance.errors import UnsupportedError
from conformance.events import CaseCalibrated, CaseJudged, Event
from conformance.job import Job
from conformance.plan import Plan
from conformance.prepare import PreparedArm
from conformance.referee.judgement import Referee
from conformance.supervisor import supervise
from conformance.worker import work

SMALL = ("constant_folding", "rows_33_in_16", "batches_cross_epochs", "scalar_loss")
KNOWN = "trainer/batch/batches_cross_epochs"


class Ran:
    """One call of the console script: its exit code, standard output and standard error."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def last(self) -> str:
        return self.out.splitlines()[-1]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Runs `conformance ARGUMENTS` in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Ran:
        with pytest.raises(SystemExit) as exit_:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Ran(int(exit_.value.code or 0), out, err)

    return call


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """In the place of drawn cases those of the corpus that train fastest; what was asked for."""
    asked: list[tuple[int, int, int]] = []

    def draw(examples: int, seed: int, replicas: int) -> list[Any]:
        asked.append((examples, seed, replicas))
        return [cases.load(name) for name in SMALL[:examples]]

    monkeypatch.setattr(search, "draw", draw)
    return asked


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers do their jobs in this process, where faults can be planted."""

    def here(jobs: Sequence[Job], report: Path) -> Iterator[Event]:
        for job in jobs:
            told: list[Event] = []
            work(job, told.append)
            yield from told

    monkeypatch.setattr(campaign, "supervise", here)


@pytest.mark.usefixtures("small")
def test_four_cases_are_calibrated_with_by_workers_and_all_is_kept(run: Any, tmp_path: Path) -> None:
    ran = run("info", "--calibration", "--examples", "4", "-n", "1", "--executions", "eager")
    assert (ran.code, ran.err) == (cli.OK, "")
    assert ran.last.startswith("worst seen / allowed: 0.")
    assert ran.last.endswith("; nothing departs but what the corpus knows")
    assert f"  1 x {KNOWN}" in ran.out
    report = tmp_path / "conformance-calibration"
    paths = sorted((report / "cases").iterdir())
    assert [load_case(path) for path in paths] == [cases.load(name) for name in SMALL]
    data = json.loads((report / "calibration.json").read_bytes())
    assert data["conclusion"] == ran.last
    assert (data["cases"], data["examples"], data["judged_arms"], data["news"]) == (4, 4, 8, [])
    assert data["known"] == {KNOWN: 1}
    assert {"outputs", "loss", "local_gradient", "gradient", "update", "weights"} <= data["stages"].keys()
    for stage in data["stages"].values():
        assert sum(stage["counts"]) == stage["count"] > 0
        assert stage["worst"]["value"] <= data["worst"]["value"] < 1
    assert 0 < sum(stage["count"] for stage in data["stages"].values()) < data["compared"]
    assert data["factor"] == pytest.approx(1 / data["worst"]["value"])
    assert data["worst"]["path"] in {f"conformance-calibration/cases/{path.name}" for path in paths}
    assert (report / "calibration.md").read_text("utf-8").startswith("# Calibration\n\nworst seen / allowed: 0.")
    # What a report's run has drawn can be asked for as of any other.
    ran = run("info", "--report", report, "--json")
    assert json.loads(ran.out)["has drawn"]["optimizers"]["SGD"] >= 1


def _thousandth(update: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(update)
    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> Any:
        return update(self, 1.001 * gradient, variable, learning_rate)

    return update_step


def _moody(update: Callable[..., Any]) -> Callable[..., Any]:
    times = itertools.count(1)

    @functools.wraps(update)
    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> Any:
        return update(self, gradient, variable, learning_rate * (1 + next(times) / 1000))

    return update_step


@pytest.mark.usefixtures("small", "here")
def test_a_fault_that_all_arms_have_is_news_and_its_case_is_kept(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.setattr(keras.optimizers.SGD, "update_step", _thousandth(keras.optimizers.SGD.update_step))
    options = ("--examples", "2", "--executions", "eager", "--trainers", "loop", "--report", "out")
    ran = run("info", "--calibration", *options, "--json")
    assert (ran.code, ran.err) == (cli.NEWS, "")
    (line,) = ran.out.splitlines()
    data = json.loads(line)
    assert {item["signature"] for item in data["news"]} == {"referee/weights/unexplained"}
    for item in data["news"]:
        assert item["message"].startswith("weights[step 0] ")
        assert load_case(tmp_path / item["path"]) in [cases.load(name) for name in SMALL]
    assert data["conclusion"].endswith("under 1 signature that the corpus does not know")
    # Nothing was made smaller, and nobody made a finding of it.
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")) == [
        "calibration.json",
        "calibration.md",
        "cases",
        "events.jsonl",
    ]


def test_an_arm_that_does_not_do_the_same_twice_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    plan = Plan(("loop",), executions=("eager",))
    case = cases.load("rows_33_in_16")
    assert calibrate(case, plan).news == ()
    monkeypatch.setattr(keras.optimizers.SGD, "update_step", _moody(keras.optimizers.SGD.update_step))
    first, *_ = calibrate(case, plan, path="a.json").news
    assert (first.signature, first.path, first.arm) == ("itself/weights", "a.json", "loop/single/eager")
    assert "is another one when loop/single/eager is run again: off by " in first.message


def test_what_is_known_is_counted_and_no_news() -> None:
    plan = Plan(executions=("eager",))
    case = cases.load("batches_cross_epochs")
    unknown = calibrate(case, plan)
    assert [item.signature for item in unknown.news] == [KNOWN]
    assert (unknown.outcome, unknown.known) == ("diverges", {})
    known = calibrate(case, plan, frozenset({KNOWN}))
    assert (known.outcome, known.known, known.news) == ("known", {KNOWN: 1}, ())
    assert known.stages == unknown.stages
    # An arm that is judged by itself has no axis.
    assert calibrate(case, plan, frozenset({KNOWN.replace("trainer/", "both/")})).news == ()
    assert calibrate(case, plan, frozenset({KNOWN.replace("/batch/", "/loss/")})).news != ()


def test_every_ratio_is_measured_with_all_perturbed_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []

    class Noted(Referee):
        def __init__(self, *arguments: Any, thorough: bool = False, alternatives: bool = True) -> None:
            made.append(thorough)
            super().__init__(*arguments, thorough=thorough, alternatives=alternatives)

    monkeypatch.setattr(calibrator, "Referee", Noted)
    assert calibrate(cases.load("rows_33_in_16"), Plan(("loop",), executions=("eager",))).arms == 1
    assert made == [True]


def test_an_arm_is_prepared_anew_unless_xla_compiles_it(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[PreparedArm] = []
    runs: list[PreparedArm] = []

    class Noted(PreparedArm):
        def __init__(self, *arguments: Any) -> None:
            prepared.append(self)
            super().__init__(*arguments)

        def run(self, *arguments: Any, **kwargs: Any) -> Any:
            runs.append(self)
            return super().run(*arguments, **kwargs)

    monkeypatch.setattr(calibrator, "PreparedArm", Noted)
    seen = calibrate(cases.load("rows_33_in_16"), Plan(("loop",), executions=("eager", "xla")))
    assert (seen.outcome, seen.arms) == ("conforms", 2)
    eager, again, xla = prepared
    assert runs == [eager, again, xla, xla]
    assert seen.repeated > 0


def test_what_cannot_be_run_or_judged_is_counted_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = tuple(map(parse_placement, ("single", "mirrored:2")))
    raising = calibrate(cases.load("gradient_accumulation"), Plan(("fit",), pair))
    (reason,) = raising.raised
    assert reason.startswith("fit/mirrored:2/graph: RuntimeError: ")
    assert (raising.raised[reason], raising.arms) == (1, 1)

    def refuse(*_: Any, **__: Any) -> None:
        raise UnsupportedError("the model cannot be made in float64")

    monkeypatch.setattr(calibrator, "Referee", refuse)
    plan = Plan(("loop",), pair[1:], ("eager", "xla"))
    seen = calibrate(cases.load("rows_33_in_16"), plan)
    assert list(seen.unsupported.values()) == [1]
    assert next(iter(seen.unsupported)).startswith("loop/mirrored:2/xla: ")
    assert seen.skipped == {"everything of loop/mirrored:2/eager: the model cannot be made in float64": 1}
    assert (seen.outcome, seen.compared) == ("unsupported", 0)


@pytest.mark.usefixtures("small", "here")
def test_a_failure_of_the_harness_is_told_with_its_case_and_the_rest_goes_on(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Referee.judge

    def failing(self: Referee, trace: Any) -> Any:
        if self.training.data.rows == cases.load("rows_33_in_16").data.rows:
            raise ZeroDivisionError("by nothing")
        return judge(self, trace)

    monkeypatch.setattr(Referee, "judge", failing)
    ran = run("info", "--calibration", "--examples", "2", "--executions", "eager", "--trainers", "loop")
    assert ran.code == cli.FAILED
    assert "failed: ZeroDivisionError: by nothing; conformance-calibration/cases/1.case.json" in ran.out
    assert ran.last.endswith("; the harness failed in 1 case")
    assert "conforms conformance-calibration/cases/0.case.json" in ran.out


@pytest.mark.usefixtures("small")
def test_ctrl_c_keeps_what_there_is(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(jobs: Sequence[Job], report: Path) -> Iterator[Event]:
        yield CaseCalibrated(index=0, seconds=0.0, path="0.json", calibration=Calibration(cases=1, compared=1))
        raise KeyboardInterrupt

    monkeypatch.setattr(campaign, "supervise", interrupted)
    ran = run("info", "--calibration", "--examples", "4")
    assert ran.code == cli.INTERRUPTED
    assert ran.last == "no seen / allowed was measured; only 1 of 4 cases"
    assert json.loads((tmp_path / "conformance-calibration" / "calibration.json").read_bytes())["interrupted"]


WORKER = """
import os, sys
import msgspec
from conformance.calibration import Calibration
from conformance.case import load_case, to_json
from conformance.events import CaseCalibrated, CaseStarted, to_line
from conformance.job import Job

job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
assert job.calibrate and job.known
for index, path in enumerate(job.paths):
    events = [CaseStarted(index=index, case=to_json(load_case(path)))]
    seen = Calibration(cases=1, compared=1)
    events.append(CaseCalibrated(index=index, seconds=0.0, path=path, calibration=seen))
    for event in events:
        if "1.case" in path and event is events[1]:
            os._exit(7)
        sys.stdout.buffer.write(to_line(event))
        sys.stdout.buffer.flush()
"""


def test_a_worker_that_dies_names_its_case_and_the_rest_goes_on(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: list[tuple[int, int, int]]
) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(
        campaign, "supervise", functools.partial(supervise, command=(sys.executable, str(tmp_path / "worker.py")))
    )
    options = ("--seed", "5", "--placements", "single,mirrored:3", "-n", "1", "--report", "out")
    ran = run("info", "--calibration", "--examples", "4", *options)
    assert small == [(4, 5, 3)]
    assert ran.code == cli.FAILED
    assert ran.last == "no seen / allowed was measured; 1 worker lost, only 3 of 4 cases"
    (kept,) = (tmp_path / "out" / "crashes").iterdir()
    assert load_case(kept) == cases.load(SMALL[1])
    assert f"its case is kept at {kept.relative_to(tmp_path)}" in ran.out


BAD = {
    "options of a calibration alone": (("info", "--examples", "3"), "--examples needs --calibration"),
    "workers of a calibration alone": (("info", "-n", "1"), "-n needs --calibration"),
    "no examples": (("info", "--calibration", "--examples", "0"), "0 is not in the range x>=1"),
    "a negative seed": (("info", "--calibration", "--seed", "-1"), "-1 is not in the range x>=0"),
    "an unknown placement": (("info", "--calibration", "--placements", "tpu:8"), "'tpu:8' is not a placement"),
    "an unknown execution": (("info", "--calibration", "--executions", "jit"), "'jit' is not an execution"),
    "no trainer": (("info", "--calibration", "--trainers", ","), "--trainers ',' names nothing"),
    "a corpus that is a file": (("run", "--baseline", "./corpus"), "corpus: No such file"),
}


@pytest.mark.parametrize(("arguments", "told"), BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_refused_in_one_line(run: Any, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (cli.USAGE, "")
    assert len(ran.err.splitlines()) == 1
    assert told in ran.err
    assert list(tmp_path.iterdir()) == []


def test_without_tensorflow_one_line_says_what_to_install(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find(name))
    ran = run("info", "--calibration")
    assert (ran.code, ran.out) == (cli.USAGE, "")
    assert "tensorflow not installed" in ran.err
    assert list(tmp_path.iterdir()) == []


# The corpus as a baseline.


@pytest.mark.usefixtures("here")
def test_what_the_corpus_records_is_known(run: Any, tmp_path: Path) -> None:
    path = Path(cases.__file__).parent / "batches_cross_epochs.case.json"
    # A file of that name is not asked for.
    (tmp_path / "corpus").write_text("no baseline")
    arguments = ("check", path, "--placements", "single", "--executions", "eager", "--json")
    ran = run(*arguments, "--baseline", "corpus")
    assert (ran.code, ran.err) == (cli.OK, "")
    assert json.loads(ran.out)["verdict"] == "known"


@pytest.mark.parametrize("command", ["run", "check"])
def test_versions_that_nobody_recorded_are_told(command: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, ...]] = []

    def nothing(jobs: Sequence[Job], report: Path) -> Iterator[Event]:
        given.extend(job.known for job in jobs)
        yield CaseJudged(index=0, seconds=0.0, outcome="conforms", verdict={})

    monkeypatch.setattr(campaign, "supervise", nothing)
    monkeypatch.setattr("conformance.environment.version", lambda *_: "99.1")
    path = [Path(cases.__file__).parent / "clipnorm.case.json"] if command == "check" else ["-n", "1"]
    ran = run(command, *path, "--baseline", "corpus", "--json")
    newest = cases.recorded_versions("99.1", "99.1")
    told = "the corpus records nothing for Keras 99.1 with TensorFlow 99.1; known is what it records for Keras "
    assert ran.err.startswith(f"{told}{newest[0]} with TensorFlow {newest[1]}")
    assert (ran.code, len(ran.err.splitlines()), len(ran.out.splitlines())) == (cli.OK, 1, 1)
    assert given == [tuple(sorted(cases.known_signatures(*newest)))]
