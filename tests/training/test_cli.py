"""The command line's contract: what it prints, what it leaves behind, and its exit codes."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conformance import cases, cli, findings
from conformance.arm import parse_placement
from conformance.case import from_data, from_json, to_data, to_json
from conformance.events import CaseJudged, CaseStarted, Problem, WorkerDied, WorkerSpent
from conformance.job import Job
from conformance.judge import judge_case
from conformance.plan import Plan
from conformance.supervisor import supervise

CLIPNORM = "distribution/gradient/clip_order/clipnorm"
CONFORMS = ("--placements", "single", "--executions", "graph")


class Ran:
    """One call of the console script: its exit code, standard output and standard error."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `conformance ARGUMENTS` in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Ran:
        with pytest.raises(SystemExit) as exit_:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Ran(int(exit_.value.code or 0), out, err)

    return call


def write(path: Path, **changes: Any) -> Path:
    """A case of the corpus as a file, with parts of its data replaced."""
    data = json.loads(to_json(cases.load("rows_33_in_16")))
    for place, value in changes.items():
        part, *names = data, *place.split("__")
        for name in names[:-1]:
            part = part[int(name)] if isinstance(part, list) else part[name]
        part[names[-1]] = value
    path.write_text(json.dumps(data))
    return path


BAD_CASES = {
    "an unknown layer": ({"model__nodes__0__layer": "Dence"}, "'Dence' is not a known layer"),
    "an unknown field": ({"colour": 1}, "unknown field `colour`"),
    "a format from the future": ({"format": 99}, "format 99 is from a newer release"),
    "a negative count": ({"data__rows": -3}, "-3: Expected `int` >= 1 - at `$.data.rows`"),
    "a count that is none": ({"data__rows": "many"}, '"many": Expected `int`, got `str` - at `$.data.rows`'),
}


@pytest.mark.parametrize(("changes", "told"), BAD_CASES.values(), ids=BAD_CASES.keys())
def test_a_bad_case_is_refused_in_one_line_with_its_path(
    run: Any, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    path = write(tmp_path / "bad.json", **changes)
    ran = run("check", path, "--report", "out")
    assert_refused(ran, f"conformance: {path}: ", told)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "told"),
    [("{", "not JSON"), ("", "not JSON"), ("[" * 100_000, "not JSON"), ("[]", "Expected `object`, got `array`")],
    ids=["cut short", "empty", "too deep", "a list"],
)
def test_what_is_no_case_at_all_is_refused(run: Any, tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    assert_refused(run("check", path, "--report", "out"), f"conformance: {path}: ", told)
    assert list(tmp_path.iterdir()) == [path]


BAD_ARGUMENTS = {
    "a missing case file": (("check", "missing.json"), "missing.json does not exist"),
    "an empty directory": (("check", "."), ". holds no *.case.json and no case.json"),
    "an unknown placement": (("run", "--placements", "single,tpu:8"), "'tpu:8' is not a placement"),
    "one replica": (("run", "--placements", "mirrored:1"), "'mirrored:1' does not say how many replicas"),
    "no placements": (("run", "--placements", ""), "--placements '' names nothing"),
    "an unknown execution": (("run", "--executions", "jit"), "'jit' is not an execution"),
    "an unknown trainer": (("run", "--trainers", "fit,lop"), "'lop' is not a trainer"),
    "a negative number of examples": (("run", "--examples", "-3"), "-3 is not in the range x>=1"),
    "no examples": (("run", "--examples", "0"), "0 is not in the range x>=1"),
    "a time that is none": (("run", "--time", "soon"), "--time 'soon' is not a duration"),
    "a negative time": (("run", "--time", "-3m"), "--time '-3m' is not a duration"),
    "a missing baseline": (("run", "--baseline", "none.json"), "none.json: No such file"),
    "strict without a baseline": (("run", "--strict-baseline"), "--strict-baseline needs a --baseline"),
    "an unknown option": (("run", "--colour"), "No such option"),
    "an unknown command": (("rin",), "No such command 'rin'"),
    "a finding that is not there": (("replay", "nowhere"), "nowhere holds no finding"),
}


@pytest.mark.parametrize(("arguments", "told"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS.keys())
def test_bad_arguments_are_refused_in_one_line(run: Any, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    report = ("--report", "out") if arguments[0] in ("run", "check") else ()
    assert_refused(run(*arguments, *report), "conformance: ", told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not a baseline"),
        ('{"findings": [{"signature": 3, "sentence": ""}]}', "not a baseline: Expected `str`, got `int`"),
        ('{"known": []}', "unknown field `known`"),
        ('{"format": 99}', "format 99 is from a newer release"),
    ],
    ids=["cut short", "of wrong types", "of unknown fields", "from the future"],
)
def test_a_malformed_baseline_is_refused(run: Any, tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "known.json"
    path.write_text(text)
    assert_refused(run("run", "--baseline", path, "--report", "out"), f"conformance: {path}: ", told)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("arguments", [("run",), ("check", "good.json"), ("info",)], ids=lambda a: a[0])
def test_without_tensorflow_one_line_says_what_to_install(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    write(tmp_path / "good.json")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find(name))
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert "tensorflow not installed; pip install 'keras-conformance[tensorflow-cpu]'" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["good.json"]


def test_a_report_that_is_a_file_is_refused(run: Any, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    assert_refused(run("run", "--report", "out"), "conformance: ", "--report 'out' is a file")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(
    ("loop", "told"),
    [
        ("loops", "--loop 'loops' is not package.module:function"),
        ("no_such_module:train_step", "cannot be imported: No module named 'no_such_module'"),
        ("loops:missing", "cannot be imported: module 'loops' has no attribute 'missing'"),
        ("broken:train_step", "cannot be imported"),
        ("loops:batchwise", "batchwise(batch) is not a training step"),
        ("loops:RATE", "0.5 is not a function"),
    ],
)
def test_a_loop_that_cannot_be_used_is_refused(
    loop: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from conformance.errors import UsageError
    from conformance.worker import load_loop

    (tmp_path / "loops.py").write_text("RATE = 0.5\ndef batchwise(batch): ...\n")
    (tmp_path / "broken.py").write_text("def train_step(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("loops", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(UsageError) as refused:
        load_loop(loop)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_refused_loop_leaves_no_report(run: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "case.json")
    ran = run("check", path, "--loop", "no_such_module:train_step", "--report", "out", "--json")
    assert_refused(ran, "conformance: --loop 'no_such_module:train_step' cannot be imported", "")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no command; name one of run, check, replay, accept, report, bisect, info, or --help"),
        (("check", ""), "FILE.json ... | DIR is empty; name a file or a directory"),
        (("check", "a.json", ""), "FILE.json ... | DIR is empty"),
        (("run", "--baseline", ""), "--baseline is empty"),
        (("run", "--report", ""), "--report '' names no directory"),
        (("run", "--report", "/proc/none"), "/proc/none: No such file or directory"),
        (("run", "--summary", ""), "--summary is empty"),
        (("replay", ""), "DIR is empty"),
        (("report", ""), "DIR is empty"),
        (("bisect", ""), "FINDING_DIR | repro.py is empty"),
        (("accept", "", "--baseline", "b.json"), "FINDING_DIR ... | REPORT_DIR is empty"),
        (("accept", "x", "--baseline", " "), "--baseline is empty"),
        (("info", "--report", ""), "--report is empty"),
        (("run", "--trainers", "trial,fit"), "'trial' is a loop of yours, and cases of one are judged by conformance"),
        (("run", "-n", "999999999"), "999999999 is not in the range 1<=x<=256"),
        (("run", "--time", "9" * 400), "is longer than ten years"),
        (("check", "x.json", "--loop", "loops.py:mine"), "names a file; write its module, as in loops:mine"),
        (("check", "x.json", "--loop", "./a/loops.py"), "names a file; write its module, as in a.loops:function"),
        (("check", "x.json", "--loop", "loops"), "--loop 'loops' is not package.module:function"),
    ],
    ids=lambda given: None if isinstance(given, str) else " ".join(map(repr, given))[:40],
)
def test_what_is_written_wrongly_is_one_line_and_leaves_nothing(
    run: Any, arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    assert_refused(run(*arguments), "conformance: ", told)
    assert list(tmp_path.iterdir()) == []


def test_a_loop_whose_module_ends_the_program_is_refused(run: Any, tmp_path: Path) -> None:
    (tmp_path / "ends_the_program.py").write_text("raise SystemExit(0)\n")
    path = write(tmp_path / "one.case.json")
    assert_refused(
        run("check", path, "--loop", "ends_the_program:mine", "--json"),
        "conformance: --loop 'ends_the_program:mine' cannot be imported: it ends the program, SystemExit(0)",
        "",
    )


def assert_refused(ran: Ran, begins: str, told: str) -> None:
    assert ran.code == cli.USAGE
    assert ran.out == ""
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.startswith(begins), ran.err
    assert told in ran.err, ran.err


def test_one_object_a_case_with_the_keys_of_the_contract(run: Any, tmp_path: Path) -> None:
    """Three cases in one process: one that diverges, one that conforms, one with fewer rows than replicas."""
    names = ("scalar_loss", "constant_folding", "single_row")
    paths = [Path(cases.__file__).parent / f"{name}.case.json" for name in names[:2]]
    paths.append(write(tmp_path / "single_row.case.json", data__rows=1, data__batch_size=1))
    ran = run("check", *paths, "--json")
    assert ran.code == cli.NEWS
    assert ran.err == ""
    diverging, conforming, unsupported = ran.objects
    assert [item["path"] for item in ran.objects] == [str(path) for path in paths]
    for item in ran.objects:
        contract = {"case", "verdict", "arms", "divergence", "wrong_arm", "cause", "signature", "repro"}
        assert contract <= item.keys()
        from_json(json.dumps(item["case"]))
    assert diverging["verdict"] == "diverges"
    assert from_data(diverging["case"]) == cases.load("scalar_loss")
    divergence = diverging["divergence"]
    assert {"arms", "step", "stage", "variable", "magnitude", "allowed", "ulps"} <= divergence.keys()
    assert divergence["arms"] == ["fit/mirrored:2/graph", "loop/mirrored:2/graph"]
    assert (divergence["step"], divergence["stage"], divergence["allowed"]) == (0, "loss", 0.0)
    assert divergence["ratio"] == pytest.approx(2.0, rel=1e-6)
    assert diverging["wrong_arm"] == "fit/mirrored:2/graph"
    assert {"name", "explanation", "advice", "exact"} <= diverging["cause"].keys()
    assert diverging["cause"]["name"] == "replica_loss_not_scaled"
    assert diverging["signature"] == "both/loss/replica_loss_not_scaled"
    assert conforming["verdict"] == "conforms"
    assert conforming["divergence"] is conforming["cause"] is conforming["signature"] is None
    assert conforming["compared"] > 0
    assert {arm["status"] for arm in conforming["arms"]} == {"ran"}
    assert unsupported["verdict"] == "unsupported"
    assert unsupported["reason"] == "2 replicas for 1 rows; use at least as many rows as replicas"
    # Without --report, nothing is written.
    assert [path.name for path in tmp_path.iterdir()] == ["single_row.case.json"]


def test_a_conforming_case_ends_with_zero_and_a_known_one_too(run: Any, tmp_path: Path) -> None:
    other = {"signature": "trainer/loss/gossip", "sentence": "Not among these cases, which proves nothing."}
    elsewhere = {"signature": "trainer/loss/old", "sentence": "Long gone.", "versions": ["keras<3"]}
    known = {
        "findings": [{"signature": "both/loss/replica_loss_not_scaled", "sentence": "Keras issue"}, other, elsewhere]
    }
    (tmp_path / "known.json").write_text(json.dumps(known))
    folder = Path(cases.__file__).parent
    paths = [folder / f"{name}.case.json" for name in ("constant_folding", "scalar_loss")]
    ran = run("check", *paths, "--json", "--baseline", "known.json")
    assert [item["verdict"] for item in ran.objects] == ["conforms", "known"]
    assert [item.get("known", [{}])[0].get("sentence") for item in ran.objects] == [None, "Keras issue"]
    assert ran.code == cli.OK
    assert ran.err.startswith("known.json: 1 entry does not concern Keras 3.")


NEVER = """
def train_step(model, optimizer, loss_fn, x, y):
    return loss_fn(y, model(x, training=True))
"""


def test_a_loop_that_never_calls_its_optimizer_diverges_and_says_so(run: Any, tmp_path: Path) -> None:
    (tmp_path / "never.py").write_text(NEVER)
    path = write(tmp_path / "one.case.json", data__rows=2, data__batch_size=2)
    ran = run("check", path, "--loop", "never:train_step", "--json", *CONFORMS)
    (item,) = ran.objects
    assert (item["verdict"], item["cause"]["name"]) == ("diverges", "model_not_trained")
    assert item["cause"]["evidence"][0].startswith("neither is the optimizer called nor, under a tape, the model")


@pytest.fixture(scope="module")
def finding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finding; its script is run by tests of its own."""
    folder = tmp_path_factory.mktemp("report")
    case = cases.load("clipnorm")
    verdict = judge_case(case, Plan(("fit",), tuple(map(parse_placement, ("single", "mirrored:2")))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "verify", lambda script: ("reproduced", ""))
        return Path(findings.write(folder, verdict, case, 0, 0.0).folder)


def edited(finding: Path, to: Path, **changes: Any) -> Path:
    data = json.loads((finding / "finding.json").read_bytes())
    to.mkdir()
    (to / "finding.json").write_text(json.dumps({**data, **changes}))
    return to


def test_a_finding_that_is_still_there_is_said_to_be(run: Any, finding: Path) -> None:
    ran = run("replay", finding)
    assert (ran.code, ran.err) == (cli.NEWS, "")
    assert ran.out.startswith("STILL DIVERGES  distribution/gradient/clip_order/clipnorm  gradient[step 0]")


def test_a_finding_that_is_gone_is_said_to_be(run: Any, finding: Path, tmp_path: Path) -> None:
    data = to_data(cases.load("clipnorm"))
    del data["optimizer"]["config"]["clipnorm"]
    folder = edited(finding, tmp_path / "fixed", case=data)
    ran = run("replay", folder, "--json")
    assert (ran.code, ran.err) == (cli.OK, "")
    (item,) = ran.objects
    assert (item["status"], item["verdict"]) == ("FIXED", "conforms")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": 99}, "format 99 is from a newer release"),
        ({"format": "1"}, "format '1' is not that of a finding"),
        ({"divergence": None}, "holds no divergence"),
        ({"arms": 3}, "malformed"),
    ],
    ids=["newer", "no number", "no divergence", "wrong types"],
)
def test_a_folder_that_cannot_be_read_is_refused_before_anything_is_run(
    run: Any, finding: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    edited(finding, tmp_path / "a_good_one")
    bad = edited(finding, tmp_path / "bad", **changes)
    assert_refused(run("replay", tmp_path), f"conformance: {bad / 'finding.json'}: ", told)


def test_a_finding_that_another_one_took_the_place_of_has_changed(run: Any, finding: Path, tmp_path: Path) -> None:
    folder = edited(finding, tmp_path / "other", case=to_data(cases.load("scalar_loss")))
    ran = run("replay", folder, "--json")
    assert (ran.code, ran.err) == (cli.NEWS, "")
    (item,) = ran.objects
    assert (item["status"], item["replayed"]) == ("CHANGED", CLIPNORM)
    assert item["signature"] not in (None, CLIPNORM)
    assert item["message"].startswith(f"now {item['signature']}")


def test_a_report_is_replayed_whole_and_what_cannot_be_run_is_an_error(run: Any, finding: Path, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    edited(finding, tmp_path / "report" / "a_user_part", case=None)
    few = {"data": {"rows": 1, "batch_size": 1}}
    edited(finding, tmp_path / "report" / "b_few_rows", case=to_data(cases.load("clipnorm")) | few)
    edited(finding, tmp_path / "report" / "c_trial", arms=[{"arm": "trial/single/graph", "status": "ran"}])
    edited(finding, tmp_path / "report" / "d_no_arm", arms=[{"arm": "gossip", "status": "ran"}])
    edited(finding, tmp_path / "report" / "e_still")
    ran = run("replay", tmp_path / "report")
    assert (ran.code, ran.err) == (cli.FAILED, "")
    *lines, count = ran.out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["ERROR"] * 4 + ["STILL DIVERGES"]
    reasons = ["it has no case", "unsupported: 2 replicas for 1 rows", "a user's own loop", "'gossip' is not an arm"]
    for line, reason in zip(lines, reasons, strict=False):
        assert reason in line
    assert count == "1 STILL DIVERGES, 4 ERROR"


# A case file is data.

HOSTILE_CASES: dict[str, dict[str, Any]] = {
    "a layer that is code": {"model__nodes__0__layer": "__import__('pathlib').Path('ran').touch()"},
    "a layer by its module": {"model__nodes__0__layer": "evil>Evil"},
    "a layer that is a lambda": {"model__nodes__0__layer": "Lambda"},
    "a path for an optimizer": {"optimizer__name": "../evil.py"},
    "a loss of another module": {"losses__0__name": "evil.touch"},
    "an activation that is code": {"model__nodes__0__config__activation": "lambda x: __import__('evil')"},
    "a serialized object": {"model__nodes__0__config": {"module": "evil", "class_name": "Evil", "config": {}}},
    "an option that is a pickle": {"optimizer__config": {"learning_rate": "gASVHwAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOU"}},
}


@pytest.mark.parametrize("changes", HOSTILE_CASES.values(), ids=HOSTILE_CASES.keys())
@pytest.mark.parametrize("command", ["check", "replay"])
def test_nothing_in_a_case_is_executed(
    run: Any, finding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, changes: dict[str, Any]
) -> None:
    (tmp_path / "evil.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = write(tmp_path / "bad.case.json", **changes)
    if command == "replay":
        folder = edited(finding, tmp_path / "bad", case=json.loads(path.read_bytes()))
        (folder / "repro.py").write_text("import evil\n")
        path = folder
    assert_refused(run(command, path), f"conformance: {path}", "")
    assert not (tmp_path / "ran").exists()
    assert "evil" not in sys.modules


def test_a_script_in_a_findings_folder_is_left_alone(run: Any, finding: Path, tmp_path: Path) -> None:
    folder = edited(finding, tmp_path / "a", case=None)
    for name in ("repro.py", "conftest.py", "sitecustomize.py", "case.json"):
        (folder / name).write_text("import pathlib\npathlib.Path('ran').touch()\n")
    assert run("replay", folder).code == cli.FAILED
    assert not list(tmp_path.rglob("ran"))


def test_a_report_is_rendered_again(run: Any, finding: Path, tmp_path: Path) -> None:
    folder = edited(finding, tmp_path / "out")
    ran = run("report", "out")
    assert (ran.code, ran.err) == (cli.OK, "")
    written = ran.out.splitlines()
    assert "out/report.md" in written
    assert {Path(line).name for line in written} | {"finding.json"} == {path.name for path in folder.iterdir()}
    assert_refused(run("report", "nowhere"), "conformance: nowhere is no directory", "")


SUMMED = """
import tensorflow as tf

def train_step(model, optimizer, loss_fn, x, y):
    with tf.GradientTape() as tape:
        predictions = model(x, training=False)
        loss = 3.0 * loss_fn(y, predictions)
    optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
    return loss
"""


def test_a_loop_is_pointed_at_and_its_job_summed_up(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "github.md"))
    (tmp_path / "summed.py").write_text(SUMMED)
    path = write(tmp_path / "one.case.json", data__rows=2, data__batch_size=2)
    written = ("--sarif", "out.sarif", "--summary", "mine.md")
    ran = run("check", path, "--loop", "summed:train_step", "--json", *written, *CONFORMS)
    assert (ran.code, ran.err) == (cli.NEWS, "")
    (run_,) = json.loads((tmp_path / "out.sarif").read_text("utf-8"))["runs"]
    (result, *_) = run_["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "summed.py", "uriBaseId": "%SRCROOT%"}
    assert place["region"] == {"startLine": 7}
    assert list(result["partialFingerprints"].values()) == [ran.objects[0]["signature"]]
    for name in ("github.md", "mine.md"):
        assert f"`{result['ruleId']}`" in (tmp_path / name).read_text("utf-8")


def test_sarif_without_a_loop_points_at_nothing_and_is_refused(run: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "one.case.json")
    assert_refused(run("check", path, "--sarif", "out.sarif"), "conformance: --sarif needs a --loop", "")


WORKER = """
import os, signal, sys, time
import msgspec
from conformance.case import load_case, to_json
from conformance.events import CaseJudged, CaseStarted, WorkerSpent, to_line
from conformance.job import Job

job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
def tell(event):
    sys.stdout.buffer.write(to_line(msgspec.structs.replace(event, worker=job.worker)))
    sys.stdout.buffer.flush()

for index, path in enumerate(job.paths):
    name = os.path.basename(path)
    for event in (CaseStarted(index=index, case=to_json(load_case(path))), None):
        if event is None and "kills" in name:
            os.kill(os.getpid(), signal.SIGKILL)
        if event is None and "exits" in name:
            os._exit(7)
        if event is None and "leaves" in name:
            sys.exit(0)
        if event is None and "hangs" in name:
            signal.pause()
        if event is None and "spends" in name and index > 0:
            tell(WorkerSpent(reason="spent", case=to_json(load_case(path))))
            sys.exit(0)
        kept = os.environ["HYPOTHESIS_STORAGE_DIRECTORY"]
        tell(event or CaseJudged(index=index, seconds=0.0, outcome="conforms", path=path, message=kept))
"""


def supervised(tmp_path: Path, *names: str) -> tuple[list[Any], list[Path]]:
    """The events of a worker that ends as the names of its cases say; a path for each."""
    (tmp_path / "worker.py").write_text(WORKER)
    paths = [write(tmp_path / f"{name}.json", seed=number) for number, name in enumerate(names)]
    job = Job(report=str(tmp_path / "out"), paths=tuple(map(str, paths)))
    return list(supervise([job], tmp_path / "out", (sys.executable, str(tmp_path / "worker.py")))), paths


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals on this platform")
def test_a_case_that_kills_its_worker_is_named_and_kept_and_the_rest_goes_on(tmp_path: Path) -> None:
    events, paths = supervised(tmp_path, "first", "kills", "second", "exits", "third")
    judged = [Path(event.path).stem for event in events if isinstance(event, CaseJudged)]
    assert judged == ["first", "second", "third"]
    killed, left = [event for event in events if isinstance(event, WorkerDied)]
    assert killed.reason == "killed by SIGKILL"
    assert left.reason == f"exit code 7; see {tmp_path / 'out' / 'worker-0.log'}"
    for died, path in ((killed, paths[1]), (left, paths[3])):
        kept = Path(died.path)
        assert kept.parent == tmp_path / "out" / "crashes"
        assert from_json(kept.read_text()) == from_json(died.case) == from_json(path.read_text())
    assert killed.path != left.path


def test_a_worker_that_is_spent_is_replaced_as_often_as_it_takes_and_its_case_judged_again(tmp_path: Path) -> None:
    events, paths = supervised(tmp_path, "first", *(f"spends_{number}" for number in range(5)))
    assert [event.path for event in events if isinstance(event, CaseJudged)] == list(map(str, paths))
    spent = [event for event in events if isinstance(event, WorkerSpent)]
    assert [from_json(event.case) for event in spent] == [from_json(path.read_text()) for path in paths[1:]]
    assert not [event for event in events if isinstance(event, WorkerDied)]


def test_what_hypothesis_keeps_lies_in_the_report_and_not_where_the_run_was_called(tmp_path: Path) -> None:
    events, _ = supervised(tmp_path, "first")
    (judged,) = [event for event in events if isinstance(event, CaseJudged)]
    assert judged.message == str(tmp_path / "out" / ".hypothesis")


def test_a_worker_that_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    events, _ = supervised(tmp_path, *(f"exits_{number}" for number in range(5)))
    died = [event for event in events if isinstance(event, WorkerDied)]
    assert len(died) == 3
    assert len({event.path for event in died}) == 3
    (problem,) = [event for event in events if isinstance(event, Problem)]
    assert problem.message == "worker 0 was lost 3 times and is given up; 2 of its cases were not judged"


def test_a_worker_that_ends_without_an_error_before_its_case_is_judged_is_lost_too(tmp_path: Path) -> None:
    events, paths = supervised(tmp_path, "first", "leaves", "third")
    (died,) = [event for event in events if isinstance(event, WorkerDied)]
    assert died.reason.startswith("exit code 0; see ")
    assert from_json(died.case) == from_json(paths[1].read_text())
    assert [Path(event.path).stem for event in events if isinstance(event, CaseJudged)] == ["first", "third"]


def test_a_worker_that_hangs_is_ended_and_its_case_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.supervisor.HANG_SECONDS", 3.0)
    events, paths = supervised(tmp_path, "hangs", "last")
    (died,) = [event for event in events if isinstance(event, WorkerDied)]
    assert died.reason.startswith("killed by SIGKILL after 3 s of silence")
    assert from_json(died.case) == from_json(paths[0].read_text())
    assert [Path(event.path).stem for event in events if isinstance(event, CaseJudged)] == ["last"]
    assert sum(isinstance(event, CaseStarted) for event in events) == 2


def test_a_job_is_data() -> None:
    job = Job(report="out", paths=("a.json",), seconds=1.5, known=("x/y",))
    assert msgspec.json.decode(msgspec.json.encode(job), type=Job) == job
