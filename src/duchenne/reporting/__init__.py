"""The results as figures, tables and one self-contained page: :func:`duchenne.reporting.page.write_report`.

What the core uses too is imported without the packages that draw: which network is a reconstruction (``basis``), the
comparison of runs (``compare``), the sizes of networks (``complexity``), revisions (``provenance``).
"""
