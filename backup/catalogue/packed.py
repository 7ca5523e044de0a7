"""Thousands of tables and sequences of a manifest in little memory: their names once, and eight bytes for each number.

There may be hundreds of manifests in memory, and an object for each table of each of them takes a hundred times as much.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from pydantic import BaseModel

P = TypeVar("P", bound=BaseModel)
MIN_NUMBER, MAX_NUMBER = -(2**63), 2**63 - 1


class Packed(Sequence[P], Generic[P]):
    """A sequence of parts that have texts and one number each. The parts are created on request.

    A subclass names their fields. It equals a tuple of the same parts.

    Args:
        texts: the texts of all parts, by field.
        numbers: their numbers.
        absent: the places without a number.
    """

    part: ClassVar[type[Any]]
    # Name in the document → attribute of the part.
    text_fields: ClassVar[dict[str, str]]
    number_field: ClassVar[str]
    least: ClassVar[int] = MIN_NUMBER
    may_be_absent: ClassVar[bool] = False

    __slots__ = ("_absent", "_numbers", "_texts")

    def __init__(
        self, texts: tuple[tuple[str, ...], ...], numbers: "array[int]", absent: frozenset[int] = frozenset()
    ) -> None:
        self._texts = texts
        self._numbers = numbers
        self._absent = absent

    @classmethod
    def of(cls, rows: object) -> Self | None:
        """From the decoded JSON of a document; None if its form is unusual, so that another parser must read it."""
        if type(rows) is not list or not rows or set(map(type, rows)) != {dict}:
            return None
        try:
            texts = tuple(tuple([row[name] for row in rows]) for name in cls.text_fields)
            numbers = [row[cls.number_field] for row in rows]
        except KeyError:
            return None
        absent = frozenset(place for place, number in enumerate(numbers) if number is None)
        if absent and not cls.may_be_absent:
            return None
        if absent:
            numbers = [0 if number is None else number for number in numbers]
        if set(map(type, numbers)) != {int} or any(set(map(type, column)) != {str} for column in texts):
            return None
        if min(numbers) < cls.least or max(numbers) > MAX_NUMBER:
            return None
        return cls(texts, array("q", numbers), absent)

    def sharing(self, before: "Packed[P]") -> Self:
        """The same sequence; columns that equal those of another one share its memory."""
        if self == before and isinstance(before, type(self)):
            return before
        texts = tuple(map(_shared, before._texts, self._texts))
        return type(self)(texts, self._numbers, self._absent)

    @property
    def total(self) -> int:
        """The sum of the numbers."""
        return sum(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> P: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[P, ...]: ...
    def __getitem__(self, place: int | slice) -> P | tuple[P, ...]:
        if isinstance(place, slice):
            return tuple(self._one(each) for each in range(len(self))[place])
        return self._one(range(len(self))[place])

    def __iter__(self) -> Iterator[P]:
        return map(self._one, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Packed):
            mine = (self.part, self._numbers, self._absent, self._texts)
            return mine == (other.part, other._numbers, other._absent, other._texts)
        return isinstance(other, tuple) and tuple(self) == other

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} of {self.part.__name__})"

    def _one(self, place: int) -> P:
        values: dict[str, Any] = {
            field: column[place] for field, column in zip(self.text_fields.values(), self._texts, strict=True)
        }
        values[self.number_field] = None if place in self._absent else self._numbers[place]
        made: P = self.part.model_construct(**values)
        return made


def _shared(before: tuple[str, ...], found: tuple[str, ...]) -> tuple[str, ...]:
    if before == found:
        return before
    known = {text: text for text in before}
    return tuple([known.setdefault(text, text) for text in found])
