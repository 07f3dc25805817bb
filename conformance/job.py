"""What a worker is told to do, as data."""

from __future__ import annotations

import msgspec

from conformance.arm import parse_execution, parse_placement, parse_trainer


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One worker's share of a run.

    Attributes:
        worker: its number, from 0.
        report: the report's directory.
        trainers: names of trainers, the suspect first.
        placements: placements as they are written.
        executions: names of executions.
        paths: case files to judge; empty for a search.
        examples: for a search, how many cases to draw; None for as many as the time allows.
        seconds: for a search, how long; None for as long as the examples take.
        seed: for a search, the seed of the draws.
        shrink_seconds: how long to spend on making one finding smaller.
        known: signatures of the baseline.
        imports: modules of the user's that register layers, losses or optimizers.
        loop: `package.module:function` of a user's step, or None.
        write: whether to make findings out of divergences (folder, repro), or only to judge.
        first: for a search, the JSON of a case that is judged before any is drawn, as one of its examples.
        calibrate: calibrate with cases instead of judging them.
    """

    worker: int = 0
    report: str
    trainers: tuple[str, ...] = ("fit", "loop")
    placements: tuple[str, ...] = ("single",)
    executions: tuple[str, ...] = ("graph",)
    paths: tuple[str, ...] = ()
    examples: int | None = None
    seconds: float | None = None
    seed: int = 0
    shrink_seconds: float = 30.0
    known: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    loop: str | None = None
    write: bool = True
    first: str | None = None
    calibrate: bool = False

    def validate(self) -> None:
        """Refuse arms that do not exist.

        Raises:
            UsageError: naming the value and what would be valid.
        """
        for trainer in self.trainers:
            parse_trainer(trainer)
        for placement in self.placements:
            parse_placement(placement)
        for execution in self.executions:
            parse_execution(execution)
