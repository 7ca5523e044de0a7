from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from accounts import sign_in_limits
from accounts.models import User
from monitoring.metrics import SIGN_INS


class ThrottledBackend(ModelBackend):
    """Checks passwords. Django calls it for every way of signing in, so none of them can skip the limits."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        """The user, or None if name or password is wrong.

        Raises:
            Throttled: too many attempts.
            Unavailable: the attempts cannot be counted.
        """
        if not username or password is None:
            return None
        sign_in_limits.begin(request, username)
        user = super().authenticate(request, username, password, **kwargs)
        if user is not None:
            sign_in_limits.succeeded(username)
        SIGN_INS.labels("failure" if user is None else "success").inc()
        return user
