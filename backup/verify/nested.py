"""Nested AND and OR in one form.

``a BETWEEN 1 AND 2 AND b`` is printed as ``(((a >= 1) AND (a <= 2)) AND b)``. The parser flattens that when it reads it
(``makeAndExpr`` in PostgreSQL's ``gram.y``), and so it is printed as ``((a >= 1) AND (a <= 2) AND b)`` from then on. The same
happens to lists of rows, and of columns among constants.
"""

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(rb"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[()]| AND | OR ")
_CONNECTIVES = (b" AND ", b" OR ")


@dataclass(frozen=True)
class _Group:
    """Parentheses, and the connective of what is in them, if there is exactly one kind of it."""

    connective: bytes
    inner: bytes


_Part = bytes | _Group


@dataclass
class _Frame:
    """Open parentheses: operands, each of some parts, and what connects them."""

    operands: "list[list[_Part]]" = field(default_factory=lambda: [[]])
    connectives: list[bytes] = field(default_factory=list)

    def add(self, part: _Part) -> None:
        if part:
            self.operands[-1].append(part)

    def connect(self, connective: bytes) -> None:
        self.connectives.append(connective)
        self.operands.append([])

    def group(self) -> _Group:
        kinds = set(self.connectives)
        connective = kinds.pop() if len(kinds) == 1 else b""
        return _Group(connective, self.text(connective))

    def text(self, flattened: bytes = b"") -> bytes:
        """The text; operands that are groups with this connective are written without their parentheses."""
        found = [_text(operand, flattened) for operand in self.operands]
        joined = [connective + text for connective, text in zip(self.connectives, found[1:], strict=True)]
        return b"".join([found[0], *joined])


def flat(definition: bytes) -> bytes:
    """A definition without parentheses that a reader removes; unchanged if its parentheses do not match."""
    if b"((" not in definition or not any(each in definition for each in _CONNECTIVES):
        return definition
    frames, position = [_Frame()], 0
    for token in _TOKEN.finditer(definition):
        frames[-1].add(definition[position : token.start()])
        position = token.end()
        if token[0] == b"(":
            frames.append(_Frame())
        elif token[0] == b")":
            closed = frames.pop()
            if not frames:
                return definition
            frames[-1].add(closed.group())
        elif token[0] in _CONNECTIVES:
            frames[-1].connect(token[0])
        else:
            frames[-1].add(token[0])
    frames[-1].add(definition[position:])
    return frames[0].text() if len(frames) == 1 else definition


def _text(operand: "list[_Part]", flattened: bytes) -> bytes:
    if (
        flattened
        and len(operand) == 1
        and isinstance(operand[0], _Group)
        and operand[0].connective == flattened
    ):
        return operand[0].inner
    return b"".join(part if isinstance(part, bytes) else b"(" + part.inner + b")" for part in operand)
