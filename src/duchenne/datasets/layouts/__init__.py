"""Dataset layouts: one module and one data file each; :mod:`duchenne.datasets.contract` defines their contents."""
