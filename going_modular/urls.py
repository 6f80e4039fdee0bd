# Written by tools/export.py from 09_deployment.ipynb: edit there, not here.
"""The bytes behind a URL on the open internet, and from nowhere else."""

import ipaddress
import socket
import threading
import time

import httpx


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the open internet.

    Addresses of this machine and of a network around it are not.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])  # %: a network card
    ip = getattr(ip, "ipv4_mapped", None) or ip  # ::ffff:127.0.0.1 is 127.0.0.1
    if ip.version == 6:
        if ip.sixtofour or ip.teredo:  # these carry an IPv4 address
            return False
        return ip in ipaddress.ip_network("2000::/3") and ip.is_global
    return ip.is_global and not ip.is_multicast


def public_address(host: str) -> str:
    """Return an address to connect to for a host name.

    Raises:
        ValueError: if there is no such host, or one of its addresses is not public.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # the latter for a part of no or too many letters
        raise ValueError(
            f"there is no host {host}: check the address, and the connection"
        ) from None
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not is_public(address):
            raise ValueError(
                f"{host} is refused: {address} is this machine or a private network"
            )
    return addresses[0]


class PublicTransport(httpx.HTTPTransport):
    """Connects to public addresses alone, and to the very address that was checked.

    Args:
        deadline: when to give up, on time.monotonic's clock.
    """

    def __init__(self, deadline: float):
        super().__init__()
        self.deadline = deadline

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to a checked address; the host's name stays in it."""
        url, left = request.url, max(self.deadline - time.monotonic(), 0.001)
        host = url.host
        if url.scheme not in ("http", "https") or not host or (url.port or 0) > 65_535:
            raise httpx.UnsupportedProtocol("it names no host and port to ask by http")
        pinned = httpx.Request(
            "GET",
            url.copy_with(host=public_address(host)),
            headers=request.headers,
            extensions={
                "sni_hostname": host,  # whose certificate is asked for
                "timeout": dict.fromkeys(("connect", "read", "write", "pool"), left),
            },
        )
        return super().handle_request(pinned)


def fetch(
    url: str,
    *,
    max_bytes: int = 10_000_000,
    seconds: float = 10.0,
    max_redirects: int = 3,
) -> bytes:
    """Return the bytes behind a URL; each redirect is checked as the first address.

    Args:
        url: it begins with http:// or https://.
        max_bytes: more are refused.
        seconds: for all of it, the look-up of names aside; a host that stalls late
            may take up to twice as many.
        max_redirects: more are refused.

    Raises:
        ValueError: if the URL is none, leads to this machine or a private network, or
            its answer is none or too large.
        ConnectionError, TimeoutError: if no answer comes.
    """
    deadline, content = time.monotonic() + seconds, b""
    client = httpx.Client(
        transport=PublicTransport(deadline),
        follow_redirects=True,
        max_redirects=max_redirects,
        trust_env=False,  # a proxy would connect for us
        # For each host a connection of its own, with its certificate; nothing packed.
        headers={"Connection": "close", "Accept-Encoding": "identity"},
    )
    timer = threading.Timer(seconds, client.close)  # each byte extends a read's time
    timer.start()
    try:
        with client, client.stream("GET", url) as response:
            if response.status_code != 200:
                answer = f"{response.status_code} {response.reason_phrase}"
                raise ValueError(f"{url} answers {answer}: check the address")
            for chunk in response.iter_raw():
                content += chunk
                if len(content) > max_bytes:
                    raise ValueError(
                        f"{url} sends more than {max_bytes:,} bytes: choose a smaller "
                        "picture"
                    )
        return content
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as e:
        raise ValueError(
            f"{url} is refused ({e}): give a picture's address, http:// or https://"
        ) from None
    except (httpx.HTTPError, OSError) as error:
        if time.monotonic() >= deadline:
            raise TimeoutError(
                f"{url} took longer than {seconds:g} seconds: try again later"
            ) from None
        raise ConnectionError(
            f"{url} cannot be fetched: {str(error) or type(error).__name__}"
        ) from None
    finally:
        timer.cancel()
