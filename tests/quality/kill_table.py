"""Which planted faults are found, how soon, and how small their cases get: a table.

Run it from anywhere, with or without the names of faults:

    python tests/quality/kill_table.py
    python tests/quality/kill_table.py clip_order training_flag_false

One line a fault: how many drawn cases it took until one showed it, the seconds to find it and to minimize it, how many
smaller cases were tried, the stage and the cause found in the smallest case, and the layers with weights in the case
it was found in and in the smallest. Faults marked `*` went the whole way of `conformance run`; the others were judged
at first sight and minimized by the passes alone. A fault that was not found is a line too, and the exit code is then 1.
"""

from __future__ import annotations

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import click
from faults import FAULTS, Fault
from hunt import EXAMPLES, SEARCHED, layers_with_weights, way_of

from conformance import devices

ROW = "{:34} {:>5} {:>6} {:>6} {:>6}  {:15} {:26} {}"


def row(fault: Fault) -> tuple[bool, str]:
    """Whether a fault was found, and its line of the table."""
    name = fault.name + ("*" if fault.name in SEARCHED else "")
    quarry = way_of(fault)(fault)
    if quarry is None:
        return False, f"{name:34} not found in {EXAMPLES} cases"
    layers = f"{layers_with_weights(quarry.case)} -> {layers_with_weights(quarry.smallest)}"
    return True, ROW.format(
        name,
        quarry.drawn,
        *(f"{seconds:.1f}" for seconds in quarry.seconds),
        quarry.attempts,
        quarry.told.divergence.stage.value,
        quarry.told.cause.name,
        layers,
    )


def main(names: list[str]) -> int:
    """Print the table of the named faults, of all if none is named."""
    unknown = sorted(set(names) - {fault.name for fault in FAULTS})
    if unknown:
        click.echo(f"{', '.join(unknown)}: no such fault; they are {', '.join(f.name for f in FAULTS)}", err=True)
        return 2
    devices.set_up(2, one_thread=True)
    click.echo(ROW.format("fault", "cases", "find s", "min s", "tried", "stage", "cause", "layers"))
    missed = False
    for fault in FAULTS:
        if not names or fault.name in names:
            hit, line = row(fault)
            missed |= not hit
            click.echo(line)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
