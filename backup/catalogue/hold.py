"""A hold keeps a backup whatever the retention rules say. It is an object next to the manifest.

Releasing writes the object again instead of deleting it, so that a key that cannot delete can release. Anything
there other than a release that we have written counts as a hold: when in doubt, the backup is kept.
"""

from typing import ClassVar

from pydantic import Field

from backup.catalogue.document import Document, Moment


class Hold(Document):
    """Whether a backup is on hold, and why."""

    kind_of_document: ClassVar[str] = "hold"

    backup: str
    database: str
    held: bool = Field(description="false: it was released")
    moment: Moment
    host: str = ""
    reason: str = ""
