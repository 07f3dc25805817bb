"""Learning rate schedules: by hand, by what has to hold of them, and against those of Keras."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.referee.clause import CLAUSES
from conformance.referee.schedule_rules import SCHEDULE_RULES

# By class, options, and learning rates by step, from the formulas of the documentation.
WORKED: tuple[tuple[str, Mapping[str, Any], Mapping[int, float]], ...] = (
    # 0.1 * 0.5^(step / 2).
    (
        "ExponentialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 2, "decay_rate": 0.5},
        {0: 0.1, 1: 0.1 * 0.5**0.5, 2: 0.05, 6: 0.0125},
    ),
    (
        "ExponentialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 2, "decay_rate": 0.5, "staircase": True},
        {0: 0.1, 1: 0.1, 2: 0.05, 3: 0.05, 7: 0.0125},
    ),
    # The example of the documentation: 1.0 for the first 100001 steps, 0.5 for the next 10000, then 0.1.
    (
        "PiecewiseConstantDecay",
        {"boundaries": [100000, 110000], "values": [1.0, 0.5, 0.1]},
        {0: 1.0, 100000: 1.0, 100001: 0.5, 110000: 0.5, 110001: 0.1},
    ),
    # 0.09 (1 - step / 10)^2 + 0.01, and no further than step 10.
    (
        "PolynomialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 10, "end_learning_rate": 0.01, "power": 2.0},
        {0: 0.1, 5: 0.0325, 10: 0.01, 25: 0.01},
    ),
    # Cycling, step 25 is 25 of 30 steps: 0.09 (1/6)^2 + 0.01.
    (
        "PolynomialDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 10, "end_learning_rate": 0.01, "power": 2.0, "cycle": True},
        {0: 0.1, 5: 0.0325, 10: 0.01, 11: 0.09 * (9 / 20) ** 2 + 0.01, 25: 0.0125},
    ),
    # 0.1 / (1 + 0.5 step / 2).
    (
        "InverseTimeDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 2, "decay_rate": 0.5},
        {0: 0.1, 1: 0.08, 2: 0.1 / 1.5, 4: 0.05},
    ),
    (
        "InverseTimeDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 2, "decay_rate": 0.5, "staircase": True},
        {1: 0.1, 3: 0.1 / 1.5, 4: 0.05},
    ),
    # 0.1 (0.8 (1 + cos(pi step / 4)) / 2 + 0.2).
    (
        "CosineDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 4, "alpha": 0.2},
        {0: 0.1, 1: 0.1 * (0.4 * (1 + 0.5**0.5) + 0.2), 2: 0.06, 4: 0.02, 9: 0.02},
    ),
    # From 0.1 up to 0.5 in four steps, and from there down to 0.2 of 0.5.
    (
        "CosineDecay",
        {"initial_learning_rate": 0.1, "decay_steps": 4, "alpha": 0.2, "warmup_target": 0.5, "warmup_steps": 4},
        {0: 0.1, 1: 0.2, 3: 0.4, 4: 0.5, 6: 0.3, 8: 0.1, 20: 0.1},
    ),
    # Periods of 2, 4 and 8 steps from 0, 2 and 6 on, of heights 1, 0.5 and 0.25.
    (
        "CosineDecayRestarts",
        {"initial_learning_rate": 0.1, "first_decay_steps": 2, "m_mul": 0.5},
        {0: 0.1, 1: 0.05, 2: 0.05, 4: 0.025, 6: 0.025, 10: 0.0125, 14: 0.0125},
    ),
    (
        "CosineDecayRestarts",
        {"initial_learning_rate": 0.1, "first_decay_steps": 2, "t_mul": 1.0, "alpha": 0.5},
        {0: 0.1, 1: 0.075, 2: 0.1, 3: 0.075, 1000001: 0.075},
    ),
)


def schedule(name: str, options: Mapping[str, Any]) -> Any:
    return getattr(keras.optimizers.schedules, name)(**options)


IDS = [f"{name} {' '.join(f'{key}={value}' for key, value in options.items())}" for name, options, _ in WORKED]


@pytest.mark.parametrize(("name", "options", "wanted"), WORKED, ids=IDS)
def test_a_schedule_gives_what_the_documentation_gives_by_hand(
    name: str, options: Mapping[str, Any], wanted: Mapping[int, float]
) -> None:
    config = schedule(name, options).get_config()
    found = {step: SCHEDULE_RULES[name](step, config) for step in wanted}
    assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("name", "options", "wanted"), WORKED, ids=IDS)
def test_keras_gives_the_same_within_rounding(
    name: str, options: Mapping[str, Any], wanted: Mapping[int, float]
) -> None:
    of_keras = schedule(name, options)
    steps = sorted({*range(40), *wanted})
    config = of_keras.get_config()
    wide = np.array([SCHEDULE_RULES[name](step, config) for step in steps])
    narrow = np.array([SCHEDULE_RULES[name](step, config, np.float32) for step in steps])
    rounding = 16 * np.abs(narrow - wide).max() + 8 * np.spacing(np.float32(wide.max()))
    found = np.array([float(of_keras(step)) for step in steps])
    np.testing.assert_allclose(found, wide, rtol=0, atol=rounding)
    assert rounding < 1e-5


def test_every_schedule_of_keras_has_a_rule_worked_out_by_hand() -> None:
    base = keras.optimizers.schedules.LearningRateSchedule
    found = {
        name
        for name, value in inspect.getmembers(keras.optimizers.schedules, inspect.isclass)
        if issubclass(value, base) and value is not base
    }
    assert found == SCHEDULE_RULES.keys() == {name for name, _, _ in WORKED}


def test_every_rule_is_a_clause_from_6_20_to_6_25() -> None:
    functions = {clause.function for clause in CLAUSES.values() if (6, 20) <= clause.place <= (6, 25)}
    assert functions == set(SCHEDULE_RULES.values())


@pytest.mark.parametrize(("name", "options", "wanted"), WORKED, ids=IDS)
def test_a_schedule_computes_in_the_dtype_it_is_asked_for(
    name: str, options: Mapping[str, Any], wanted: Mapping[int, float]
) -> None:
    config = schedule(name, options).get_config()
    for step in wanted:
        found = SCHEDULE_RULES[name](step, config, np.float32)
        assert found == float(np.float32(found))


def test_the_decays_are_continuous_where_warmup_ends() -> None:
    config = schedule("CosineDecay", WORKED[8][1]).get_config()
    rates = [SCHEDULE_RULES["CosineDecay"](step, config) for step in range(12)]
    assert max(abs(b - a) for a, b in itertools.pairwise(rates)) < 0.21
    assert rates.index(max(rates)) == config["warmup_steps"]


@given(first=st.integers(1, 50), tenths=st.integers(10, 40), period=st.integers(0, 4), offset=st.sampled_from([-1, 0]))
def test_a_restart_is_at_the_top_and_the_step_before_it_below(
    first: int, tenths: int, period: int, offset: int
) -> None:
    """Whatever the factor, and it is here that floats go wrong: a sum of periods is a sum of decimal fractions."""
    config = schedule(
        "CosineDecayRestarts",
        {"initial_learning_rate": 1.0, "first_decay_steps": 100 * first * 10**3, "t_mul": tenths / 10},
    ).get_config()
    start = sum(100 * first * 10 ** (3 - i) * tenths**i for i in range(period))
    rate = SCHEDULE_RULES["CosineDecayRestarts"](start + offset, config) if start + offset >= 0 else 0.0
    assert rate == 1.0 if offset == 0 else rate < 1e-3


def test_shrinking_periods_end() -> None:
    config = schedule(
        "CosineDecayRestarts", {"initial_learning_rate": 1.0, "first_decay_steps": 8, "t_mul": 0.5}
    ).get_config()
    rule = SCHEDULE_RULES["CosineDecayRestarts"]
    assert rule(8, config) == 1.0
    assert math.isnan(rule(16, config))


def test_keras_takes_some_restarts_a_step_late() -> None:
    """A known fault of Keras: it counts periods by a quotient of float32 logarithms."""
    of_keras = schedule("CosineDecayRestarts", {"initial_learning_rate": 1.0, "first_decay_steps": 1000, "t_mul": 1.1})
    rule, config = SCHEDULE_RULES["CosineDecayRestarts"], of_keras.get_config()
    assert rule(2100, config) == 1.0
    assert float(of_keras(2100)) == pytest.approx(0.0, abs=1e-6)
    assert float(of_keras(2101)) == pytest.approx(rule(2101, config), abs=1e-5)
