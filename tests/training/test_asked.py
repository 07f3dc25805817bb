"""What a call of `check` gives and cannot be used is said of the argument, in one line that shows it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import conformance
from conformance import api, cases
from conformance.errors import UsageError
from conformance.reports.text import shown

X = np.ones((8, 4), "float32")
Y = X[:, :1].copy()


def build() -> Any:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


class Silent:
    """Something that raises when it is shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def instance() -> Any:
    """A model, made when it is asked for: TensorFlow's devices are made before anything of it is."""
    return build()


NAN = float("nan")
UNUSABLE = {
    "model": [3, "m", instance, lambda units: build(), Silent(), np.ones((500, 500))],
    "loss": [3, NAN, b"mse", "mes", "", [], {}, ["mse", 3], keras.layers.Dense, Silent()],
    "optimizer": [3, "sdg", [], {}, {"optimizer": 3}, NAN],
    "data": [3, "xy", b"", X, (X,), (), (X, Y, Y, Y), [X, Y], {"x": X}, [], (X, Y[:5]), (X[:0], Y[:0]), (X, None)],
    "data ": [
        (X.tolist(), Y.tolist()),
        (X, "y"),
        (X, Y, [1.0] * 8),
        (X, np.float32(3)),
        (X.astype(complex), Y),
        lambda: 3,
    ],
    "batch_size": [0, -1, 2.0, NAN, "4", True, None, 10**30, [4], Silent(), np.ones(3), "4" * 5000],
    "epochs": [0, -1, 1.0, NAN, "1", None, True, 10**30],
    "metrics": ["mae", 3, {"a": "mae"}, ["mea"], [3], [None], [[3]], [Silent()]],
    "loss_weights": ["a", [], {}, ["a"], [None], [1.0, 2.0], {"nope": 1.0}, {"dense": "1"}, [[1.0]]],
    "class_weight": [3, [1], {}, {0: "a"}, {"a": 1}, {-1: 1.0}],
    "validation_data": [3, X, (X,), "v", (X, Y[:3]), (X[:0], Y[:0]), (X, Y, Y, Y), (X[:, :2], Y)],
    "callbacks": [3, "a", [3], [keras.callbacks.Callback], lambda: 3, lambda epochs: []],
    "replicas": [0, 2, "1,2", (), (0,), (65,), (1.0,), (NAN,), ("1",), (True,), None, (1, 10**30), {1}],
    "executions": ["graph", None, 3, (), (3,), ("grpah",), ("Graph",), ("",)],
    "train_step": ["step", 3, X, np.ones((90, 90)), Silent(), build, print, keras.Sequential, lambda modle, x, y: 0],
    "case": ["x.json", 3, {}, Silent()],
}


@pytest.fixture(autouse=True)
def _without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(*_: Any, **__: Any) -> Any:
        raise AssertionError("it was judged")

    monkeypatch.setattr(api, "judge_case", judged)
    monkeypatch.setattr("conformance.running.PreparedArm.run", judged)


def _given(name: str, value: Any) -> dict[str, Any]:
    """Arguments that can be used, but for one."""
    usable = {} if name == "case" else {"model": build, "loss": "mse", "optimizer": "sgd", "data": (X, Y)}
    return {**usable, name: value() if value is instance else value}


def _each() -> list[Any]:
    return [
        pytest.param(name.strip(), value, id=f"{name}-{number}")
        for name, values in UNUSABLE.items()
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(("name", "value"), _each())
def test_what_cannot_be_used_is_one_short_line(name: str, value: Any) -> None:
    given = {
        "model": build,
        "loss": "mse",
        "optimizer": "sgd",
        "data": (X, Y),
        "batch_size": 4,
        name: value() if value is instance else value,
    }
    if name == "case":
        given = {"case": value}
    with pytest.raises(UsageError) as refused:
        conformance.check(**given)
    told = str(refused.value)
    assert told
    assert "\n" not in told
    assert len(told) < 400


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("model", instance, "model=<Sequential name="),
        (
            "model",
            lambda units: build(),
            " takes units; it should be a function without arguments",
        ),
        ("loss", keras.layers.Dense, "loss=Dense is a class and makes no keras.losses.Loss; give one, or a function"),
        ("loss", ["mse", "mae"], "has 2 entries for 1 outputs, which have a target each; give as many"),
        ("data", [X, Y], "data is a list of arrays, and a list is one of batches; give (x, y) or"),
        ("data", (X,), "data is a tuple of 1; give (x, y) or (x, y, sample_weight) as a tuple of arrays"),
        (
            "data",
            (X.tolist(), Y),
            "x holds a list of Python's; a list is taken for several inputs or outputs, so give arrays",
        ),
        ("metrics", "mae", "metrics='mae' should be a list, as in ['mae']"),
        ("batch_size", 10**30, "should be a whole number of at least 1 and at most 2147483647"),
        ("executions", 3, "executions=3 should be a list of names, as in ('graph',)"),
    ],
)
def test_it_says_what_to_give_instead(name: str, value: Any, told: str) -> None:
    given = {
        "model": build,
        "loss": "mse",
        "optimizer": "sgd",
        "data": (X, Y),
        "batch_size": 4,
        name: value() if value is instance else value,
    }
    with pytest.raises(UsageError) as refused:
        conformance.check(**given)
    assert told in str(refused.value)


def test_what_a_case_has_of_its_own_is_not_left_unread() -> None:
    with pytest.raises(UsageError, match=r"^loss, metrics beside a case, which has its own; leave out either$"):
        conformance.check(case=cases.load("clipnorm"), loss="mse", metrics=["mae"])


def test_any_value_is_shown_in_a_short_line() -> None:
    for value in (np.ones((300, 3)), "a\nb\x1b[31m" * 500, Silent(), {"deep": [[[NAN]]]}, "\u202e"):
        line = shown(value)
        assert len(line) <= 100
        assert line.isprintable()
