"""Finding the operation whose name was lost, because a worker died between the provider's acceptance and our record of it.

Before each start, the provider's list of operations is noted. Afterwards, a new operation in that list that no job has
recorded must be the lost one, if no other start is open at that time:

    list → commit the intent → start → record the name
    after a death: list → names recorded meanwhile → other intents without a name

The two questions to the database come after the list. So the start of each listed operation has committed its intent by
then, and either its name is recorded, or it is one of those others.
"""

import logging
from datetime import timedelta

from django.conf import settings

from ai.models import Operation
from ai.providers import ProviderError, VideoProvider

log = logging.getLogger(__name__)


def time_to_appear() -> timedelta:
    """How long after its intent an operation may still be accepted, by a request that outlived its worker."""
    return timedelta(seconds=2 * settings.AI_TIMEOUT)


def listed(provider: VideoProvider) -> list[str] | None:
    """What the provider lists before a start. None if it does not; a lost operation cannot be found then."""
    try:
        names = provider.operations()
    except ProviderError as error:
        log.warning("operations not listed", extra={"provider": provider.name, "reason": str(error)})
        return None
    return None if names is None else sorted(names)


def candidates(operation: Operation, provider: VideoProvider) -> set[str]:
    """The operations that may be the lost one. None of them is certain while another start is open.

    Raises:
        ProviderError: the provider does not list its operations now.
    """
    new = (provider.operations() or set()) - set(operation.listed_before or ())
    new -= set(Operation.objects.filter(name__in=new).values_list("name", flat=True))
    since = operation.intended_at - time_to_appear()
    others = Operation.objects.filter(name="", intended_at__gte=since).exclude(pk=operation.pk)
    return set() if others.exists() else new
