"""Up to which stage a judgement has nothing to say against an arm."""

from __future__ import annotations

import numpy as np

from conformance.arm import Arm, Placement
from conformance.referee.departure import Departure, Judgement
from conformance.stage import Stage
from conformance.training import numbered

ARM = Arm("trial", Placement(2), "graph")


def departed(stage: Stage) -> Judgement:
    nothing = np.zeros(1)
    return Judgement(ARM, [Departure(stage, 0, "kernel", nothing, nothing, 1.0, 0.0)])


def test_an_arm_conforms_up_to_the_stage_before_the_one_that_departs() -> None:
    judgement = departed(Stage.UPDATE)
    assert judgement.conforms_to(Stage.GRADIENT)
    assert not judgement.conforms_to(Stage.UPDATE)
    assert not judgement.conforms_to(Stage.LOGS)


def test_what_could_not_be_judged_counts_like_what_departs() -> None:
    judgement = Judgement(ARM)
    judgement.skip("update: no rule", Stage.UPDATE)
    judgement.skip("update: no rule", Stage.UPDATE)
    assert judgement.skipped == ["update: no rule"]
    assert judgement.conforms_to(Stage.GRADIENT)
    assert not judgement.conforms_to(Stage.UPDATE)


def test_a_report_of_one_number_has_its_name_and_of_several_their_places() -> None:
    logs = {"loss": np.float32(0.5), "f1": np.array([0.25]), "each": np.array([0.25, 1.0])}
    assert numbered(logs) == {"loss": 0.5, "f1": 0.25, "each[0]": 0.25, "each[1]": 1.0}
