"""The exit codes, a contract."""

OK, NEWS, USAGE, FAILED, INTERRUPTED = 0, 1, 2, 3, 130
"""Everything conforms, or diverges only as the baseline says; a divergence that is news; bad usage or input, or a case
that is unsupported; the run itself failed; Ctrl-C."""
