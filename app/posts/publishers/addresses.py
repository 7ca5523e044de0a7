"""Connections to public addresses only: a customer's webhook must not reach our own network.

The check is made on the address that the socket then connects to, so a name that resolves differently a moment later
changes nothing. The whole exchange has one deadline, whatever it waits for.
"""

import ipaddress
import socket
import time
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread, Timer
from typing import Any, Self

from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(word) for word in text.split())


# Only unicast space is allowed: IPv4 from 1/8 to 223/8, and IPv6's global unicast block.
ALLOWED: tuple[Network, ...] = (
    *ipaddress.summarize_address_range(
        ipaddress.IPv4Address("1.0.0.0"), ipaddress.IPv4Address("223.255.255.255")
    ),
    ipaddress.IPv6Network("2000::/3"),
)
# Within it, the entries of IANA's special-purpose registries (IPv4 and IPv6, as of 2025), among them every prefix that
# carries another address inside (6to4, Teredo) and the anycast prefixes of relays and sinks.
SPECIAL = _networks(
    "10.0.0.0/8 100.64.0.0/10 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24"
    " 127.0.0.0/8 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24"
    " 2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3ffe::/16 3fff::/20"
)


# Seconds. If less than this is left, the deadline counts as reached.
TICK = 0.01


class ForbiddenAddressError(Exception):
    """The name resolves to an address that is not public."""


def is_public(text: str) -> bool:
    """Whether an IP address belongs to the public Internet. Unknown ranges do not."""
    address: Address = ipaddress.ip_address(text.split("%", maxsplit=1)[0])
    return address.is_global and _within(address, ALLOWED) and not _within(address, SPECIAL)


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


class Deadline:
    """Ends everything that belongs to one exchange after a number of seconds.

    Time limits of a socket apply to each read, so a peer that sends a byte now and then is never late. This one shuts
    the connection down, which ends the current read, even within TLS.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._lines: list[socket.socket] = []
        self._timers: list[Timer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for timer in self._timers:
            timer.cancel()
            timer.join()
        for line in self._lines:
            line.close()

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        return self.remaining < TICK

    def watch(self, connection: socket.socket) -> None:
        """Shut this connection down at the deadline."""
        # A duplicate: TLS replaces the object, but not the connection.
        line = connection.dup()
        timer = Timer(self.remaining, _shut_down, [line])
        timer.daemon = True
        self._lines.append(line)
        self._timers.append(timer)
        timer.start()


def _shut_down(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def resolve(host: str, port: int, seconds: float) -> list[str]:
    """The addresses of a host, in the order of the resolver.

    Raises:
        socket.gaierror: the name does not exist, or there was no response within this time.
    """
    # getaddrinfo has no time limit. A thread that is late ends with the resolver's limit, in half a minute.
    answer: SimpleQueue[list[str] | OSError] = SimpleQueue()
    Thread(target=_resolve, args=(host, port, answer), name="resolve", daemon=True).start()
    try:
        found = answer.get(timeout=seconds)
    except Empty:
        raise socket.gaierror(socket.EAI_AGAIN, "the resolver did not answer in time") from None
    if isinstance(found, OSError):
        raise found
    return found


def _resolve(host: str, port: int, answer: "SimpleQueue[list[str] | OSError]") -> None:
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        answer.put(error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, str(error)))
    else:
        answer.put(list(dict.fromkeys(str(entry[4][0]) for entry in entries)))


def public_addresses(host: str, port: int, seconds: float) -> list[str]:
    """The addresses of a host.

    Raises:
        ForbiddenAddressError: one of them is not public.
        socket.gaierror: the name cannot be resolved.
    """
    found = resolve(host, port, seconds)
    if not found or not all(map(is_public, found)):
        raise ForbiddenAddressError(host)
    return found


class _Guarded:
    """Mixed into urllib3's connections: resolve, check, connect to what was checked, and watch the deadline."""

    def __init__(self: Any, *args: Any, deadline: Deadline, allow_private: bool, **kwargs: Any) -> None:
        self._deadline, self._allow_private = deadline, allow_private
        super().__init__(*args, **kwargs)

    def _new_conn(self: Any) -> socket.socket:
        name = self._dns_host
        find = resolve if self._allow_private else public_addresses
        try:
            addresses = find(name, self.port, self._deadline.remaining)
        except socket.gaierror as error:
            raise NameResolutionError(name, self, error) from error
        try:
            connection: socket.socket = self._first_of(addresses)
        finally:
            # The name again, for the Host header and for the certificate.
            self._dns_host = name
        self._deadline.watch(connection)
        return connection

    def _first_of(self: Any, addresses: list[str]) -> socket.socket:
        for address in addresses:
            self._dns_host = address
            self.timeout = max(self._deadline.remaining, TICK)
            try:
                connection: socket.socket = super()._new_conn()  # type: ignore[misc]  # mixed into urllib3's connections
            except (NewConnectionError, ConnectTimeoutError):
                if address == addresses[-1] or self._deadline.passed:
                    raise
            else:
                return connection
        raise AssertionError("unreachable")


class _HTTP(_Guarded, HTTPConnection):
    pass


class _HTTPS(_Guarded, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPS


class GuardedAdapter(HTTPAdapter):
    """An adapter for one exchange, whose connections obey its deadline and the rule of public addresses."""

    def __init__(self, *, deadline: Deadline, allow_private: bool) -> None:
        self._guard: dict[str, Any] = {"deadline": deadline, "allow_private": allow_private}
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = {
            "http": partial(_HTTPPool, **self._guard),  # type: ignore[dict-item]  # called, never subclassed
            "https": partial(_HTTPSPool, **self._guard),  # type: ignore[dict-item]  # called, never subclassed
        }
