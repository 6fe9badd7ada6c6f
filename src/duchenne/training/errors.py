"""Errors of training that a user can fix."""

from duchenne.errors import UserError


class TrainingError(UserError):
    """Training cannot start or resume; the message says where it stopped and what to change."""
