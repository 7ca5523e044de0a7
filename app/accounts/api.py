"""Signing in: a token for programs, a session for the web frontend."""

from typing import Any, cast

from django.conf import settings
from django.contrib.auth import login as start_session
from django.contrib.auth import logout as end_session
from django.db.models import QuerySet
from django.middleware.csrf import get_token
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.authtoken.serializers import AuthTokenSerializer
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import tokens
from accounts.models import ApiToken, User
from ai import providers, quotas
from billing.api import BillingSerializer, state_of
from media import store
from posts.models import Channel


class AccountSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields: tuple[str, ...] = ("username", "email", "plan", "is_staff")
        read_only_fields = fields


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    class Meta:
        model = ApiToken
        fields: tuple[str, ...] = ("id", "name", "prefix", "created_at", "expires_at", "last_used_at")
        read_only_fields = fields


class IssuedTokenSerializer(TokenSerializer):
    token = serializers.CharField(read_only=True, help_text="The token itself. It is never shown again.")

    class Meta(TokenSerializer.Meta):
        fields = (*TokenSerializer.Meta.fields, "token")
        read_only_fields = fields


class TokenRequestSerializer(AuthTokenSerializer):
    name = serializers.CharField(max_length=80, default="API token", help_text="For the list of tokens.")
    days = serializers.IntegerField(
        min_value=1, max_value=3650, required=False, help_text="Days until the token expires."
    )


class QuotaSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    unit = serializers.ChoiceField(choices=("jobs", "seconds"), help_text="What is counted.")
    limit = serializers.IntegerField(help_text="What the plan allows a day.")
    used = serializers.IntegerField(help_text="What was requested today.")


class SessionSerializer(AccountSerializer):
    csrf_token = serializers.CharField(read_only=True)
    publishers = serializers.ListField(
        child=serializers.ChoiceField(choices=Channel.Publisher.choices), read_only=True
    )
    ai_providers = serializers.ListField(child=serializers.CharField(), read_only=True)
    ai_images = serializers.BooleanField(read_only=True, help_text="Whether images can be requested.")
    ai_videos = serializers.BooleanField(read_only=True, help_text="Whether videos can be requested.")
    quotas = QuotaSerializer(many=True, read_only=True)
    billing = BillingSerializer(read_only=True)

    class Meta(AccountSerializer.Meta):
        fields = (
            *AccountSerializer.Meta.fields,
            "csrf_token",
            "publishers",
            "ai_providers",
            "ai_images",
            "ai_videos",
            "quotas",
            "billing",
        )
        read_only_fields = fields


class _SignIn(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)
    serializer_class = AuthTokenSerializer

    def credentials(self, request: Request) -> dict[str, Any]:
        """The valid credentials. The authentication backend limits the number of attempts."""
        serializer = self.serializer_class(data=request.data, context={"request": request})
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data


class TokenView(_SignIn):
    serializer_class = TokenRequestSerializer

    @extend_schema(request=TokenRequestSerializer, responses=IssuedTokenSerializer)
    def post(self, request: Request) -> Response:
        given = self.credentials(request)
        token, key = tokens.issue(given["user"], given["name"], given.get("days"))
        return Response({**TokenSerializer(token).data, "token": key})


class TokenViewSet(mixins.ListModelMixin, mixins.DestroyModelMixin, viewsets.GenericViewSet[ApiToken]):
    """The customer's own tokens. Deleting one revokes it."""

    serializer_class = TokenSerializer
    queryset = ApiToken.objects.none()

    def get_queryset(self) -> QuerySet[ApiToken]:
        return ApiToken.objects.filter(user=cast("User", self.request.user))


class LoginView(_SignIn):
    @extend_schema(request=AuthTokenSerializer, responses=SessionSerializer)
    def post(self, request: Request) -> Response:
        user = self.credentials(request)["user"]
        start_session(request._request, user)
        return Response(_account(request, user))


class LogoutView(APIView):
    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request) -> Response:
        """End the session, or revoke the token that the request was made with."""
        if isinstance(request.auth, ApiToken):
            request.auth.delete()
        end_session(request._request)
        return Response(status=status.HTTP_204_NO_CONTENT)


class AccountView(APIView):
    @extend_schema(responses=SessionSerializer)
    def get(self, request: Request) -> Response:
        return Response(_account(request, cast("User", request.user)))


def _account(request: Request, user: User) -> dict[str, Any]:
    """The account with the CSRF token, whose cookie a frontend on another host cannot read, and the available features."""
    publishers = [
        str(publisher)
        for publisher in Channel.Publisher
        if publisher != "sandbox" or settings.SANDBOX_ALLOWED
    ]
    return {
        **AccountSerializer(user).data,
        "csrf_token": get_token(request._request),
        "publishers": publishers,
        "ai_providers": providers.available(),
        "ai_images": providers.image_provider_name() is not None and store.is_configured(),
        "ai_videos": providers.video_provider_name() is not None and store.is_configured(),
        "quotas": [QuotaSerializer(quotas.of(user, kind)).data for kind in quotas.KINDS],
        "billing": BillingSerializer(state_of(user)).data,
    }


token = TokenView.as_view()
login = LoginView.as_view()
logout = LogoutView.as_view()
me = AccountView.as_view()
