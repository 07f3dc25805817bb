"""Draws optimizers.

What goes beyond the update rule (clipping, decay, averaging, accumulation) is drawn as none, one or two features, each
whole: the interesting faults sit where two of them meet.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import strategies as st

from conformance.case import Optimizer
from conformance.frozen import FrozenMap
from conformance.optimizers import CLIPPING, COMMON, OPTIMIZERS
from conformance.strategies import arguments
from conformance.strategies.options import draw_options
from conformance.strategies.register_optimizer import REGISTERED_OPTIMIZERS
from conformance.strategies.weighted import pick

# Shares of the features, of which an optimizer has 0.7 on average: clipping in about one case of five, accumulation in
# one of eight. Accumulation under replicas raises in today's Keras, and a case that raises shows nothing else.
_SHARES = {"clipping": 6, "weight_decay": 4, "ema": 4, "accumulation": 4}
_COUNTS = ((0, 9), (1, 8), (2, 3))


def _configs() -> dict[str, tuple[FrozenMap, ...]]:
    clipping = [FrozenMap({name: value}) for name, field in CLIPPING.items() for value in field.options(())]
    momenta = [FrozenMap(), *(FrozenMap(ema_momentum=value) for value in COMMON["ema_momentum"].options(()))]
    every = COMMON["ema_overwrite_frequency"].options(())
    overwrites = [FrozenMap(), *(FrozenMap(ema_overwrite_frequency=value) for value in every)]
    averages = [FrozenMap({**a, **b}, use_ema=True) for a, b in itertools.product(momenta, overwrites)]
    counts = COMMON["gradient_accumulation_steps"].options(())
    return {
        "clipping": tuple(clipping),
        "weight_decay": tuple(FrozenMap(weight_decay=value) for value in COMMON["weight_decay"].options(())),
        "ema": tuple(averages),
        "accumulation": tuple(FrozenMap(gradient_accumulation_steps=value) for value in counts),
    }


FEATURES = _configs()
"""What an optimizer may have beyond its update rule, simplest first; at most one of each group."""


def optimizers(*, names: Iterable[str] | None = None) -> st.SearchStrategy[Optimizer]:
    """An optimizer with its options, valid together: at most one kind of clipping, averaging options with averaging.

    Args:
        names: the optimizers to draw from, names of `conformance.optimizers.OPTIMIZERS`; None for all.

    Raises:
        UsageError: when a name is not known.

    Example:
        >>> import hypothesis
        >>> hypothesis.find(optimizers(), lambda optimizer: "clipnorm" in optimizer.config)
        Optimizer(name='SGD', config=FrozenMap({'clipnorm': 0.125, 'learning_rate': 0.125}), built_first=True)
    """
    return _optimizer(arguments.names(names, OPTIMIZERS, "names"))


@st.composite
def _optimizer(draw: st.DrawFn, names: tuple[str, ...]) -> Optimizer:
    return draw_optimizer(draw, names)


def draw_optimizer(draw: st.DrawFn, names: tuple[str, ...]) -> Optimizer:
    """One optimizer of `names`."""
    entry = OPTIMIZERS[draw(st.sampled_from(names))]
    config = FrozenMap(learning_rate=draw(st.sampled_from(entry.rates)))
    if entry.name in REGISTERED_OPTIMIZERS:
        config = config.set(**draw(REGISTERED_OPTIMIZERS[entry.name]))
    else:
        config = draw_options(draw, entry.own, onto=config)
    config = draw(_features(config)) if entry.features else config
    # Users seldom build their optimizer first, and the two ways differ: Keras then traces the step twice.
    return Optimizer(name=entry.name, config=config, built_first=pick(draw, (True, 2), (False, 1)))


@st.composite
def _features(draw: st.DrawFn, onto: FrozenMap) -> FrozenMap:
    config, left = onto, dict(_SHARES)
    for _ in range(pick(draw, *_COUNTS)):
        group = pick(draw, *left.items())
        del left[group]
        config = config.set(**draw(st.sampled_from(FEATURES[group])))
    return config
