"""From an exception to the layer, with frames like those of Keras and TensorFlow and without either."""

from __future__ import annotations

import gc
import linecache
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conformance.layer_error import describe, printed

# What Keras and TensorFlow are told by is the names of their modules, which only code run in one can have.
KERAS = """
class Layer:
    def __init__(self, name):
        self.name = name
    def __call__(self, *args, **kwargs):
        return self.call(*args, **kwargs)
"""
TENSORFLOW = """
def add_v2(x, y, name=None):
    raise ValueError("no")
def matmul_v2(a, b):
    return _fast(a, b)
def _fast(a, b):
    raise TypeError("neither")
"""


def _module(name: str, source: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": name}
    exec(source, scope)  # noqa: S102 - see above
    return scope


Layer: Any = _module("keras.src.layers.layer", KERAS)["Layer"]
add_v2 = _module("tensorflow.python.ops.gen_math_ops", TENSORFLOW)["add_v2"]
matmul = _module("tensorflow.python.ops.math_ops", TENSORFLOW)["matmul_v2"]


class Model(Layer):  # type: ignore[misc]
    def __init__(self, name: str, *layers: Any) -> None:
        super().__init__(name)
        self.layers = layers

    def call(self, inputs: Any) -> Any:
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs


class Sums(Layer):  # type: ignore[misc]
    def call(self, inputs: Any, other: Any = None) -> Any:
        inputs = inputs[:, :2]
        return add_v2(inputs, np.ones((4, 5), "float64"))


def _raised(call: Callable[[], Any]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        call()
    return caught.value


X = np.ones((4, 10), "float32")


def test_the_innermost_layer_is_named_by_path_and_class() -> None:
    told = describe(_raised(lambda: Model("model", Model("block_1", Sums("mine")))(X)))
    assert (told.layer, told.layer_class, told.named) == ("model/block_1/mine", "Sums", "model/block_1/mine (Sums)")


def test_the_model_within_a_sequential_one_is_no_part_of_the_path() -> None:
    within = Model("functional", Sums("mine"))
    model = Model("sequential", within)
    model._functional = within
    assert describe(_raised(lambda: model(X))).layer == "sequential/mine"


def test_inputs_are_those_of_the_call_and_operands_those_of_the_operation() -> None:
    told = describe(_raised(lambda: Sums("mine")(X)))
    assert told.shapes == "(4, 10) float32"
    assert (told.operation, told.operands) == ("add", "(4, 2) float32, (4, 5) float64")


def test_a_function_that_only_hands_on_is_no_operation() -> None:
    assert describe(_raised(lambda: matmul(X, X))).operation == "fast"


def test_what_a_model_only_hands_on_is_no_layers() -> None:
    class Trains(Layer):  # type: ignore[misc]
        def fit(self) -> None:
            raise ValueError("a loss")

    told = describe(_raised(lambda: Trains("model").fit()))
    assert (told.layer, told.layer_class, told.shapes) == (None, None, None)


def test_the_line_is_the_innermost_that_somebody_wrote() -> None:
    line = describe(_raised(lambda: Sums("mine")(X))).line or ""
    assert line.startswith(f"{__file__}:")
    assert line.endswith(': return add_v2(inputs, np.ones((4, 5), "float64"))')


def test_the_line_of_a_notebooks_cell_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def call():\n    raise ValueError('here')\n"
    monkeypatch.setitem(linecache.cache, "<cell 7>", (len(source), None, source.splitlines(True), "<cell 7>"))
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, "<cell 7>", "exec"), scope)  # noqa: S102 - as a notebook does
    assert describe(_raised(scope["call"])).line == "<cell 7>:2: raise ValueError('here')"


def test_of_an_exception_raised_anew_the_one_that_passed_a_layer_is_told() -> None:
    def anew() -> None:
        try:
            Sums("mine")(X)
        except ValueError as error:
            raise RuntimeError("in a graph") from error

    told = describe(_raised(anew))
    assert (told.kind, told.layer, told.operation) == ("RuntimeError", "mine", "add")


def test_a_compiled_graphs_node_is_traced_to_its_layer() -> None:
    model = Model("model", Layer("dense"), Layer("dense_1"), Layer("dense_1_1"))
    for layer in model.layers:
        layer.path = f"model/{layer.name}"
    known = [model, *model.layers]

    def of(node: str) -> str | None:
        return describe(ValueError(f"no [[{{{{node {node}}}}}]]"), known).layer

    assert of("model/dense/MatMul") == "model/dense"
    assert of("model/dense_1/MatMul") == "model/dense_1"
    assert of("replica_1/model_1/dense_1/MatMul") == "model/dense"
    assert of("gradient_tape/model_1/dense_1_1/MatMul") == "model/dense_1"
    assert of("model_1/MatMul") == "model"
    assert of("elsewhere/MatMul") is None


def test_whoever_asked_for_the_judgement_has_not_made_the_node() -> None:
    from conformance import judge

    frames = "".join(f'  File "{file}", line 1, in f\n\n' for file in (__file__, judge.__file__))
    text = f"Detected at node a/b defined at (most recent call last):\n{frames}\nno"
    assert describe(RuntimeError(text)).line is None
    assert (describe(RuntimeError(text.replace(judge.__file__, __file__))).line or "").startswith(f"{__file__}:1: ")


def test_neither_frames_nor_tensors_nor_their_values_are_kept() -> None:
    class Tensor:
        shape, dtype = (4, 10), "float32"

        def __getitem__(self, key: Any) -> Any:
            return np.full((4, 2), 0.123456, "float32")

        def __array__(self) -> Any:
            raise AssertionError("a value was asked for")

    def told() -> tuple[Any, weakref.ref[Any]]:
        tensor = Tensor()
        return describe(_raised(lambda: Sums("mine")(tensor))), weakref.ref(tensor)

    raised, tensor = told()
    gc.collect()
    assert tensor() is None
    assert "0.123" not in repr(raised)


def test_a_long_traceback_keeps_its_beginning_and_its_end() -> None:
    def deep(left: int) -> None:
        if left == 0:
            raise ValueError("x" * 5_000)
        even(left - 1)

    def even(left: int) -> None:
        # Of one function alone Python says how often it was called again.
        deep(left - 1)

    text = printed(_raised(lambda: deep(200))) or ""
    assert text.startswith("Traceback (most recent call last):")
    assert len(text.splitlines()) <= 61
    assert max(map(len, text.splitlines())) <= 403


class StagingError(Exception):
    """Called as AutoGraph's."""


def test_an_error_of_autographs_own_is_called_by_the_class_of_what_it_tells() -> None:
    message = 'in user code:\n\n    File "/home/me/loop.py", line 3, in step  *\n        raise error\n\n    Stale: no\n'
    assert str(describe(StagingError(message))) == "Stale: no"
    assert describe(StagingError("no")).kind == "StagingError"
    assert describe(RuntimeError(message)).kind == "RuntimeError"


def test_a_key_error_is_unwrapped_though_its_words_are_escaped() -> None:
    error = KeyError("Could not infer the shape of 'mine'. Error encountered:\n\n'name'")
    assert str(describe(error)) == "KeyError: 'name'"
    assert str(describe(KeyError("name"))) == "KeyError: 'name'"
