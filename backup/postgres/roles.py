"""Selects the statements of a globals dump for the roles that a server lacks.

A role that a restore creates may have been dropped from production deliberately. So it comes back with its privileges on
objects only. Rights to log in or to change the server are withheld and reported, and a person decides.
"""

import codecs
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backup.errors import VerificationError
from backup.postgres.identifiers import NAME, unquoted
from backup.postgres.statements import SETTINGS, split

_ENCODING = re.compile(rb"^SET client_encoding = '(\w+)';", re.MULTILINE)
_ROLE = rb"(?P<role>" + NAME + rb")"
_CREATE = re.compile(rb"CREATE ROLE " + _ROLE + rb";")
_ABOUT = re.compile(
    rb"(?:ALTER ROLE|COMMENT ON ROLE|SECURITY LABEL (?:FOR " + NAME + rb" )?ON ROLE) " + _ROLE + rb" "
)
# Of those, the forms that describe a role without granting it anything.
_DESCRIPTION = re.compile(
    rb"(?:ALTER ROLE " + _ROLE + rb" SET |COMMENT ON ROLE |SECURITY LABEL (?:FOR " + NAME + rb" )?ON ROLE )"
)
_WITH = re.compile(rb"ALTER ROLE " + _ROLE + rb" WITH ")
_ATTRIBUTES = re.compile(
    rb"ALTER ROLE "
    + _ROLE
    + rb" WITH(?P<words>(?: (?:NO)?(?:SUPERUSER|INHERIT|CREATEROLE|CREATEDB|LOGIN|REPLICATION"
    rb"|BYPASSRLS))*)(?P<limits>(?: CONNECTION LIMIT -?\d+)?(?: VALID UNTIL '[^']*')?);"
)
# The size of a dump of half a million roles.
MAX_BYTES = 64 << 20
_POWERS = frozenset({b"SUPERUSER", b"CREATEROLE", b"CREATEDB", b"LOGIN", b"REPLICATION", b"BYPASSRLS"})
_PARAMETER = re.compile(
    rb"GRANT (?P<rights>(?:SET|ALTER SYSTEM|ALL)(?:,(?:SET|ALTER SYSTEM))?) ON PARAMETER \S+ TO "
    + _ROLE
    + rb"(?=[ ;]).*;",
    re.DOTALL,
)
_MEMBER = re.compile(
    rb"GRANT (?P<group>" + NAME + rb") TO " + _ROLE + rb"(?P<rest>(?: WITH [^;]*?)?)"
    rb"(?: GRANTED BY (?P<by>" + NAME + rb"))?;"
)
# Around a grant that was given by a role other than the superuser.
_GIVER = re.compile(rb"(?:(?P<begins>SET)|RESET) SESSION AUTHORIZATION\b")
# Folders of the original machine, which another server neither has nor needs.
_TABLESPACE = re.compile(
    rb"(?:CREATE|ALTER|COMMENT ON) TABLESPACE |(?:GRANT|REVOKE) [A-Z, ]+ ON TABLESPACE |SECURITY LABEL .*ON TABLESPACE ",
    re.DOTALL,
)


@dataclass(frozen=True)
class Making:
    """How to create the roles that a server lacks.

    Attributes:
        names: the roles.
        statements: to be carried out, in this order.
        expected: what a dump of them contains afterwards.
        withheld: statements that would restore the privileges that a role does not get back, by role.
    """

    names: tuple[str, ...]
    statements: tuple[bytes, ...]
    expected: tuple[bytes, ...]
    withheld: Mapping[str, tuple[bytes, ...]]

    @property
    def notes(self) -> list[str]:
        """Notes about the roles for a person."""
        if not self.names:
            return []
        found = [f"roles created without passwords: {', '.join(self.names)}"]
        for name, statements in self.withheld.items():
            text = " ".join(statement.decode(errors="replace") for statement in statements)
            found.append(f"role {name} is back without these rights, which it had: {text}")
        return found


def read(dumped: Path) -> list[bytes]:
    """The statements of a globals dump.

    Raises:
        VerificationError: it is far too large to be one.
    """
    if (size := dumped.stat().st_size) > MAX_BYTES:
        raise VerificationError(
            f"the roles have {size} bytes, at most {MAX_BYTES} are read", hint="do not use this backup"
        )
    return parse(dumped.read_bytes())


def parse(script: bytes) -> list[bytes]:
    """The statements of a globals dump, in UTF-8: names are compared with those of a server.

    Those of a dump without an encoding (SQL_ASCII) stay as they are.
    """
    if found := _ENCODING.search(script):
        name = found[1].decode().replace("WIN", "cp").replace("KOI8", "koi8-")
        with suppress(LookupError, UnicodeDecodeError):
            script = script.decode(codecs.lookup(name).name).encode()
            script = _ENCODING.sub(b"SET client_encoding = 'UTF8';", script, count=1)
    return split(script)


def for_throwaway(statements: Iterable[bytes], superuser: str) -> Iterator[bytes]:
    """For a throwaway server: everything except what cannot exist there, and the superuser, which already exists.

    The superuser's attributes stay as they are: one that may not log in to production must log in here.
    """
    for statement in statements:
        about = _CREATE.fullmatch(statement) or _WITH.match(statement)
        if not _TABLESPACE.match(statement) and not (about and unquoted(about["role"]) == superuser):
            yield statement


def missing(
    statements: Iterable[bytes],
    existing: Collection[str],
    wanted: Collection[str],
    powerful: Collection[str] = (),
) -> Making:
    """For a live server: the wanted roles that it lacks. Existing roles are not touched.

    Args:
        wanted: roles that the database needs.
        powerful: its roles whose members can change the server; membership in them is withheld.
    """
    making = _Making(set(wanted) - set(existing), set(existing), powerful)
    for statement in statements:
        making.take(statement)
    return making.made()


class _Making:
    """The statements so far."""

    def __init__(self, names: set[str], existing: set[str], powerful: Collection[str]) -> None:
        self._new = names
        self._known = names | existing
        self._powerful = powerful
        self._names: list[str] = []
        self._statements: list[bytes] = []
        self._expected: list[bytes] = []
        self._withheld: dict[str, list[bytes]] = defaultdict(list)
        self._given = False  # whether a role other than the superuser grants what follows

    def made(self) -> Making:
        withheld = {name: tuple(statements) for name, statements in self._withheld.items()}
        return Making(tuple(self._names), tuple(self._statements), tuple(self._expected), withheld)

    def take(self, statement: bytes) -> None:
        if giver := _GIVER.match(statement):
            self._given = giver["begins"] is not None
        if statement.startswith(SETTINGS):
            self._statements.append(statement)
        elif (found := _ATTRIBUTES.fullmatch(statement)) and self._is_new(found["role"]):
            self._attributes(found)
        elif found := _MEMBER.fullmatch(statement):
            self._membership(statement, found)
        elif (found := _PARAMETER.fullmatch(statement)) and self._is_new(found["role"]):
            self._parameter(statement, found)
        else:
            self._expected.append(statement)
            self._description(statement)

    def _is_new(self, name: bytes) -> bool:
        return unquoted(name) in self._new

    def _description(self, statement: bytes) -> None:
        made = _CREATE.fullmatch(statement)
        about = made or (_ABOUT.match(statement) if _DESCRIPTION.match(statement) else None)
        if about and self._is_new(about["role"]):
            self._statements.append(statement)
        if made and self._is_new(made["role"]):
            self._names.append(unquoted(made["role"]))

    def _attributes(self, found: re.Match[bytes]) -> None:
        """State only what differs from a new role: only a superuser may even name some of the other attributes."""
        beginning, words = b"ALTER ROLE " + found["role"] + b" WITH", found["words"].split()
        powers = [word for word in words if word in _POWERS]
        kept = [b"NO" + word if word in _POWERS else word for word in words]
        self._expected.append(b" ".join([beginning, *kept]) + found["limits"] + b";")
        differing = b"".join(b" " + word for word in words if word == b"NOINHERIT") + found["limits"]
        if differing:
            self._statements.append(beginning + differing + b";")
        if powers:
            self._withheld[unquoted(found["role"])].append(b" ".join([beginning, *powers]) + b";")

    def _membership(self, statement: bytes, found: re.Match[bytes]) -> None:
        group, role = unquoted(found["group"]), unquoted(found["role"])
        if not {group, role} & self._new or not {group, role} <= self._known:
            self._expected.append(statement)
        elif group in self._powerful:
            self._withheld[role].append(without_options(statement))
        else:
            self._expected.append(statement)
            self._statements.append(_without_unknown_giver(statement, found, self._known))

    def _parameter(self, statement: bytes, found: re.Match[bytes]) -> None:
        if found["rights"] == b"SET" and not self._given:
            self._expected.append(statement)
            self._statements.append(statement)
        else:
            self._withheld[unquoted(found["role"])].append(statement)


def about(statements: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Statements about roles with the roles' names; a membership belongs to the member.

    A grant by a role other than the superuser begins with the statement that names the giver.
    """
    giver = b""
    for statement in statements:
        if given := _GIVER.match(statement):
            giver = statement + b" " if given["begins"] else b""
        found = (
            _CREATE.fullmatch(statement)
            or _ABOUT.match(statement)
            or _PARAMETER.match(statement)
            or _MEMBER.fullmatch(statement)
        )
        if found:
            yield unquoted(found["role"]), giver + statement


def remaining(statements: Iterable[bytes], done: Iterable[bytes]) -> Iterator[bytes]:
    """The statements that were not carried out yet, in their order. Grants by a role other than the superuser never were."""
    left, given = Counter(done), False
    for statement in statements:
        if giver := _GIVER.match(statement):
            given = giver["begins"] is not None
        if left[statement] and not given:
            left[statement] -= 1
        else:
            yield statement


def without_options(statement: bytes) -> bytes:
    """A membership in the form that all versions print: later ones add options and a grantor."""
    found = _MEMBER.fullmatch(statement)
    return b"GRANT " + found["group"] + b" TO " + found["role"] + b";" if found else statement


def _without_unknown_giver(statement: bytes, member: re.Match[bytes], known: Collection[str]) -> bytes:
    if member["by"] is None or unquoted(member["by"]) in known:
        return statement
    return b"GRANT " + member["group"] + b" TO " + member["role"] + member["rest"] + b";"
