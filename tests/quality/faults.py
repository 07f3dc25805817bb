"""The faults that can be planted in Keras, one entry each, and taken out again.

What a fault is and how it is planted says `planting`; the faults themselves stand in one module for each part of Keras.
"""

from __future__ import annotations

import faults_data
import faults_layers
import faults_losses
import faults_optimizers
import faults_replicas
import faults_reports
import faults_rules
import faults_trainer
from planting import Fault

_MODULES = (
    faults_trainer,
    faults_reports,
    faults_data,
    faults_losses,
    faults_layers,
    faults_optimizers,
    faults_rules,
    faults_replicas,
)

FAULTS: tuple[Fault, ...] = tuple(
    item for module in _MODULES for item in vars(module).values() if isinstance(item, Fault)
)
"""The faults, in the order of their modules."""

__all__ = ["FAULTS", "Fault"]
