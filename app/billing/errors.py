"""Failures of requests to Stripe. `outcome` is the label of the metric."""


class StripeCallError(Exception):
    def __init__(self, message: str, outcome: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class TryLaterError(StripeCallError):
    """A later attempt may succeed."""


class RefusedError(StripeCallError):
    """Stripe refuses the request. Either the request or the configuration must be corrected."""


class GoneError(RefusedError):
    """Stripe has no object with this ID."""
