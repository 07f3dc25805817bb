"""A project of somebody else's, in which the engine is stood in for.

What is under test is what the plugin does with a verdict, so `conformance.api.check` gives the verdict that a test asks
it for, and `conformance.devices` writes down what it is asked for.
"""

from __future__ import annotations

import pytest

STAND_IN = """
import os, sys, types
from msgspec.structs import replace
from conformance.defaults import settle, with_known
from conformance.environment import known_findings
from conformance.errors import DeviceError
from conformance.finding import slug
from conformance.stage import Stage
from conformance.plan import Plan
from conformance.verdict import ArmReport, Cause, Divergence, Observation, Verdict

def judged(verdict="conforms", text="said", signature="trainer/loss/mask_ignored"):
    arms = ("trial/single/graph", "fit/single/graph")
    found = Divergence(arms=arms, axis="trainer", step=3, stage=Stage.LOSS, variable="loss", magnitude=1.0,
                       allowed=0.0, message=f"loss[step 3] {text}")
    names = signature if isinstance(signature, tuple) else (signature,)
    seen = tuple(
        Observation(divergence=found, cause=Cause(name=name.rpartition("/")[2], explanation=text, advice=text),
                    signature=name, wrong_arm=arms[0])
        for name in names
    )
    reports = tuple(ArmReport(arm=arm, status="ran") for arm in arms)
    return Verdict(case=None, verdict=verdict, arms=reports, reason=None if verdict == "diverges" else text,
                   observations=seen if verdict == "diverges" else ())

def check(train_step=None, *, case=None, verdict="conforms", replicas=(1,), executions=("graph",), baseline=None,
          **told):
    with open("asked.txt", "a") as file:
        print("check", *replicas, *executions, file=file)
    if os.environ.get("LATE"):
        raise DeviceError("TensorFlow already started with 1")
    if train_step is not None and case is not None:
        return replace(train_step(case), case=case)
    if case is not None:
        verdict = {2: "unsupported"}.get(case.seed) or ("conforms", "diverges")[case.seed % 2]
    return with_known(judged(verdict, **told), known_findings(baseline).signatures)

def assert_conforms(train_step=None, **told):
    return settle(check(train_step, **told), train_step, told)

def set_up(replicas, **_):
    with open("asked.txt", "a") as file:
        print("devices", replicas, file=file)
    if os.environ.get("STARTED") and replicas > 1:
        raise DeviceError(f"TensorFlow already started with 1, and {replicas} are needed")

def judge_case(case, plan, trial=None, quick=False):
    with open("asked.txt", "a") as file:
        print("judge", *plan.executions, file=file)
    return replace(trial(case), case=case)

api = types.ModuleType("conformance.api")
api.check, api.judged, api.assert_conforms = check, judged, assert_conforms
api.plan_of = lambda loop, replicas, executions: Plan(("trial", "fit"), executions=tuple(executions))
judge = types.ModuleType("conformance.judge")
judge.judge_case = judge_case
devices = types.ModuleType("conformance.devices")
devices.set_up, devices.AT_LEAST = set_up, 4
findings = types.ModuleType("conformance.findings")
findings.claim = lambda report, signature: not (report / "findings" / slug(signature)).exists()

def write(report, verdict, original, attempts, seconds):
    folder = report / "findings" / slug(verdict.signature)
    folder.mkdir(parents=True)
    (folder / "repro.py").write_text(verdict.signature)

findings.write = write
stand_ins = (api, judge, devices, findings)
sys.modules.update({module.__name__: module for module in stand_ins})
"""


@pytest.fixture
def stand_in(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty project with the stand-in."""
    pytester.makeconftest(STAND_IN)
    pytester.syspathinsert()
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    return pytester


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions as a person runs them: in CI Hypothesis draws without a seed and a database, and pytest cuts nothing."""
    for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "TF_BUILD"):
        monkeypatch.delenv(name, raising=False)
