"""Selects the statements of a globals dump for the roles that a server lacks."""

import re
from collections.abc import Collection, Iterable, Iterator

from backup.postgres.statements import SETTINGS

_NAME = rb'(?:"(?:[^"]|"")+"|[^\s";,]+)'
_CREATE = re.compile(rb"CREATE ROLE (?P<role>" + _NAME + rb");")
_ABOUT = re.compile(
    rb"(?:ALTER ROLE|COMMENT ON ROLE|SECURITY LABEL (?:FOR "
    + _NAME
    + rb" )?ON ROLE) (?P<role>"
    + _NAME
    + rb") "
)
_ATTRIBUTES = re.compile(rb"ALTER ROLE (?P<role>" + _NAME + rb") WITH ")
_PARAMETER = re.compile(
    rb"GRANT (?:SET|ALTER SYSTEM|ALL)(?:,(?:SET|ALTER SYSTEM))? ON PARAMETER \S+ TO (?P<role>"
    + _NAME
    + rb")(?=[ ;]).*;",
    re.DOTALL,
)
_MEMBER = re.compile(
    rb"GRANT (?P<group>" + _NAME + rb") TO (?P<role>" + _NAME + rb")(?P<rest>(?: WITH [^;]*?)?)"
    rb"(?: GRANTED BY (?P<by>" + _NAME + rb"))?;"
)
# Folders of the original machine, which another server neither has nor needs.
_TABLESPACE = re.compile(
    rb"(?:CREATE|ALTER|COMMENT ON) TABLESPACE |(?:GRANT|REVOKE) [A-Z, ]+ ON TABLESPACE |SECURITY LABEL .*ON TABLESPACE ",
    re.DOTALL,
)


def for_throwaway(statements: Iterable[bytes], superuser: str) -> Iterator[bytes]:
    """For a server of our own: everything but what cannot be there and the superuser that is.

    Its attributes stay as they are: a superuser that may not log in in production must log in there.
    """
    for statement in statements:
        about = _CREATE.fullmatch(statement) or _ATTRIBUTES.match(statement)
        if not _TABLESPACE.match(statement) and not (about and unquoted(about["role"]) == superuser):
            yield statement


def missing(
    statements: Iterable[bytes], existing: Collection[str], wanted: Collection[str]
) -> Iterator[bytes]:
    """For a server that has a life of its own: the wanted roles that it lacks; no role that is there is touched.

    Args:
        wanted: roles that the database needs.
    """
    made = set(wanted) - set(existing)
    known = made | set(existing)
    for statement in statements:
        about = _CREATE.fullmatch(statement) or _ABOUT.match(statement) or _PARAMETER.match(statement)
        if statement.startswith(SETTINGS) or (about and unquoted(about["role"]) in made):
            yield statement
        member = _MEMBER.fullmatch(statement)
        pair = {unquoted(member["group"]), unquoted(member["role"])} if member else set()
        if member and pair <= known and pair & made:
            yield _without_unknown_giver(statement, member, known)


def created(statements: Iterable[bytes]) -> list[str]:
    """The roles that statements make."""
    return [unquoted(made["role"]) for statement in statements if (made := _CREATE.fullmatch(statement))]


def about(statements: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Statements about roles with the roles' names; a membership belongs to the member."""
    for statement in statements:
        found = (
            _CREATE.fullmatch(statement)
            or _ABOUT.match(statement)
            or _PARAMETER.match(statement)
            or _MEMBER.fullmatch(statement)
        )
        if found:
            yield unquoted(found["role"]), statement


def without_options(statement: bytes) -> bytes:
    """A membership as all versions print it: later ones have more options, and a giver."""
    found = _MEMBER.fullmatch(statement)
    return b"GRANT " + found["group"] + b" TO " + found["role"] + b";" if found else statement


def unquoted(name: bytes) -> str:
    """An identifier as it stands in the catalogue."""
    text = name.decode(errors="surrogateescape")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def _without_unknown_giver(statement: bytes, member: re.Match[bytes], known: Collection[str]) -> bytes:
    if member["by"] is None or unquoted(member["by"]) in known:
        return statement
    return b"GRANT " + member["group"] + b" TO " + member["role"] + member["rest"] + b";"
