"""Judging unseen by Hypothesis's tracer.

Once a test has failed Hypothesis notes every line that runs, to say which ones only failing cases run. A training runs
through most of TensorFlow and Keras, where that makes it several times slower, and what it finds are lines of this
package that raise. So the tracer is stopped while cases are drawn and judged, and goes on where the user's test does.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

_MODULE = "hypothesis.internal.scrutineer"
_TOOL, _TOOL_ID = "scrutineer", 3
"""What Hypothesis registers with `sys.monitoring`, which Python has from 3.12 on."""


class Untraced:
    """A context without Hypothesis's tracer, and without that of nobody else.

    Where it is left by an exception the tracer stays stopped: what comes then is how the failure is told.
    """

    def __enter__(self) -> None:
        self._tracer: Any = None
        self._events = 0
        monitoring: Any = getattr(sys, "monitoring", None)
        if monitoring is not None:
            if monitoring.get_tool(_TOOL_ID) == _TOOL:
                self._events = monitoring.get_events(_TOOL_ID)
                monitoring.set_events(_TOOL_ID, 0)
            return
        tracer = sys.gettrace()
        if type(getattr(tracer, "__self__", None)).__module__ == _MODULE:
            self._tracer = tracer
            sys.settrace(None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        if self._tracer is not None:
            sys.settrace(self._tracer)
        if self._events:
            monitoring: Any = getattr(sys, "monitoring", None)
            monitoring.set_events(_TOOL_ID, self._events)
