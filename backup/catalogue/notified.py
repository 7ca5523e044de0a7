"""What a person was notified of and is not over yet, so that a restart says nothing twice."""

from typing import ClassVar

from pydantic import Field

from backup.catalogue.document import Document


class Notified(Document):
    """The faults of one database by kind, as they were told."""

    kind_of_document: ClassVar[str] = "notified"

    database: str
    faults: dict[str, str] = Field(default_factory=dict)
