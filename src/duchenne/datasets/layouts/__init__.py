"""One module and one data file for each layout; :mod:`duchenne.datasets.contract` says what each must have."""
