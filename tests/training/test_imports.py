"""Layers of a user's own on the command line: `--import` brings in the module that registers them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance import cli, imports, layers
from conformance.errors import UsageError
from conformance.finding_folders import findings_below
from conformance.optimizers import OPTIMIZERS
from conformance.strategies.register_layer import REGISTERED
from conformance.strategies.register_optimizer import REGISTERED_OPTIMIZERS

SOURCE = """
import keras
import tensorflow as tf


class Half(keras.layers.Layer):
    def call(self, inputs):
        return inputs if tf.executing_eagerly() else 0.5 * inputs


class Slow(keras.optimizers.SGD):
    pass


class Double(keras.layers.Layer):
    def call(self, inputs):
        return 2.0 * inputs
"""

# Under so many names that hardly a case goes without one, but for the first of a search, which is the simplest.
REGISTERING = """
from hypothesis import strategies as st

from conformance.strategies import register_layer, register_optimizer
from mine.layers import Double, Half, Slow

register_layer(Half, config=st.just({}), input_ranks=(1,))
print("mine.registered is imported")
for number in range(100):
    register_layer(Double, config=st.just({}), name=f"Own{number}")
    register_optimizer(Slow, name=f"Own{number}")
"""

CASE = {
    "format": 1,
    "model": {
        "inputs": [{"name": "x", "shape": [2]}],
        "nodes": [
            {"name": "half", "layer": "Half", "inputs": ["x"]},
            {"name": "dense", "layer": "Dense", "config": {"units": 1}, "inputs": ["half"]},
        ],
        "outputs": ["dense"],
    },
    "losses": [{"name": "mean_squared_error"}],
    "optimizer": {"name": "SGD", "config": {"learning_rate": 0.125}},
    "data": {"rows": 2, "batch_size": 2},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a package of its own, from whose folder commands are run."""
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "layers.py").write_text(SOURCE)
    (package / "registered.py").write_text(REGISTERING)
    (tmp_path / "half.case.json").write_text(json.dumps(CASE))
    return tmp_path


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is registered in this process is forgotten afterwards."""
    monkeypatch.setattr(imports, "_imported", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    tables: tuple[dict[str, Any], ...] = (layers.LAYERS, REGISTERED, OPTIMIZERS, REGISTERED_OPTIMIZERS)
    before = [dict(table) for table in tables]
    yield
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.fixture
def run(project: Path, registered: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `conformance ARGUMENTS --import mine.registered` in the project; its exit code and standard output."""
    monkeypatch.chdir(project)

    def call(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, "--import", "mine.registered"])
        return int(ended.value.code or 0), capsys.readouterr().out

    return call


def test_what_a_module_registers_is_drawn_by_every_worker(run: Any, project: Path) -> None:
    code, _ = run(
        *[
            "run",
            "--examples",
            "4",
            "-n",
            "2",
            "--placements",
            "single",
            "--trainers",
            "fit",
            "--report",
            "out",
            "--json",
        ]
    )
    assert code in (cli.OK, cli.NEWS)
    report = project / "out"
    for worker in (0, 1):
        assert "mine.registered is imported" in (report / f"worker-{worker}.log").read_text("utf-8")
    events = [json.loads(line) for line in (report / "events.jsonl").read_text("utf-8").splitlines()]
    cases = [event["case"] for event in events if event["type"] == "CaseStarted"]
    assert len(cases) == 4
    assert any('"Own' in case for case in cases)


def test_a_finding_says_what_it_needs_and_its_script_reproduces_it(run: Any, project: Path) -> None:
    code, out = run(
        *("check", "half.case.json", "--placements", "single", "--executions", "graph,eager"),
        *("--report", "out", "--json"),
    )
    assert code == cli.NEWS
    folder = Path(project, json.loads(out)["repro"]).parent
    finding = json.loads((folder / "finding.json").read_text("utf-8"))
    assert finding["imports"] == ["mine.registered"]
    assert finding["repro_status"] == "reproduced", finding["repro_output"]
    script = (folder / "repro.py").read_text("utf-8")
    assert "from mine.layers import Half\n" in script
    assert "Needs Half of mine.layers: run it where `import mine.layers` works.\n" in script
    assert "--import mine.registered" in (folder / "report.md").read_text("utf-8")
    code, out = run("replay", str(folder), "--json")
    assert (code, json.loads(out)["status"]) == (cli.NEWS, "STILL DIVERGES")
    del layers.LAYERS["Half"]
    with pytest.raises(UsageError, match=r"needs --import mine\.registered: 'Half' is not a known layer"):
        findings_below([folder])
