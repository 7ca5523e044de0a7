"""Faults that a person was notified of and that are not resolved yet, so that a restart does not repeat them."""

from typing import ClassVar

from pydantic import Field

from backup.catalogue.document import Document, Moment


class Notified(Document):
    """The faults of one database by kind, in the words of the notification."""

    kind_of_document: ClassVar[str] = "notified"

    database: str
    moment: Moment | None = Field(default=None, description="when it was written; the newest one counts")
    faults: dict[str, str] = Field(default_factory=dict)
