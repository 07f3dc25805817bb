"""Devices for the arms: N replicas on whatever this machine has.

`MirroredStrategy` needs as many devices as replicas. Where there are N GPUs they are used (untested: no machine with a
GPU was at hand); elsewhere the CPU is divided into N logical devices, which must happen before TensorFlow starts its
runtime, and TensorFlow says nothing when a first operation has started it. So `set_up` is called before anything else,
and when it comes too late the error says what to do.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Iterator
from typing import Any

from conformance.arm import Placement
from conformance.errors import DeviceError, UnsupportedError, UsageError

AT_LEAST = 4
"""Logical devices made where any are: a process cannot make more once TensorFlow has started."""


def require_tensorflow() -> None:
    """Make sure that there is a TensorFlow to be judged; which one is the user's choice, so none is a dependency.

    Raises:
        UsageError: when TensorFlow or Keras is not installed.
    """
    missing = [name for name in ("tensorflow", "keras") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} not installed; pip install 'keras-conformance[tensorflow-cpu]', or [tensorflow]"
            " for GPUs, or a build of your own"
        )


def set_up(replicas: int, *, one_thread: bool = False) -> None:
    """Make sure that `replicas` devices of one kind exist.

    Args:
        replicas: how many devices are needed. A few more are made, for there is no second chance in a process and the
            next training may want them; unused ones cost nothing.
        one_thread: keep TensorFlow's thread pools at one thread each. Meant for processes of our own, never for a
            user's.

    Raises:
        DeviceError: when TensorFlow has already started with fewer devices.
        UsageError: when there is no TensorFlow.
    """
    require_tensorflow()
    import tensorflow as tf

    if one_thread:
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(1)
    if len(tf.config.list_physical_devices("GPU")) >= max(replicas, 2):
        return
    (cpu, *_) = tf.config.list_physical_devices("CPU")
    with contextlib.suppress(RuntimeError):
        # Raised when the runtime has started; whether that matters depends on how many devices it started with.
        configured = tf.config.get_logical_device_configuration(cpu) or ()
        if len(configured) < replicas:
            parts = [tf.config.LogicalDeviceConfiguration()] * max(replicas, AT_LEAST)
            tf.config.set_logical_device_configuration(cpu, parts)
        return
    if replicas == 1:
        return
    if len(tf.config.list_logical_devices("CPU")) < replicas:
        raise DeviceError(
            f"mirrored:{replicas} needs {replicas} logical CPU devices, but TensorFlow already started with"
            f" {len(tf.config.list_logical_devices('CPU'))}; write `from conformance import devices` and"
            f" `devices.set_up({replicas})` before the first TensorFlow operation, at the top of conftest.py, say"
        )


_ABORTED: list[bool] = []


def note_aborted() -> None:
    """Note that an exception has ended the collective operations of this process."""
    _ABORTED.append(True)


def aborted() -> bool:
    """Whether an exception has ended the collective operations of this process: nothing trains on replicas in it."""
    return bool(_ABORTED)


@functools.cache
def strategy(placement: Placement) -> Any:
    """The `tf.distribute` strategy of a placement; one object for each, for TensorFlow keeps state in it.

    Raises:
        DeviceError: when there are fewer devices than replicas.
    """
    import tensorflow as tf

    if not placement.mirrored:
        # Built and run in no scope at all, as people do on one device.
        return tf.distribute.get_strategy()
    set_up(placement.replicas)
    for kind in ("GPU", "CPU"):
        names = [device.name for device in tf.config.list_logical_devices(kind)][: placement.replicas]
        if len(names) == placement.replicas:
            made = tf.distribute.MirroredStrategy([name.removeprefix("/device:") for name in names])
            # In a function, for TensorFlow warns of what is run on replicas outside of one.
            tf.function(made.run, autograph=False)(_met)
            return made
    raise DeviceError(f"{placement} needs {placement.replicas} devices of one kind, and there are fewer")


def _met() -> Any:
    """A first sum over the replicas, of nothing.

    The devices of a strategy become a group when they first reduce something together. An exception on one replica
    while another waits for that ends every collective operation of the process, for good; once the group is there, an
    exception ends its own step alone (measured, TensorFlow 2.21: 0.06 s, once a strategy).
    """
    import tensorflow as tf

    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.zeros(()))


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Run with TensorFlow's op determinism on or off, and put back what was there.

    XLA arms run without it: Keras refuses `jit_compile=True` while it is on.

    Raises:
        UnsupportedError: when it is on, should be off, and this TensorFlow cannot turn it off.
    """
    from tensorflow.python.framework import config

    was = bool(config.is_op_determinism_enabled())
    if was != wanted:
        _switch(config, wanted)
    try:
        yield
    finally:
        if was != wanted:
            _switch(config, was)


def _switch(config: Any, on: bool) -> None:
    if not on and not hasattr(config, "disable_op_determinism"):
        raise UnsupportedError("this TensorFlow cannot turn op determinism off, which an xla arm needs")
    (config.enable_op_determinism if on else config.disable_op_determinism)()


REWRITES = ("arithmetic_optimization", "constant_folding", "remapping")
"""Grappler's passes that replace arithmetic by other arithmetic; the structural ones stay on."""


@contextlib.contextmanager
def unfolded() -> Iterator[None]:
    """Run graphs with the arithmetic they were written with: Grappler's `REWRITES` off, and put back after.

    These passes move constant factors past one another, (x / n) * c to x * (c / n), and fuse operations, where they
    know the shapes, and whether they know them depends on how the data is fed. So two graphs of one arithmetic, one
    traced from arrays and one from a dataset, round differently by some ulp: of 30 drawn cases 3 did, none with the
    passes off (measured, TensorFlow 2.21). Neither side is wrong then, and a tolerance that forgave it would forgive
    real faults.
    """
    import tensorflow as tf

    was = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options(dict.fromkeys(REWRITES, False))
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({name: was.get(name, True) for name in REWRITES})
