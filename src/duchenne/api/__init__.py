"""Functions of ``import duchenne``; the package imports each with its first use."""
