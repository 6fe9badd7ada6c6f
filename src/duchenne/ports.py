"""Ports of this machine, on which servers listen."""

import os
import socket

from duchenne.errors import UserError


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address, IPv4 or IPv6; port 0 is a free one.

    Raises:
        UserError: The port is in use, or the host is not this machine.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0  # negative: of the name, not of the system
        reason = os.strerror(number) if number > 0 else str(error)
        raise UserError(f"{host}:{port} cannot be used: {reason}; give another --port or --host") from None
