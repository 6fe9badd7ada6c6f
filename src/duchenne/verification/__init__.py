"""Check of a finished project: files against ``dvc.lock`` and DVC's cache, numbers against the predictions."""
