"""The losses that are functions, as source, and the class a custom loop needs to reduce what they return."""

from __future__ import annotations

from conformance.case import Case
from conformance.functions import source
from conformance.losses import LOSSES
from conformance.reports.repro_plan import Plan
from conformance.reports.source import indented


def functions(case: Case) -> list[str]:
    """The definitions of the losses that are functions."""
    used = dict.fromkeys(loss.name for loss in case.losses if LOSSES[loss.name].keras_class is None)
    return [line for name in used for line in ["", "", *source(name).rstrip().split("\n")]]


def function_loss(plan: Plan) -> list[str]:
    """The class that reduces what a loss function returns as Keras does, where the loop needs it."""
    case = plan.case
    needed = "loop" in plan.trainers and any(
        LOSSES[loss.name].keras_class is None
        and (LOSSES[loss.name].returns != "scalar" or case.data.sample_weight is not None)
        for loss in case.losses
    )
    if not needed:
        return []
    scalar = any(LOSSES[loss.name].returns == "scalar" for loss in case.losses)
    share = "if value.shape.rank == 0:", "    value = value * (1.0 / tf.distribute.get_strategy().num_replicas_in_sync)"
    body = [
        "value = self.function(y_true, y_pred)",
        *(share if scalar and plan.mirrored else ()),
        "return value",
    ]
    if len(body) == 2:
        body = ["return self.function(y_true, y_pred)"]
    init = ["def __init__(self, function):", *indented(["super().__init__()", "self.function = function"]), ""]
    method = ["def call(self, y_true, y_pred):", *indented(body)]
    return ["", "", "class FunctionLoss(keras.losses.Loss):", *indented([*init, *method])]
