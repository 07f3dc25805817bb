"""A finding: a divergence with its minimal case, its cause, its signature and a repro that was run."""

from __future__ import annotations

import re

import msgspec

from conformance.case import Case
from conformance.verdict import Observation, Verdict

REPRODUCED, NOT_REPRODUCED, NOT_RUN = "reproduced", "not reproduced", "not run"


class Environment(msgspec.Struct, frozen=True):
    """Where a finding was made: versions and devices, a name and a value each."""

    python: str
    tensorflow: str
    keras: str
    numpy: str
    conformance: str
    platform: str
    devices: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A divergence, ready to be handed over.

    Attributes:
        verdict: the judgement of the minimal case, whose first observation is the finding's.
        original: the case it was found in.
        environment: where.
        attempts: how many smaller cases were tried on the way.
        repro_status: what became of the script in a clean process: `reproduced`, `not reproduced` or `not run`.
        repro_output: what the script printed there.
        imports: the modules that register what its cases have of the user's own.
    """

    verdict: Verdict
    original: Case | None
    environment: Environment
    attempts: int = 0
    repro_status: str = NOT_RUN
    repro_output: str = ""
    imports: tuple[str, ...] = ()

    @property
    def observation(self) -> Observation:
        """The divergence with its cause and signature."""
        return self.verdict.observations[0]

    @property
    def signature(self) -> str:
        """The finding's signature."""
        return self.observation.signature

    @property
    def slug(self) -> str:
        """The signature as the name of a folder."""
        return slug(self.signature)


def slug(signature: str) -> str:
    """A signature as the name of a folder: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", signature.lower()).strip("-")
