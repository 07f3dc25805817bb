"""Watching a training without touching it.

The key idea: every quantity is written, where it is made, into a variable with one row a step. Variables work alike in
a graph, eagerly and under XLA, inside `strategy.run` and inside a `tf.while_loop` over steps; nothing is printed,
called back or returned, so the trainer's own code, traces and results stay what they were.
"""

from conformance.recording.names import output_names, slot_name
from conformance.recording.recorder import Recorder

__all__ = ["Recorder", "output_names", "slot_name"]
