"""Addresses that commands listen on: of either family, and refused in a sentence where they cannot be had.

Elsewhere: what is served there (ui.py, metrics.py).
"""

import errno
import socket
from contextlib import ExitStack

from tickstock_assets.domain.errors import ConfigError

LOOPBACK = "127.0.0.1"
# What another port mends; any other fault is of the address.
PORT_FAULTS = {errno.EADDRINUSE, errno.EACCES}


def listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Args:
        host: name or address, IPv4 or IPv6.
        port: 0 for any that is free.

    Raises:
        ConfigError: there is no such address here, or the port is taken.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as until_it_listens:
            found = until_it_listens.enter_context(socket.socket(family, kind))
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            # Whoever asks while the server is still starting waits for it, and is not refused.
            found.listen()
            until_it_listens.pop_all()
    except OSError as error:
        option = "--port" if error.errno in PORT_FAULTS else "--host"
        raise ConfigError(
            f"{url(host, port)}: expected an address and port that are free, found {error.strerror}; "
            f"choose another with {option}"
        ) from None
    return found


def url(host: str, port: int) -> str:
    """Return the address as a browser takes it, IPv6 in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
