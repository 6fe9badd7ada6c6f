"""The one base of all errors that a person mends in their data or configuration."""


class UserError(ValueError):
    """Shown as its message alone, without a traceback; the message says where and what to do."""
