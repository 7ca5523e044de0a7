"""Signing in: a token for programs, a session for the web frontend."""

from typing import Any, cast

from django.conf import settings
from django.contrib.auth import login as start_session
from django.contrib.auth import logout as end_session
from django.middleware.csrf import get_token
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.authtoken.models import Token
from rest_framework.authtoken.serializers import AuthTokenSerializer
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from ai import providers
from posts.models import Channel


class AccountSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields: tuple[str, ...] = ("username", "email", "plan", "is_staff")
        read_only_fields = fields


class TokenSerializer(serializers.Serializer[Any]):
    token = serializers.CharField(read_only=True)


class SessionSerializer(AccountSerializer):
    csrf_token = serializers.CharField(read_only=True)
    publishers = serializers.ListField(
        child=serializers.ChoiceField(choices=Channel.Publisher.choices), read_only=True
    )
    ai_providers = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta(AccountSerializer.Meta):
        fields = (*AccountSerializer.Meta.fields, "csrf_token", "publishers", "ai_providers")
        read_only_fields = fields


class _SignIn(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_scope = "login"

    def user_of(self, request: Request) -> User:
        serializer = AuthTokenSerializer(data=request.data, context={"request": request})
        serializer.is_valid(raise_exception=True)
        user: User = serializer.validated_data["user"]
        return user


class TokenView(_SignIn):
    @extend_schema(request=AuthTokenSerializer, responses=TokenSerializer)
    def post(self, request: Request) -> Response:
        key, _ = Token.objects.get_or_create(user=self.user_of(request))
        return Response({"token": key.key})


class LoginView(_SignIn):
    @extend_schema(request=AuthTokenSerializer, responses=SessionSerializer)
    def post(self, request: Request) -> Response:
        user = self.user_of(request)
        start_session(request._request, user)
        return Response(_account(request, user))


class LogoutView(APIView):
    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request) -> Response:
        end_session(request._request)
        return Response(status=status.HTTP_204_NO_CONTENT)


class AccountView(APIView):
    @extend_schema(responses=SessionSerializer)
    def get(self, request: Request) -> Response:
        return Response(_account(request, cast("User", request.user)))


def _account(request: Request, user: User) -> dict[str, Any]:
    """With the CSRF token, whose cookie a frontend on another host cannot read, and with what can be used here."""
    publishers = [str(one) for one in Channel.Publisher if one != "sandbox" or settings.SANDBOX_ALLOWED]
    return {
        **AccountSerializer(user).data,
        "csrf_token": get_token(request._request),
        "publishers": publishers,
        "ai_providers": providers.available(),
    }


token = TokenView.as_view()
login = LoginView.as_view()
logout = LogoutView.as_view()
me = AccountView.as_view()
