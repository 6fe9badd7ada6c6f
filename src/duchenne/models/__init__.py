"""Networks: :func:`duchenne.models.contract.create` builds one by its name and imports no other."""
