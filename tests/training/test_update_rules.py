"""The update rules alone: against values worked out by hand from the papers, and against what has to hold of them.

Against the optimizers of Keras they are tested as parts of whole steps, in `test_step_rules.py`.
"""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from conformance.referee.adam_rules import product_key
from conformance.referee.clause import CLAUSES
from conformance.referee.matrix_rules import factor_keys, muon_uses_adam
from conformance.referee.update_rules import COUNTING, UPDATE_RULES, Array, UpdateStep, distinct, slot_key
from conformance.referee.wrapper_rules import WRAPPERS

# Every option that any rule reads, at a value that leaves it out where there is one.
CONFIG = {
    "learning_rate": 0.1,
    "momentum": 0.0,
    "nesterov": False,
    "rho": 0.5,
    "epsilon": 0.0,
    "centered": False,
    "beta_1": 0.5,
    "beta_2": 0.5,
    "amsgrad": False,
    "beta_2_decay": -0.8,
    "epsilon_1": 1e-30,
    "epsilon_2": 1e-3,
    "clip_threshold": 1.0,
    "relative_step": True,
    "learning_rate_power": -0.5,
    "l1_regularization_strength": 0.0,
    "l2_regularization_strength": 0.0,
    "l2_shrinkage_regularization_strength": 0.0,
    "beta": 0.0,
    "warmup_steps": 0,
    "adam_beta_1": 0.5,
    "adam_beta_2": 0.5,
    "adam_lr_ratio": 1,
    "exclude_layers": [],
    "exclude_embeddings": True,
    "muon_a": 3.4445,
    "muon_b": -4.775,
    "muon_c": 2.0315,
    "ns_steps": 5,
    "rms_rate": None,
}


@dataclass(frozen=True)
class Worked:
    """Steps worked out by hand: of each, the gradient and what is afterwards in the variable and in some slots."""

    name: str
    optimizer: str
    options: Mapping[str, Any]
    start: Any
    steps: tuple[tuple[Any, Mapping[str, Any]], ...]
    slots: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = 0.1

    def __str__(self) -> str:
        return self.name


WORKED = (
    # w - lr g: 1 - 0.05.
    Worked("sgd", "SGD", {}, 1.0, ((0.5, {"w": 0.95}),)),
    # velocity = 0.9 * 0 - 0.05, then 0.9 * -0.05 - 0.05 = -0.095.
    Worked(
        "sgd momentum",
        "SGD",
        {"momentum": 0.9},
        1.0,
        ((0.5, {"w": 0.95, "w_momentum": -0.05}), (0.5, {"w": 0.855, "w_momentum": -0.095})),
        {"w_momentum": 0.0},
    ),
    # w + 0.9 velocity - lr g: 1 - 0.045 - 0.05, then 0.905 - 0.0855 - 0.05.
    Worked(
        "sgd nesterov",
        "SGD",
        {"momentum": 0.9, "nesterov": True},
        1.0,
        ((0.5, {"w": 0.905}), (0.5, {"w": 0.7695, "w_momentum": -0.095})),
        {"w_momentum": 0.0},
    ),
    # The example in Keras's documentation: v = 0.1 * 100, and 10 - 0.1 * 10 / sqrt(10).
    Worked(
        "rmsprop",
        "RMSprop",
        {"rho": 0.9, "epsilon": 1e-7},
        10.0,
        ((10.0, {"w": 9.683772, "w_velocity": 10.0}),),
        {"w_velocity": 0.0},
    ),
    # v = 2, a = 1, m = 0.2 / sqrt(2 - 1); then v = 3, a = 1.5, m = 0.1 + 0.2 / sqrt(3 - 2.25).
    Worked(
        "rmsprop centered momentum",
        "RMSprop",
        {"centered": True, "momentum": 0.5},
        3.0,
        (
            (2.0, {"w": 2.8, "w_velocity": 2.0, "w_average_gradient": 1.0, "w_momentum": 0.2}),
            (2.0, {"w": 2.4690598923, "w_velocity": 3.0, "w_average_gradient": 1.5, "w_momentum": 0.3309401077}),
        ),
        {"w_velocity": 0.0, "w_average_gradient": 0.0, "w_momentum": 0.0},
    ),
    # sqrt(0.16 + 0.09) = 0.5, so 1 - 0.03 / 0.5; then 0.94 - 0.04 / sqrt(0.25 + 0.16).
    Worked(
        "adagrad",
        "Adagrad",
        {},
        1.0,
        ((0.3, {"w": 0.94, "w_accumulator": 0.25}), (0.4, {"w": 0.8775304952, "w_accumulator": 0.41})),
        {"w_accumulator": 0.16},
    ),
    # move = -sqrt(0 + 1) / sqrt(0.5 + 1) and d = 0.5 * 2/3; then -sqrt(1/3 + 1) / sqrt(0.75 + 1), d = 1/6 + 8/21.
    Worked(
        "adadelta",
        "Adadelta",
        {"epsilon": 1.0},
        1.0,
        (
            (1.0, {"w": 0.1835034191, "w_accumulated_grad": 0.5, "w_accumulated_delta_var": 1 / 3}),
            (1.0, {"w": -0.6893681419, "w_accumulated_grad": 0.75, "w_accumulated_delta_var": 1 / 6 + 8 / 21}),
        ),
        {"w_accumulated_grad": 0.0, "w_accumulated_delta_var": 0.0},
        1.0,
    ),
    # The sign of 0.1 * 0.5, then of 0.9 * 0.005 - 0.1 * 0.04, which is still positive although the gradient is not.
    Worked(
        "lion",
        "Lion",
        {"beta_1": 0.9, "beta_2": 0.99},
        1.0,
        ((0.5, {"w": 0.9, "w_momentum": 0.005}), (-0.04, {"w": 0.8, "w_momentum": 0.00455})),
        {"w_momentum": 0.0},
    ),
    # n = 0.25, z = 0.3 - (0.5 - 0.4) / 0.1 * 1 = -0.7, w = (0.7 - 0.2) / ((1 + 0.5) / 0.1 + 5) = 0.5 / 20; then
    # n = 0.41, z = -0.7 + 0.4 - (sqrt(0.41) - 0.5) / 0.1 * 0.025, w = 0.1350781 / ((1 + sqrt(0.41)) / 0.1 + 5).
    Worked(
        "ftrl",
        "Ftrl",
        {"l1_regularization_strength": 0.2, "l2_regularization_strength": 5.0, "beta": 1.0},
        1.0,
        (
            (0.3, {"w": 0.025, "w_accumulator": 0.25, "w_linear": -0.7}),
            (0.4, {"w": 0.0063111396, "w_accumulator": 0.41, "w_linear": -0.3350781059}),
        ),
        {"w_accumulator": 0.16, "w_linear": 0.0},
    ),
    # The same with lambda_1 beyond |z| = 0.7.
    Worked(
        "ftrl, to zero",
        "Ftrl",
        {"l1_regularization_strength": 0.8},
        1.0,
        ((0.3, {"w": 0.0, "w_linear": -0.7}),),
        {"w_accumulator": 0.16, "w_linear": 0.0},
    ),
    # z = 0.3 + 2 * 0.5 * 1 - 1 = 0.3, w = -0.3 / (0.5 / 0.1), and n without the shrinkage.
    Worked(
        "ftrl, shrinkage",
        "Ftrl",
        {"l2_shrinkage_regularization_strength": 0.5},
        1.0,
        ((0.3, {"w": -0.06, "w_accumulator": 0.25, "w_linear": 0.3}),),
        {"w_accumulator": 0.16, "w_linear": 0.0},
    ),
    # 0.1 sqrt(0.001) / 0.1 * 0.05 / (sqrt(0.00025) + 1e-7): nearly lr, for the first step of Adam is lr sign(g); then
    # m = 0.045 - 0.025, v = 0.00024975 + 0.0000625, 0.1 sqrt(0.001999) / 0.19 * 0.02 / (sqrt(0.00031225) + 1e-7).
    Worked(
        "adam",
        "Adam",
        {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
        1.0,
        (
            (0.5, {"w": 0.9000006325, "w_momentum": 0.05, "w_velocity": 0.00025}),
            (-0.25, {"w": 0.8733670792, "w_momentum": 0.02, "w_velocity": 0.00031225}),
        ),
        {"w_momentum": 0.0, "w_velocity": 0.0},
    ),
    # m = 1, v = 2, then m = 0.5, v = 1 and still 2: 0.1 sqrt(0.75) / 0.75 * 0.5 / sqrt(2) = 0.0408248.
    Worked(
        "amsgrad",
        "Adam",
        {"amsgrad": True},
        1.0,
        (
            (2.0, {"w": 0.9, "w_velocity": 2.0, "w_velocity_hat": 2.0}),
            (0.0, {"w": 0.8591751710, "w_velocity": 1.0, "w_velocity_hat": 2.0}),
        ),
        {"w_momentum": 0.0, "w_velocity": 0.0, "w_velocity_hat": 0.0},
    ),
    # 0.1 / 0.5 * 0.25 / (0.5 + 0.5); then m = 0.125 - 0.05, u = max(0.25, 0.1), 0.1 / 0.75 * 0.075 / 0.75.
    Worked(
        "adamax",
        "Adamax",
        {"epsilon": 0.5},
        1.0,
        (
            (0.5, {"w": 0.95, "w_momentum": 0.25, "w_norm": 0.5}),
            (-0.1, {"w": 0.95 - 0.1 / 7.5, "w_momentum": 0.075, "w_norm": 0.25}),
        ),
        {"w_momentum": 0.0, "w_norm": 0.0},
    ),
    # u(1) = 0.5 (1 - 0.48) = 0.26, u(2) = 0.5 (1 - 0.4608) = 0.2696, so p = 0.26 and
    # (0.2696 * 0.25 / (1 - 0.26 * 0.2696) + 0.74 * 0.5 / 0.74) 0.1 / (sqrt(0.125 / 0.5) + 0.5) = 0.0572481; then
    # u(3) = 0.278816, p = 0.070096, m = 0.075, v = 0.0675 and -0.0071522.
    Worked(
        "nadam",
        "Nadam",
        {"epsilon": 0.5},
        1.0,
        (
            (0.5, {"w": 0.9427519400, "w_momentum": 0.25, "w_velocity": 0.125, "variable_7": 0.26}),
            (-0.1, {"w": 0.9499041537, "w_momentum": 0.075, "w_velocity": 0.0675, "variable_7": 0.070096}),
        ),
        {"w_momentum": 0.0, "w_velocity": 0.0, "variable_7": 1.0},
    ),
    # r = (1, 1), |w| = 5, |r| = sqrt(2): 0.1 * 5 / sqrt(2) = 0.3535534.
    Worked(
        "lamb",
        "Lamb",
        {},
        [3.0, 4.0],
        (([1.0, 1.0], {"w": [2.6464466094, 3.6464466094], "w_momentum": [0.5, 0.5], "w_velocity": [0.5, 0.5]}),),
        {"w_momentum": [0.0, 0.0], "w_velocity": [0.0, 0.0]},
    ),
    # With |w| = 0 the ratio is 1.
    Worked(
        "lamb from zero",
        "Lamb",
        {},
        [0.0, 0.0],
        (([2.0, -1.0], {"w": [-0.1, 0.1]}),),
        {"w_momentum": [0.0, 0.0], "w_velocity": [0.0, 0.0]},
    ),
    # z = 1 - 0.05, x = z; z = 0.95 + 0.1 * 0.25 / sqrt(0.09375 / 0.75), x = (0.95 + z) / 2; v / (1 - 1/8) = 0.625, so
    # z = 1.0207107 - 0.1 / sqrt(0.625), x = 2/3 * 0.9853553 + z / 3; and w is the mean of z and x each time.
    Worked(
        "schedule-free adamw",
        "ScheduleFreeAdamW",
        {"warmup_steps": 2},
        1.0,
        (
            (0.5, {"w": 0.95, "w_momentum": 0.95, "w_velocity": 0.125}),
            (-0.25, {"w": 1.0030330086, "w_momentum": 1.0207106781, "w_velocity": 0.09375}),
            (1.0, {"w": 0.9245981608, "w_momentum": 0.8942195717, "w_velocity": 0.546875}),
        ),
        {"w_momentum": 1.0, "w_velocity": 0.0},
    ),
    # b = 0 at first, so r = (2.5, 12.5), c = (5, 10), v = (1/3, 5/3) x (5, 10), u = g / sqrt(v) has a mean square of
    # 0.96, below the threshold, and w - max(0.001, rms(w)) min(0.1, 1) u with rms(w) = 1.
    Worked(
        "adafactor, matrix",
        "Adafactor",
        {},
        [[1.0, 1.0], [1.0, 1.0]],
        (
            (
                [[1.0, 2.0], [3.0, 4.0]],
                {
                    "w": [[1 - 0.1 * 0.6**0.5, 1 - 0.1 * 1.2**0.5], [1 - 0.1 * 1.08**0.5, 1 - 0.1 * 0.96**0.5]],
                    "w_velocity": [[5 / 3, 10 / 3], [25 / 3, 50 / 3]],
                    "w[0]": [2.5, 12.5],
                    "w[1]": [5.0, 10.0],
                },
            ),
        ),
        {"w_velocity": np.zeros((2, 2)), "w[0]": [0.0, 0.0], "w[1]": [0.0, 0.0]},
    ),
    # u = (1, 1), twice the threshold, so 1 - 0.9 * 0.5; then b = 1 - 2^-0.8, u = (1, 0) with rms sqrt(1/2), and
    # 0.55 - 0.55 min(0.9, sqrt(1/2)) sqrt(1/2) = 0.275.
    Worked(
        "adafactor, vector",
        "Adafactor",
        {"clip_threshold": 0.5},
        [1.0, 1.0],
        (
            ([3.0, 4.0], {"w": [0.55, 0.55], "w_velocity": [9.0, 16.0]}),
            ([3.0, 0.0], {"w": [0.275, 0.55], "w_velocity": [9.0, 16.0 * (1 - 2**-0.8)]}),
        ),
        {"w_velocity": [0.0, 0.0], "w[0]": 0, "w[1]": 0},
        0.9,
    ),
    # Without relative steps the second rate is 0.9 itself: 0.55 - 0.55 * 0.9 * sqrt(1/2).
    Worked(
        "adafactor, absolute",
        "Adafactor",
        {"clip_threshold": 0.5, "relative_step": False},
        [1.0, 1.0],
        (([3.0, 4.0], {"w": [0.55, 0.55]}), ([3.0, 0.0], {"w": [0.55 - 0.495 * 0.5**0.5, 0.55]})),
        {"w_velocity": [0.0, 0.0], "w[0]": 0, "w[1]": 0},
        0.9,
    ),
    # A diagonal matrix stays one, x -> x (3.4445 - 4.775 x^2 + 2.0315 x^4) element by element, from x = (0.6, 0.8):
    # 0.6 * 1.9887824 and 0.8 * 1.2206024.
    Worked(
        "muon",
        "Muon",
        {"ns_steps": 1, "momentum": 0.5},
        [[0.0, 0.0], [0.0, 0.0]],
        (
            (
                [[3.0, 0.0], [0.0, 4.0]],
                {"w": [[-0.119326944, 0.0], [0.0, -0.097648192]], "w_momentum": [[3, 0], [0, 4]]},
            ),
        ),
        {"w_momentum": np.zeros((2, 2))},
    ),
    # m = 0.5 (3, 4) + (3, 0) = (4.5, 2), x = (3, 0) + 0.5 m = (5.25, 1), over sqrt(28.5625); times 0.2 sqrt(2).
    Worked(
        "muon nesterov",
        "Muon",
        {"ns_steps": 0, "momentum": 0.5, "nesterov": True, "rms_rate": 0.2},
        [[1.0, 0.0], [0.0, 0.0]],
        (
            (
                [[3.0, 0.0], [0.0, 0.0]],
                {
                    "w": [[1 - 0.02 * 2**0.5 * 5.25 / 28.5625**0.5, 0.0], [0.0, -0.02 * 2**0.5 / 28.5625**0.5]],
                    "w_momentum": [[4.5, 0.0], [0.0, 2.0]],
                },
            ),
        ),
        {"w_momentum": [[3.0, 0.0], [0.0, 4.0]]},
    ),
    # A vector goes by Adam with the rate times adam_lr_ratio: lr 0.05 times the sign of g.
    Worked(
        "muon, vector",
        "Muon",
        {"adam_lr_ratio": 0.5},
        [1.0, 1.0],
        (([3.0, -4.0], {"w": [0.95, 1.05], "w_momentum": [1.5, -2.0], "w_velocity": [4.5, 8.0]}),),
        {"w_momentum": [0.0, 0.0], "w_velocity": [0.0, 0.0]},
    ),
)


@pytest.mark.parametrize("worked", WORKED, ids=str)
def test_a_rule_gives_what_the_paper_gives_by_hand(worked: Worked) -> None:
    w, slots = np.asarray(worked.start), {name: np.asarray(value) for name, value in worked.slots.items()}
    for number, (gradient, wanted) in enumerate(worked.steps):
        config = {**CONFIG, **worked.options}
        step = UpdateStep({"w": np.asarray(gradient)}, {"w": w}, slots, worked.learning_rate, number, config)
        made = UPDATE_RULES[worked.optimizer](step)
        w, slots = made.variables["w"], {**slots, **made.slots}
        for name, value in wanted.items():
            found = w if name == "w" else slots[name]
            np.testing.assert_allclose(found, value, rtol=3e-8, atol=1e-10, err_msg=f"{name} after {number + 1} steps")


def optimizers() -> Iterator[tuple[str, Any]]:
    """Every optimizer of `keras.optimizers`, by name."""
    for name, value in inspect.getmembers(keras.optimizers, inspect.isclass):
        if issubclass(value, keras.optimizers.Optimizer) and value is not keras.optimizers.Optimizer:
            yield name, value


def test_every_optimizer_of_keras_has_a_rule_or_is_around_others() -> None:
    assert {name for name, _ in optimizers()} == UPDATE_RULES.keys() | WRAPPERS.keys()


def test_every_rule_is_worked_out_by_hand() -> None:
    assert {UPDATE_RULES[worked.optimizer] for worked in WORKED} == set(UPDATE_RULES.values())


def test_every_rule_is_a_clause_of_chapter_7() -> None:
    functions = {clause.function for clause in CLAUSES.values() if clause.place[0] == 7}
    assert functions == set(UPDATE_RULES.values())


@functools.cache
def _shapes(optimizer: str) -> dict[str, tuple[int, ...]]:
    config = {**CONFIG, "momentum": 0.5, "centered": True, "amsgrad": True}
    made = getattr(keras.optimizers, optimizer).from_config(
        {
            key: value
            for key, value in config.items()
            if key in inspect.signature(getattr(keras.optimizers, optimizer)).parameters
        }
    )
    made.build([keras.Variable(np.ones((3, 2)), name="k"), keras.Variable(np.ones(2), name="b")])
    names = distinct(v.path.partition("/")[2] or v.path for v in made.variables)
    return {name: tuple(v.shape) for name, v in zip(names, made.variables, strict=True)}


def _random_step(optimizer: str, dtype: Any, seed: int = 0, iterations: int = 2) -> UpdateStep:
    rng = np.random.default_rng(seed)
    shapes = {"k": (3, 2), "b": (2,)}

    def draw(shape: tuple[int, ...]) -> Array:
        return np.asarray(rng.uniform(0.25, 1.0, size=shape)).astype(dtype)

    config = {**CONFIG, "momentum": 0.5, "centered": True, "amsgrad": True, "epsilon": 1e-3}
    # A mean of squares is no less than the square of the mean, or a centered RMSprop has a root of less than nothing.
    slots = {
        name: draw(shape) / (4 if name.endswith("average_gradient") else 1)
        for name, shape in _shapes(optimizer).items()
    }
    slots = {name: np.asarray(value).astype(dtype) for name, value in slots.items()}
    gradients = {path: draw(shape) for path, shape in shapes.items()}
    variables = {path: draw(shape) for path, shape in shapes.items()}
    return UpdateStep(gradients, variables, slots, 0.1, iterations, config)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", UPDATE_RULES)
def test_a_rule_computes_in_the_dtype_it_is_given(optimizer: str, dtype: Any) -> None:
    made = UPDATE_RULES[optimizer](_random_step(optimizer, dtype))
    assert {value.dtype for value in (*made.variables.values(), *made.slots.values())} == {np.dtype(dtype)}


@pytest.mark.parametrize("optimizer", UPDATE_RULES)
def test_in_float32_a_rule_differs_from_float64_by_rounding_and_no_more(optimizer: str) -> None:
    narrow = _random_step(optimizer, np.float32)

    def widened(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {name: value.astype(np.float64) for name, value in arrays.items()}

    wide = UpdateStep(
        *map(widened, (narrow.gradients, narrow.variables, narrow.slots)),
        narrow.learning_rate,
        narrow.iterations,
        narrow.config,
    )
    in32, in64 = UPDATE_RULES[optimizer](narrow), UPDATE_RULES[optimizer](wide)
    distances = {
        name: float(np.abs(value - {**in64.variables, **in64.slots}[name]).max())
        for name, value in {**in32.variables, **in32.slots}.items()
    }
    assert max(distances.values()) < 1e-5, distances
    assert any(distance > 0 for distance in distances.values()), "float32 was not computed in float32"


@pytest.mark.parametrize("optimizer", UPDATE_RULES)
def test_the_rules_that_read_the_number_of_the_step_are_known(optimizer: str) -> None:
    step = _random_step(optimizer, np.float64)
    first, later = (UPDATE_RULES[optimizer](replace(step, iterations=number)).variables for number in (0, 5))
    moved = any(not np.array_equal(first[name], later[name]) for name in first)
    assert moved == (optimizer in COUNTING)


@pytest.mark.parametrize("optimizer", UPDATE_RULES)
def test_a_rule_gives_back_all_variables_and_only_its_own_slots(optimizer: str) -> None:
    step = _random_step(optimizer, np.float64)
    made = UPDATE_RULES[optimizer](step)
    assert made.variables.keys() == step.variables.keys()
    placeholders = {name for name, shape in _shapes(optimizer).items() if name.startswith("b[") and shape == ()}
    assert made.slots.keys() == step.slots.keys() - {"iteration", "learning_rate"} - placeholders


@pytest.mark.parametrize("optimizer", UPDATE_RULES)
def test_a_variable_without_a_gradient_stays_and_its_slots_are_not_told(optimizer: str) -> None:
    step = _random_step(optimizer, np.float64)
    made = UPDATE_RULES[optimizer](
        UpdateStep({"k": step.gradients["k"]}, step.variables, step.slots, 0.1, 2, step.config)
    )
    np.testing.assert_array_equal(made.variables["b"], step.variables["b"])
    assert not np.array_equal(made.variables["k"], step.variables["k"])
    assert not any(name.startswith("b_") for name in made.slots)


@pytest.mark.parametrize("optimizer", UPDATE_RULES)
def test_a_rule_does_not_write_into_what_it_is_given(optimizer: str) -> None:
    step = _random_step(optimizer, np.float64)
    given_ = [value for part in (step.gradients, step.variables, step.slots) for value in part.values()]
    before = [value.copy() for value in given_]
    UPDATE_RULES[optimizer](step)
    for value, old in zip(given_, before, strict=True):
        np.testing.assert_array_equal(value, old)


# Hyperparameters a rule reads; each has to matter to it.
READ = {
    "SGD": ("momentum", "nesterov"),
    "RMSprop": ("rho", "momentum", "epsilon", "centered"),
    "Adam": ("beta_1", "beta_2", "epsilon", "amsgrad"),
    "AdamW": ("beta_1", "beta_2", "epsilon", "amsgrad"),
    "Adadelta": ("rho", "epsilon"),
    "Adagrad": ("epsilon",),
    "Adamax": ("beta_1", "beta_2", "epsilon"),
    "Adafactor": ("beta_2_decay", "epsilon_1", "epsilon_2", "clip_threshold", "relative_step"),
    "Nadam": ("beta_1", "beta_2", "epsilon"),
    "Ftrl": (
        "learning_rate_power",
        "l1_regularization_strength",
        "l2_regularization_strength",
        "l2_shrinkage_regularization_strength",
        "beta",
    ),
    "Lion": ("beta_1", "beta_2"),
    "Lamb": ("beta_1", "beta_2", "epsilon"),
    "Muon": (
        "adam_beta_1",
        "adam_beta_2",
        "adam_lr_ratio",
        "epsilon",
        "exclude_layers",
        "momentum",
        "nesterov",
        "ns_steps",
        "muon_a",
        "muon_b",
        "muon_c",
        "rms_rate",
    ),
    "ScheduleFreeAdamW": ("beta_1", "beta_2", "epsilon", "warmup_steps"),
}
OTHER = {
    "nesterov": True,
    "centered": False,
    "amsgrad": False,
    "relative_step": False,
    "clip_threshold": 0.25,
    "ns_steps": 2,
    "warmup_steps": 8,
    "exclude_layers": ["k"],
    "rms_rate": 0.2,
    "epsilon_2": 4.0,
}


@pytest.mark.parametrize(("optimizer", "name"), [(o, name) for o, names in READ.items() for name in names])
def test_every_hyperparameter_matters(optimizer: str, name: str) -> None:
    step = _random_step(optimizer, np.float64)
    changed = OTHER[name] if name in OTHER else step.config[name] * 1.5 + 0.01
    # Against the momentum, so that the sign in Lion's rule depends on how much of either there is; and with a velocity
    # for what Muon leaves to Adam once its layer is excluded.
    gradients = {path: -gradient for path, gradient in step.gradients.items()}
    slots = {**step.slots, "k_velocity": np.ones((3, 2))}
    outcomes = []
    for config in (step.config, {**step.config, name: changed}):
        # A rate above 1 / sqrt(t), for `relative_step` to matter.
        made = UPDATE_RULES[optimizer](UpdateStep(gradients, step.variables, slots, 0.9, 2, config))
        left = {**slots, **made.slots, **made.variables}
        outcomes.append(np.concatenate([value.ravel() for _, value in sorted(left.items())]))
    assert not np.allclose(*outcomes, rtol=1e-9, atol=0)


@settings(max_examples=20)
@given(w=hnp.arrays(np.float64, (3, 2), elements=st.floats(-8, 8)), count=st.integers(0, 5))
@pytest.mark.parametrize("optimizer", ["SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Nadam", "Lion", "Lamb", "Muon"])
def test_a_zero_gradient_with_zero_slots_leaves_the_weights(optimizer: str, w: Array, count: int) -> None:
    config = {**CONFIG, "momentum": 0.5, "epsilon": 1e-7}
    slots = {f"w_{slot}": np.zeros((3, 2)) for slot in ("momentum", "velocity", "norm")}
    made = UPDATE_RULES[optimizer](
        UpdateStep({"w": np.zeros((3, 2))}, {"w": w}, {**slots, "variable": np.float64(0.5)}, 0.1, count, config)
    )
    np.testing.assert_array_equal(made.variables["w"], w)


@settings(max_examples=20)
@given(scale=st.floats(0.25, 64))
@pytest.mark.parametrize("optimizer", ["Adam", "Adamax", "Nadam", "Lion", "Lamb", "Muon", "Adafactor", "Adagrad"])
def test_a_rule_that_normalizes_does_not_see_the_scale_of_the_gradient(optimizer: str, scale: float) -> None:
    """The first step from zero slots, with nothing added to the denominator."""
    config = {**CONFIG, "momentum": 0.5}
    gradient, w = np.array([[1.0, -2.0], [3.0, 4.0], [0.5, 1.5]]), np.full((3, 2), 2.0)
    slots = {f"w_{slot}": np.zeros((3, 2)) for slot in ("momentum", "velocity", "norm", "accumulator")}
    slots |= {"w[0]": np.zeros(3), "w[1]": np.zeros(2), "variable": np.float64(1.0)}
    once, scaled = (
        UPDATE_RULES[optimizer](UpdateStep({"w": times * gradient}, {"w": w}, slots, 0.1, 0, config)).variables["w"]
        for times in (1.0, scale)
    )
    np.testing.assert_allclose(scaled, once, rtol=1e-6)


def test_muon_draws_the_singular_values_towards_one() -> None:
    gradient = np.random.default_rng(0).normal(size=(6, 4))
    for each in (gradient, gradient.T):
        made = UPDATE_RULES["Muon"](
            UpdateStep({"w": each}, {"w": np.zeros(each.shape)}, {"w_momentum": np.zeros(each.shape)}, 1.0, 0, CONFIG)
        )
        moved = -made.variables["w"]
        assert np.all(np.abs(np.linalg.svd(moved, compute_uv=False) - 1) < 0.35)
        # The same singular vectors: the move is a symmetric positive matrix times the gradient's polar factor.
        u, _, v = np.linalg.svd(each, full_matrices=False)
        inner = u.T @ moved @ v.T
        np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-9)


@pytest.mark.parametrize(
    ("path", "dimensions", "options", "wanted"),
    [
        ("model/dense/kernel", 2, {}, False),
        ("model/dense/bias", 1, {}, True),
        ("model/conv/kernel", 4, {}, True),
        ("model/Embedding/embeddings", 2, {}, True),
        ("model/embedding/embeddings", 2, {"exclude_embeddings": False}, False),
        ("model/out/kernel", 2, {"exclude_layers": ["out"]}, True),
        ("model/out/kernel", 2, {"exclude_layers": ["^out"]}, False),
    ],
)
def test_muon_leaves_to_adam_what_it_says_it_leaves(path: str, dimensions: int, options: Any, wanted: bool) -> None:
    assert muon_uses_adam(path, dimensions, {**CONFIG, **options}) is wanted


def test_slots_are_called_as_in_a_trace() -> None:
    assert slot_key("model/dense/kernel", "momentum") == "model_dense_kernel_momentum"


def test_names_that_occur_once_stay_and_others_are_numbered_in_order() -> None:
    assert distinct(["iteration", "kernel", "kernel", "bias"]) == ["iteration", "kernel[0]", "kernel[1]", "bias"]
    assert distinct([]) == []


def test_the_factors_of_adafactor_are_found_among_variables_of_the_same_name() -> None:
    variables = {"a/w": np.ones((3, 2)), "b/w": np.ones(2), "c/w": np.ones((2, 2))}
    placed = factor_keys(variables, [f"w[{index}]" for index in range(6)])
    assert placed == {"a/w": ("w[0]", "w[1]"), "c/w": ("w[4]", "w[5]")}
    without_placeholders = factor_keys(variables, [f"w[{index}]" for index in range(4)])
    assert without_placeholders == {"a/w": ("w[0]", "w[1]"), "c/w": ("w[2]", "w[3]")}


def test_the_product_of_nadam_is_the_one_variable_without_a_name() -> None:
    assert product_key(["iteration", "w_momentum", "variable_12"]) == "variable_12"
    assert product_key(["iteration", "w_momentum"]) is None
    with pytest.raises(ValueError, match="variable, variable_1"):
        product_key(["variable", "variable_1"])


def test_without_its_product_among_the_slots_nadam_multiplies_it_again() -> None:
    step = _random_step("Nadam", np.float64, iterations=3)
    product = np.prod([0.5 * (1 - 0.5 * 0.96**t) for t in (1, 2, 3)])
    key = product_key(step.slots)
    given_, absent = {**step.slots, key: np.asarray(product)}, {k: v for k, v in step.slots.items() if k != key}
    one, other = (UPDATE_RULES["Nadam"](replace(step, slots=slots)) for slots in (given_, absent))
    np.testing.assert_allclose(one.variables["k"], other.variables["k"], rtol=1e-12)
    assert one.slots.keys() - other.slots.keys() == {key}


def test_the_rules_import_neither_keras_nor_tensorflow() -> None:
    modules = "update_rules, schedule_rules, step_rules, disputed_update_rules"
    found = "bool({'keras', 'tensorflow'} & set(sys.modules))"
    code = f"import sys; from conformance.referee import {modules}; sys.exit({found})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
