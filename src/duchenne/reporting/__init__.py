"""The results as figures, a table and one self-contained page."""

from duchenne.reporting.page import write_report

__all__ = ["write_report"]
