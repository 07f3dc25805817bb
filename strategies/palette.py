"""What the layers of a model are drawn from, and how often each.

Shares are of one step of a model's body, beside 1 for most layers; a model has two or three steps before its head. How
often a layer is in a case was then measured. The rare layers are one entry of a step and drawn among themselves
afterwards: with a list that gave each its exact share among the others, the shrinker would be lost in repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from conformance.layers import LAYERS
from conformance.strategies.register_layer import REGISTERED

# Layers with weights of their own, and those a user took the trouble to register, over the many that only reshape.
FAVOURED_SHARE = 3
AGAIN_SHARE = 3
MERGE_SHARE = 2
# One rare layer in three cases, divided among them as follows.
RARE_SHARE = 5
# In about 15% of cases: under replicas it sees a part of the batch, so such a case diverges for that one reason and
# nothing else in it can be seen.
BATCH_SHARE = 6
# In about 10% of cases together, for the same reason: every replica draws numbers of its own.
RANDOM_SHARE = 2
# In about 5% of cases together, though they take sequences alone: tracing one takes seconds, as long as a dozen other
# models.
RECURRENT_SHARE = 4

_RECURRENT = ("SimpleRNN", "GRU", "LSTM")


@dataclass(frozen=True)
class Palette:
    """What the layers of a model are drawn from, with their shares, in table order.

    Attributes:
        common: the layers that take one input.
        rare: those among them that are drawn seldom, with their shares of that.
        merges: the layers that merge.
    """

    common: Mapping[str, int]
    rare: Mapping[str, int] = field(default_factory=dict)
    merges: tuple[str, ...] = ()

    @property
    def ranks(self) -> set[int]:
        """The ranks of real input that its layers take, where they do not merge."""
        entries = [LAYERS[name] for name in (*self.common, *self.rare)]
        return {rank for entry in entries if entry.takes == "float" for rank in entry.ranks}


def palette_of(names: tuple[str, ...] | None) -> Palette:
    """The palette of the layers named, all alike often, or of all layers, the dear and the noisy ones seldom."""
    merges = tuple(name for name in names or LAYERS if LAYERS[name].merges)
    if names is not None:
        return Palette({name: 1 for name in names if name not in merges}, merges=merges)
    rare = {name: share for name in LAYERS if (share := _rare_share(name))}
    common = {name: _share(name) for name in LAYERS if name not in rare and name not in merges}
    return Palette(common, rare, merges)


def _rare_share(name: str) -> int:
    entry = LAYERS[name]
    if not entry.samples:
        return BATCH_SHARE
    if entry.random:
        return RANDOM_SHARE
    return RECURRENT_SHARE if name in _RECURRENT else 0


def _share(name: str) -> int:
    return FAVOURED_SHARE if name in REGISTERED or name == "Dense" or "Conv" in name else 1
