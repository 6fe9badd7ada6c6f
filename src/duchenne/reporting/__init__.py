"""The results as figures, tables and one self-contained page: :func:`duchenne.reporting.page.write_report`.

The core also uses ``basis`` (which network is a reconstruction), ``colours``, ``compare`` (comparison of runs),
``complexity`` (sizes of networks) and ``provenance`` (revisions); these modules do not import the packages that draw.
"""
