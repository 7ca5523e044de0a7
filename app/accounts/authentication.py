from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed

from accounts import tokens
from accounts.models import ApiToken, User


class TokenAuthentication(authentication.TokenAuthentication):
    """`Authorization: Token …` with a token of accounts.tokens."""

    def authenticate_credentials(self, key: str) -> tuple[User, ApiToken]:
        token = tokens.find(key)
        if token is None or not token.user.is_active:
            raise AuthenticationFailed("This token is not valid, or has expired or been revoked.")
        return token.user, token
