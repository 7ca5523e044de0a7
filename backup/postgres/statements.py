"""SQL scripts as statements: where each one ends is decided by PostgreSQL's quoting rules, never by lines.

The rules are those of psql's own scanner (``src/fe_utils/psqlscan.l``): a semicolon ends a statement unless it is inside
a string, a quoted identifier, dollar quotes, a comment, parentheses or the body of an SQL function.
"""

import re
from collections.abc import Iterable, Iterator

# Tokens that matter outside quotes. ``e'`` begins a string with backslash escapes only if no word precedes it.
_SPECIAL = re.compile(
    rb"--|/\*|(?<![\w$\x80-\xff])[eE]'|'|\"|(?<![\w$\x80-\xff])\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$|[;()]"
)
# ``begin`` alone is the name of a column, an argument or a function, which is printed without quotes.
_IN_FUNCTION = re.compile(_SPECIAL.pattern + rb"|(?i:\b(?:begin\s+atomic|case|end)\b)")
# The beginning of a statement that may be simple. Functions may contain semicolons, and SET may change how the rest is read.
_SIMPLE = re.compile(rb"(?!SET |CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE) )[A-Z]")
_SIMPLE_STRING = re.compile(rb"'[^'\n\\]*'")
# What a simple statement, most of a dump, does not have outside such strings: other quotes, comments, backslashes, semicolons.
_NOT_SIMPLE = re.compile(rb"['\"$;\\]|--|/\*")
_PARENTHESIS = re.compile(rb"[()]")
_BLANK = re.compile(rb"[ \t\r\n\f\v]*")
_FUNCTION = re.compile(rb"(?i:create\s+(?:or\s+replace\s+)?(?:function|procedure)\b)")
_COMMENT = re.compile(rb"/\*|\*/")
_ESCAPED_END = re.compile(rb"(?:[^\\']|\\.)*(')", re.DOTALL)
_SCANS_STRINGS = re.compile(rb"SET standard_conforming_strings = '?(on|off)'?;")
_OF_A_DUMP = re.compile(rb"\\(?:connect|restrict|unrestrict)\b")
# Statements that change how the rest of a script is read.
SETTINGS = (b"SET client_encoding ", b"SET standard_conforming_strings ")


class Splitter:
    """Reads a script line by line, so that it need not be in memory as a whole."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._start: int | None = None
        self._quote = b""
        self._escaped = False
        self._comments = 0
        self._depth = 0
        self._blocks = 0
        self._function = False
        # Whether a backslash in a plain string escapes the next character; the script sets this itself.
        self._backslashes = False

    @property
    def between(self) -> bool:
        """Whether no statement is open."""
        return not self._parts and not self._comments

    def line(self, line: bytes) -> list[bytes]:
        """Read one line with its line feed; returns the statements that end on it, with their semicolons."""
        if self.between and line.startswith(b"\\"):
            # Commands to psql: those of a dump are left out; any other is passed on, so that the server refuses it.
            return [] if _OF_A_DUMP.match(line) else [line.rstrip()]
        ended: list[bytes] = []
        self._start = 0 if self._parts else None
        position: int | None = 0
        while position is not None and position < len(line):
            position = self._advance(line, position, ended)
        if self._start is not None:
            self._parts.append(line[self._start :])
        return ended

    def rest(self) -> bytes:
        """The text of a statement that has not ended."""
        return b"".join(self._parts)

    def _advance(self, line: bytes, position: int, ended: list[bytes]) -> int | None:
        """Skip to the next relevant token; None at the end of the line."""
        if self._quote:
            return self._leave_quote(line, position)
        if self._comments:
            return self._leave_comment(line, position)
        if self._start is None:
            return self._begin(line, position)
        return self._inside(line, position, ended)

    def _begin(self, line: bytes, position: int) -> int | None:
        blank = _BLANK.match(line, position)
        position = blank.end() if blank else position
        if line.startswith(b"--", position) or position == len(line):
            return None
        if line.startswith(b"/*", position):
            self._comments = 1
            return position + 2
        self._start = position
        self._function = _FUNCTION.match(line, position) is not None
        return position

    def _inside(self, line: bytes, position: int, ended: list[bytes]) -> int | None:
        found = (_IN_FUNCTION if self._function else _SPECIAL).search(line, position)
        if found is None or found[0] == b"--":
            return None
        token = found[0].lower() if found[0][:1] != b"$" else found[0]
        if token == b";":
            self._semicolon(line, found.end(), ended)
        elif token in (b"(", b")"):
            self._depth = max(0, self._depth + (1 if token == b"(" else -1))
        elif token == b"/*":
            self._comments = 1
        elif token[:1].isalpha() and token != b"e'":
            self._word(token)
        else:
            self._open_quote(token)
        return found.end()

    def _word(self, word: bytes) -> None:
        """BEGIN ATOMIC opens the only body of a function, and CASE … END inside does not close it."""
        if word == b"end":
            self._blocks = max(0, self._blocks - 1)
        elif self._blocks if word == b"case" else not (self._blocks or self._depth):
            self._blocks += 1

    def _open_quote(self, token: bytes) -> None:
        self._escaped = token == b"e'" or (token == b"'" and self._backslashes)
        self._quote = token[-1:] if token[:1] != b"$" else token

    def _leave_quote(self, line: bytes, position: int) -> int | None:
        if self._escaped:
            found = _ESCAPED_END.match(line, position)
            end = found.end() if found else -1
        else:
            end = line.find(self._quote, position)
            end += len(self._quote) if end >= 0 else 0
        if end < 0:
            return None
        # A doubled quote ends one string and begins the next, which is equivalent.
        escaped_on = self._escaped and line[end : end + 1] == b"'"
        self._quote = b"'" if escaped_on else b""
        return end + 1 if escaped_on else end

    def _leave_comment(self, line: bytes, position: int) -> int | None:
        found = _COMMENT.search(line, position)
        if found is None:
            return None
        self._comments += 1 if found[0] == b"/*" else -1
        return found.end()

    def _semicolon(self, line: bytes, end: int, ended: list[bytes]) -> None:
        if self._depth or self._blocks:
            return
        statement = b"".join((*self._parts, line[self._start : end]))
        if scans := _SCANS_STRINGS.fullmatch(statement):
            self._backslashes = scans[1] == b"off"
        ended.append(statement)
        self._parts, self._start, self._function = [], None, False


def simple(script: bytes, position: int) -> bytes | None:
    """The statement that begins at a position, if it needs no :class:`Splitter` to find its end; without its line feed."""
    end = script.find(b";\n", position)
    if end < 0 or not _SIMPLE.match(script, position):
        return None
    # No possessive quantifier finds the end: those of Python before 3.11.5 can skip a quote.
    code = _SIMPLE_STRING.sub(b"", script[position:end])
    if _NOT_SIMPLE.search(code):
        return None
    return script[position : end + 1] if _balanced(code) else None


def _balanced(code: bytes) -> bool:
    """Whether each parenthesis closes an open one, and none stays open."""
    depth = 0
    for parenthesis in _PARENTHESIS.findall(code):
        depth += 1 if parenthesis == b"(" else -1
        if depth < 0:
            return False
    return depth == 0


def split(script: bytes) -> list[bytes]:
    """The statements of a script, each with its semicolon; comments between them and commands to psql are left out.

    A statement that never ends is the last one.
    """
    splitter = Splitter()
    found = [statement for line in lines(script) for statement in splitter.line(line)]
    rest = splitter.rest()
    return [*found, rest] if rest.strip() else found


def lines(script: bytes) -> Iterator[bytes]:
    """Lines with their line feeds; no other character ends a line."""
    position = 0
    while position < len(script):
        end = script.find(b"\n", position) + 1 or len(script)
        yield script[position:end]
        position = end


def join(statements: Iterable[bytes]) -> bytes:
    """A script of statements."""
    return b"".join(statement + b"\n" for statement in statements)


def settings_of(statements: Iterable[bytes]) -> list[bytes]:
    """The statements that decide how the others are read."""
    return [statement for statement in statements if statement.startswith(SETTINGS)]
