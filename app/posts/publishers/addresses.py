"""Connections to public addresses only (a customer's webhook must not reach our own network).

The check is made on the address that the socket then connects to, so a name that resolves differently
a moment later changes nothing.
"""

import ipaddress
import socket
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NameResolutionError

# Addresses that carry another address inside them, and would lead to it.
_WRAPPERS = [
    ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
]


class ForbiddenAddressError(Exception):
    """The name leads to an address that is not public."""


def is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.split("%", maxsplit=1)[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            address = address.ipv4_mapped
        elif any(address in network for network in _WRAPPERS):
            return False
    return address.is_global and not address.is_multicast


def public_address(host: str, port: int) -> str:
    """An address of the host; every one of them has to be public."""
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not found or not all(map(is_public, found)):
        raise ForbiddenAddressError(host)
    return found[0]


class _Guarded:
    """Mixed into urllib3's connections: resolve, check, connect to what was checked."""

    def _new_conn(self: Any) -> socket.socket:
        name = self._dns_host
        try:
            self._dns_host = public_address(name, self.port)
        except socket.gaierror as error:
            raise NameResolutionError(name, self, error) from error
        try:
            connection: socket.socket = super()._new_conn()  # type: ignore[misc]
        finally:
            # The name again, for the Host header and for the certificate.
            self._dns_host = name
        return connection


class _HTTP(_Guarded, HTTPConnection):
    pass


class _HTTPS(_Guarded, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPS


class GuardedAdapter(HTTPAdapter):
    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        if not self._allow_private:
            manager: PoolManager = self.poolmanager
            manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
