"""Selects the statements of a globals dump for the roles that a server lacks."""

import re
from collections.abc import Collection, Iterable, Iterator

_NAME = r'(?:"(?:[^"]|"")+"|[^\s";]+)'
_CREATE = re.compile(rf"CREATE ROLE (?P<role>{_NAME});")
_ABOUT = re.compile(rf"(?:ALTER|COMMENT ON) ROLE (?P<role>{_NAME}) ")
_MEMBER = re.compile(
    rf"GRANT (?P<group>{_NAME}) TO (?P<role>{_NAME})(?P<rest>.*?)(?: GRANTED BY (?P<by>{_NAME}))?;"
)
# Folders of the original host, which another server neither has nor needs.
_TABLESPACE = ("CREATE TABLESPACE", "ALTER TABLESPACE")


def for_throwaway(lines: Iterable[str], superuser: str) -> Iterator[str]:
    """For a throwaway server: everything except tablespaces and its existing superuser."""
    for line in lines:
        created = _CREATE.fullmatch(line)
        tablespace = line.startswith(_TABLESPACE) or (line.startswith("GRANT") and " ON TABLESPACE " in line)
        if not tablespace and not (created and unquoted(created["role"]) == superuser):
            yield line


def missing(lines: Iterable[str], existing: Collection[str], wanted: Collection[str]) -> Iterator[str]:
    """For a live server: the wanted roles that it lacks. Existing roles are not touched.

    Args:
        wanted: roles that the database needs.
    """
    made = set(wanted) - set(existing)
    known = made | set(existing)
    for line in lines:
        about = _CREATE.fullmatch(line) or _ABOUT.match(line)
        if about and unquoted(about["role"]) in made:
            yield line
        member = _MEMBER.fullmatch(line)
        pair = {unquoted(member["group"]), unquoted(member["role"])} if member else set()
        if member and pair <= known and pair & made:
            yield _without_unknown_giver(line, member, known)


def created(lines: Iterable[str]) -> list[str]:
    """The roles that statements create."""
    return [unquoted(found["role"]) for line in lines if (found := _CREATE.fullmatch(line))]


def unquoted(name: str) -> str:
    """An identifier as it is stored in the system catalogue."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _without_unknown_giver(line: str, member: re.Match[str], known: Collection[str]) -> str:
    if member["by"] is None or unquoted(member["by"]) in known:
        return line
    return f"GRANT {member['group']} TO {member['role']}{member['rest']};"
