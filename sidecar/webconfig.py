"""TLS and basic auth from a Prometheus web-config file, the format that all official exporters share."""

import base64
import binascii
import hashlib
import logging
import ssl
import threading
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import bcrypt
import yaml

from sidecar.errors import UsageError
from sidecar.web import Request, Response

log = logging.getLogger(__name__)

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
CLIENT_AUTH = {
    "": ssl.CERT_NONE,
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
TLS_KEYS = {"cert_file", "key_file", "client_auth_type", "client_ca_file", "min_version", "max_version"}
# Part of the format, but specific to Go's TLS. Rejected, because accepting them would have no effect.
GO_KEYS = {"cipher_suites", "prefer_server_cipher_suites", "curve_preferences"}
TOP_KEYS = {"tls_server_config", "http_server_config", "basic_auth_users"}
# Checked if the user name is unknown, so that the response takes as long as for a wrong password.
UNKNOWN_USER = "$2b$10$1111111111111111111111111111111111111111111111111111u"
CACHE_SIZE = 100
# Health checks of container platforms have no credentials. The page shows only "ok", or that a thread hangs.
OPEN_PATHS = frozenset({"/healthz"})


class WebConfig:
    """A web-config file; re-read when it changes.

    Args:
        path: path of the file; paths in it are relative to its folder.

    Raises:
        UsageError: the file is missing or invalid.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] = ()
        self._cache: dict[bytes, bool] = {}
        self._content = self._read()
        self.tls = self._context()
        self._seen = self._stamp()

    def guard(self, request: Request) -> Response | None:
        """None if the request is allowed, otherwise the response that refuses it."""
        self._reload()
        users: Mapping[str, str] = self._content.get("basic_auth_users") or {}
        if not users or request.path in OPEN_PATHS or self._authorised(users, request.headers):
            return None
        return Response(
            b"401 unauthorized\n", status=HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": "Basic"}
        )

    @property
    def headers(self) -> dict[str, str]:
        """Headers for every response."""
        return dict((self._content.get("http_server_config") or {}).get("headers") or {})

    # Basic auth

    def _authorised(self, users: Mapping[str, str], headers: Mapping[str, str]) -> bool:
        name, password = _credentials(headers.get("authorization", ""))
        known = str(users.get(name, UNKNOWN_USER))
        # bcrypt is slow by design, so the result is cached: a scrape every 15 seconds is not slowed down each time.
        key = hashlib.sha256(b"\0".join((name.encode(), known.encode(), password))).digest()
        with self._lock:
            if key in self._cache:
                return self._cache[key]
        passed = _matches(password, known) and name in users
        with self._lock:
            if len(self._cache) >= CACHE_SIZE:
                self._cache.clear()
            self._cache[key] = passed
        return passed

    # The file

    def _read(self) -> dict[str, Any]:
        try:
            content = yaml.safe_load(self._path.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise self._invalid(str(error)) from None
        self._check(content)
        return dict(content)

    def _check(self, content: Any) -> None:
        if not isinstance(content, dict):
            raise self._invalid("it is not a mapping")
        self._check_keys("", content, TOP_KEYS)
        tls, web = self._part(content, "tls_server_config"), self._part(content, "http_server_config")
        if GO_KEYS & set(tls):
            raise self._invalid(
                f"tls_server_config: not supported here: {', '.join(sorted(GO_KEYS & set(tls)))}"
            )
        self._check_keys("tls_server_config: ", tls, TLS_KEYS)
        self._check_keys("http_server_config: ", web, {"headers", "http2"})
        self._part(web, "headers")
        for name, known in self._part(content, "basic_auth_users").items():
            if not str(known).startswith("$2"):
                raise self._invalid(f"basic_auth_users: the password of {name} is not a bcrypt hash")

    def _part(self, content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        part = content.get(name) or {}
        if not isinstance(part, dict):
            raise self._invalid(f"{name} is not a mapping")
        return part

    def _check_keys(self, where: str, content: Mapping[str, Any], known: set[str]) -> None:
        unknown = sorted(map(str, set(content) - known))
        if unknown:
            raise self._invalid(f"{where}unknown field {', '.join(unknown)}")

    def _invalid(self, why: str) -> UsageError:
        return UsageError(
            f"web-config file {self._path}: {why}",
            hint="the format: https://prometheus.io/docs/prometheus/latest/configuration/https/",
        )

    # TLS

    def _context(self) -> ssl.SSLContext | None:
        wanted = self._content.get("tls_server_config")
        if not wanted:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            self._configure(context, wanted)
        except (OSError, ssl.SSLError, KeyError, TypeError, ValueError) as error:
            raise self._invalid(f"tls_server_config: {type(error).__name__}: {error}") from None
        return context

    def _configure(self, context: ssl.SSLContext, wanted: Mapping[str, Any]) -> None:
        context.minimum_version = VERSIONS[wanted.get("min_version", "TLS12")]
        context.maximum_version = VERSIONS[wanted.get("max_version", "TLS13")]
        self._load_certificate(context, wanted)
        if wanted.get("client_ca_file"):
            context.load_verify_locations(self._file(wanted["client_ca_file"]))
        context.verify_mode = CLIENT_AUTH[wanted.get("client_auth_type", "")]

    def _load_certificate(self, context: ssl.SSLContext, wanted: Mapping[str, Any]) -> None:
        context.load_cert_chain(self._file(wanted["cert_file"]), self._file(wanted["key_file"]))

    def _file(self, name: str) -> Path:
        return self._path.parent / name

    # Changes on disk: renewed certificates, new passwords

    def _stamp(self) -> tuple[int, ...]:
        tls = self._content.get("tls_server_config") or {}
        files = [self._path, *(self._file(tls[key]) for key in ("cert_file", "key_file") if key in tls)]
        return tuple(path.stat().st_mtime_ns for path in files)

    def _reload(self) -> None:
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                return
            self._seen = stamp
            content = self._read()
            if self.tls is not None:
                self._load_certificate(self.tls, content["tls_server_config"])
            self._content = content
            log.info("web-config file reloaded")
        except (OSError, UsageError, KeyError, TypeError) as error:
            log.warning("web-config file not reloaded, the previous one stays in use: %s", error)


def _credentials(header: str) -> tuple[str, bytes]:
    kind, _, encoded = header.partition(" ")
    if kind.lower() != "basic":
        return "", b""
    try:
        name, _, password = base64.b64decode(encoded, validate=True).partition(b":")
        return name.decode(), password
    except (binascii.Error, UnicodeDecodeError):
        return "", b""


def _matches(password: bytes, known: str) -> bool:
    try:
        # bcrypt uses only 72 bytes; newer versions reject longer passwords.
        return bcrypt.checkpw(password[:72], known.encode())
    except ValueError:
        return False
