"""How small the cases of planted faults get, how long it takes, and whether another start ends in the same case.

Run it from anywhere, with or without the names of faults; without, it takes all that one device shows:

    python tests/quality/minimal_table.py
    python tests/quality/minimal_table.py clip_order training_flag_false

One line a fault: layers, rows a batch, steps and options in the case it was found in and in the minimal one, how many
smaller cases were tried, the seconds that took and those of the processor, and whether a second start, another drawn
case with the same finding, came to the same minimal case. The last line has the median of the seconds.
"""

from __future__ import annotations

import os
import statistics
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import click
from faults import FAULTS, Fault
from hunt import EXAMPLES
from minimal import Ending, endings

from conformance import devices
from conformance.case import Case, to_json

ROW = "{:34} {:>9} {:>9} {:>9} {:>9} {:>6} {:>6} {:>6}  {:22} {}"
HEAD = ("fault", "layers", "rows", "steps", "options", "tried", "s", "cpu s", "second start", "signature")
SECONDS = 120.0
"""For one start."""


def measures(case: Case) -> tuple[int, int, int, int]:
    """What is counted of a case: layers, rows of its largest batch, steps, options."""
    options = len(case.optimizer.config) - 1 + sum(len(loss.config) for loss in case.losses)
    options += sum(len(node.config) for node in case.model.nodes)
    return len(case.model.nodes), min(case.data.rows, case.data.batch_size), case.steps, options


def row(fault: Fault, found: list[Ending]) -> str:
    """The line of a fault that was found."""
    first = found[0]
    pairs = zip(measures(first.start), measures(first.smallest), strict=True)
    cells = [f"{before} -> {after}" for before, after in pairs]
    if len(found) == 1:
        same = "no second start"
    else:
        same = "the same" if found[1].smallest == first.smallest else "ANOTHER"
        same += f" ({found[1].attempts} tried, {found[1].seconds:.0f} s)"
    return ROW.format(
        fault.name, *cells, first.attempts, f"{first.seconds:.1f}", f"{first.busy:.1f}", same, first.signature
    )


def main(names: list[str]) -> int:
    """Print the table of the named faults, or of all that one device shows."""
    unknown = sorted(set(names) - {fault.name for fault in FAULTS})
    if unknown:
        click.echo(f"{', '.join(unknown)}: no such fault; they are {', '.join(f.name for f in FAULTS)}", err=True)
        return 2
    devices.set_up(2, one_thread=True)
    click.echo(ROW.format(*HEAD))
    spent: list[Ending] = []
    missed = 0
    for fault in FAULTS:
        if fault.name not in names and (names or fault.replicas > 1):
            continue
        found = endings(fault, SECONDS, starts=2)
        if not found:
            missed += 1
            click.echo(f"{fault.name:34} not found in {EXAMPLES} cases")
            continue
        spent += found
        click.echo(row(fault, found))
        if len(found) > 1 and found[0].smallest != found[1].smallest:
            for item in found:
                click.echo(" ".join(to_json(item.smallest).split()))
    if spent:
        median = statistics.median(item.seconds for item in spent)
        busy = statistics.median(item.busy for item in spent)
        click.echo(f"median {median:.1f} s ({busy:.1f} s of a processor) of {len(spent)}; {missed} not found")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
