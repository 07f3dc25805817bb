"""What the fixture `conformance` is: the package's two verbs, with the session's options and memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from conformance.plugin.session import Session

if TYPE_CHECKING:
    from conformance.verdict import Verdict


class Judge:
    """`conformance.check` and `conformance.assert_conforms`, as the session's options have them.

    Where a test does not say `replicas` or `executions` the session's are taken; every verdict is kept.

    Args:
        session: the session.
        item: the test that asks.
    """

    def __init__(self, session: Session, item: pytest.Item) -> None:
        self._session, self._item = session, item

    def check(self, *args: Any, **kwargs: Any) -> Verdict:
        """Judge a training, as `conformance.check` does, with its arguments.

        A divergence that the session's baseline knows makes the verdict `known`, which conforms.
        """
        __tracebackhide__ = True
        return self._judged(args, kwargs)[0]

    def assert_conforms(self, *args: Any, **kwargs: Any) -> Verdict:
        """Judge a training, as `conformance.assert_conforms` does, with its arguments.

        Raises:
            DivergenceError: when it does not conform, other than the session's baseline knows.
            RetracedError: when the loop traces functions more often than `--conformance-max-retraces` allows.
        """
        __tracebackhide__ = True
        verdict, folder = self._judged(args, kwargs)
        if not verdict.conforms:
            from conformance.failure import divergence_error

            raise divergence_error(verdict, report=folder)
        from conformance.defaults import hold

        hold(verdict)
        return verdict

    def _judged(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Verdict, str | None]:
        __tracebackhide__ = True
        from msgspec.structs import replace

        from conformance.api import check
        from conformance.errors import ABORTED, DeviceError

        defaults = self._session.settings.defaults
        asked = {"replicas": defaults.replicas, "executions": defaults.executions, **kwargs}
        try:
            with self._session.running(self._item, kwargs.get("case")):
                verdict = check(*args, **asked)
        except DeviceError as error:
            raise self._session.too_late(error, asked["replicas"]) from None
        if verdict.reason == ABORTED:
            verdict = replace(verdict, reason=f"{ABORTED}: run this test in a session of its own")
        loop = args[0] if args else kwargs.get("train_step")
        return self._session.keep_asked(self._item, self._session.with_known(verdict), loop, kwargs)
