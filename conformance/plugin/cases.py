"""Case files as tests: one test a `*.case.json`, judged in the session's arms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance.plugin.judge import Judge
from conformance.plugin.options import SUFFIX
from conformance.plugin.session import SESSION

if TYPE_CHECKING:
    from conformance.case import Case

TEST = "conforms"
"""The name of a file's one test, so that its id is `path/name.case.json::conforms`."""


def is_case(path: Path) -> bool:
    """Whether a file is collected; the case that a finding was found in, before it was made smaller, is not."""
    return path.name.endswith(SUFFIX) and not path.name.startswith("original")


class CaseFile(pytest.File):
    """A case file."""

    def collect(self) -> Iterator[pytest.Item]:
        """Its test; a file that holds no case is an error of collection, in one line."""
        from conformance.case import load_case
        from conformance.errors import UsageError

        try:
            case = load_case(self.path)
        except UsageError as error:
            from conformance.reports.text import plain

            raise self.CollectError(plain(error)) from None
        item = CaseItem.from_parent(self, name=TEST)
        item.case = case
        item.add_marker("conformance")
        yield item


class CaseItem(pytest.Item):
    """Fails where the training of a case does not conform."""

    case: Case

    def runtest(self) -> None:
        """Judge the case; one that cannot be judged here is skipped, which says why."""
        from conformance.errors import DivergenceError
        from conformance.verdict import UNSUPPORTED

        try:
            Judge(self.config.stash[SESSION], self).assert_conforms(case=self.case)
        except DivergenceError as error:
            if getattr(error.verdict, "verdict", None) == UNSUPPORTED:
                pytest.skip(error.args[0])
            raise

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What is wrong, without a traceback: there is no code of the user's to point at."""
        from conformance.errors import DivergenceError, UsageError

        if isinstance(excinfo.value, DivergenceError | UsageError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it stands."""
        return self.path, None, f"case {self.path.name.removesuffix(SUFFIX)}"
