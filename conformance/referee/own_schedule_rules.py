"""Chapter 6: the learning rate of a schedule that somebody wrote, which nothing but the schedule says.

It is the only rule that runs what it is about: that its rate is the right one is the user's affair, and which step it
is asked for is what can be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.referee.clause import clause
from conformance.referee.schedule_rules import SCHEDULE_RULES, ScheduleRule


@clause("6.28", source="https://keras.io/api/optimizers/learning_rate_schedules/learning_rate_schedule/")
def own_schedule(step: int, config: Mapping[str, Any], dtype: npt.DTypeLike = np.float64) -> float:
    """The learning rate of a schedule that is none of Keras's is what the schedule gives for the steps before this
    one, and that of a function what the function gives.
    """
    import keras
    import tensorflow as tf

    rate = config["schedule"]
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return float(rate(tf.constant(step, tf.int64)))
    return float(rate())


def rule_of(rate: Any) -> tuple[ScheduleRule, Mapping[str, Any]] | None:
    """The rule of a learning rate in an optimizer's config, and what the rule is given; None where there is none.

    Args:
        rate: as `conformance.optimizer_config.config_of` has it.
    """
    if isinstance(rate, Mapping):
        rule = SCHEDULE_RULES.get(str(rate.get("class_name")))
        return None if rule is None else (rule, rate["config"])
    return (own_schedule, {"schedule": rate}) if callable(rate) else None
