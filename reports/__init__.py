"""The writers: terminal, Markdown, repro script, and the folder of a finding. They consume; nothing here computes."""

if __name__ != "conformance.reports":
    raise ImportError(f"import this package as conformance.reports, not as {__name__}")
