"""Failures of requests to Stripe. `outcome` is the label of the metric."""


class StripeCallError(Exception):
    def __init__(self, message: str, outcome: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class TryLaterError(StripeCallError):
    """A later attempt may succeed."""


class RefusedError(StripeCallError):
    """Stripe refuses the request. It must be corrected, or the configuration must be."""


class GoneError(RefusedError):
    """Stripe has no object with this id."""
