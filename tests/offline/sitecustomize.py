"""Keep every Python that the tests start on this machine.

conftest.py puts this folder on PYTHONPATH.
"""

import ipaddress
import sys


def is_local(host) -> bool:
    """Say whether a host, by name or number, is this machine; no name at all is."""
    host = host.decode() if isinstance(host, bytes) else host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in (None, "", "localhost")


def refuse(event, arguments):
    """Raise OSError where a socket would lead outside."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event not in ("socket.connect", "socket.sendto"):
        return
    elif isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return  # a path instead of a tuple is a Unix socket
    if not is_local(host):
        raise OSError(f"the tests stay on this machine, but {host} was asked for")


sys.addaudithook(refuse)
