"""Ports of this machine, on which servers listen."""

import os
import socket

from duchenne.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts at which only this machine reaches a server."""


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


def address(host: str, port: int) -> str:
    """Return the URL of a server."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
