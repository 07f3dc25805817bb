"""Where a run happened: versions and devices."""

from __future__ import annotations

import platform
from importlib import metadata

from conformance.finding import Environment

TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tensorflow-macos", "tf-nightly", "tf-nightly-cpu")
"""The distributions that hold TensorFlow."""

_NONE = "not installed"


def version(*distributions: str) -> str:
    """The version of the first of these distributions that is installed, or `not installed`."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return _NONE


def distribution(*distributions: str) -> str | None:
    """The first of these distributions that is installed, by its name."""
    return next((name for name in distributions if version(name) != _NONE), None)


def installed() -> dict[str, str]:
    """The versions that findings depend on, by the names of `conformance.versions.DISTRIBUTIONS`."""
    return {"keras": version("keras", "keras-nightly"), "tensorflow": version(*TENSORFLOWS)}


def environment() -> Environment:
    """This process's environment; starts TensorFlow's runtime, so devices must have been set up."""
    import tensorflow as tf

    devices = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    return Environment(
        python=platform.python_version(),
        tensorflow=tf.__version__,
        keras=version("keras", "keras-nightly"),
        numpy=version("numpy"),
        conformance=version("keras-conformance"),
        platform=platform.platform(),
        devices=", ".join(devices),
    )
