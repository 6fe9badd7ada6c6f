"""What a user can do something about."""

from duchenne.errors import UserError


class TrainingError(UserError):
    """A training cannot start or go on; the message says where it stopped and what to change."""
