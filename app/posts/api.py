from datetime import timedelta
from typing import Any, cast

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from pgvector.django import CosineDistance
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from config.encryption import encrypt
from config.errors import Conflict
from media.api import AssetSerializer, OwnAssetField
from media.models import Asset
from posts import services
from posts.models import Channel, Post

TOO_LATE = timedelta(hours=1)
TOO_EARLY = timedelta(days=366)
SIMILAR = 5
NAME_TAKEN = "You already have a channel with this name."


class ChannelSerializer(serializers.ModelSerializer[Channel]):
    webhook_secret = serializers.CharField(
        max_length=200, write_only=True, required=False, allow_blank=True, help_text="Signs each post."
    )

    class Meta:
        model = Channel
        fields = (
            "id",
            "name",
            "publisher",
            "webhook_url",
            "webhook_secret",
            "published_count",
            "last_published_at",
            "created_at",
        )
        read_only_fields = ("published_count", "last_published_at")

    def validate_name(self, value: str) -> str:
        twins = Channel.objects.filter(owner=self.context["request"].user, name=value)
        if self.instance is not None:
            twins = twins.exclude(pk=self.instance.pk)
        if twins.exists():
            raise serializers.ValidationError(NAME_TAKEN, code="unique")
        return value

    def validate_webhook_secret(self, value: str) -> str:
        return encrypt(value) if value else ""

    def validate_webhook_url(self, value: str) -> str:
        schemes = ("https://", "http://") if settings.WEBHOOK_ALLOW_HTTP else ("https://",)
        if value and not value.lower().startswith(schemes):
            raise serializers.ValidationError(
                "The address must begin with " + " or ".join(schemes), code="scheme"
            )
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        publisher = self._value(attrs, "publisher", Channel.Publisher.WEBHOOK)
        if publisher == Channel.Publisher.SANDBOX and not settings.SANDBOX_ALLOWED:
            raise serializers.ValidationError(
                {"publisher": ["The sandbox is only available in development."]}
            )
        if publisher == Channel.Publisher.WEBHOOK and not self._value(attrs, "webhook_url", ""):
            raise serializers.ValidationError({"webhook_url": ["A webhook channel needs an address."]})
        return attrs

    def _value(self, attrs: dict[str, Any], name: str, default: str) -> str:
        return str(attrs.get(name, getattr(self.instance, name, default)))


class ChannelViewSet(viewsets.ModelViewSet[Channel]):
    serializer_class = ChannelSerializer
    queryset = Channel.objects.none()

    def get_queryset(self) -> QuerySet[Channel]:
        return Channel.objects.filter(owner=cast("User", self.request.user))

    def perform_create(self, serializer: serializers.BaseSerializer[Channel]) -> None:
        _save(serializer, owner=self.request.user)

    def perform_update(self, serializer: serializers.BaseSerializer[Channel]) -> None:
        _save(serializer)

    def perform_destroy(self, instance: Channel) -> None:
        if instance.posts.filter(status__in=(Post.Status.SCHEDULED, Post.Status.PUBLISHING)).exists():
            raise Conflict("Posts are waiting to be published to this channel.", code="posts_waiting")
        instance.delete()


def _save(serializer: serializers.BaseSerializer[Channel], **values: Any) -> None:
    """Save, even if another request has taken the name since it was checked."""
    try:
        with transaction.atomic():
            serializer.save(**values)
    except IntegrityError:
        raise serializers.ValidationError({"name": [NAME_TAKEN]}, code="unique") from None


class OwnChannelField(serializers.PrimaryKeyRelatedField[Channel]):
    """One of the customer's own channels; other channels count as missing."""

    def get_queryset(self) -> QuerySet[Channel]:
        return Channel.objects.filter(owner=self.context["request"].user)


class PostSerializer(serializers.ModelSerializer[Post]):
    channel = OwnChannelField(queryset=Channel.objects.none())
    media = OwnAssetField(queryset=Asset.objects.none(), required=False, allow_null=True)
    file = AssetSerializer(source="media", read_only=True, allow_null=True, help_text="The attached file.")

    class Meta:
        model = Post
        fields = (
            "id",
            "channel",
            "text",
            "media",
            "file",
            "status",
            "scheduled_at",
            "published_at",
            "attempts",
            "last_error",
            "external_id",
            "created_at",
            "updated_at",
        )
        read_only_fields = ("status", "scheduled_at", "published_at", "attempts", "last_error", "external_id")


class ScheduleSerializer(serializers.Serializer[Any]):
    scheduled_at = serializers.DateTimeField()

    def validate_scheduled_at(self, value: Any) -> Any:
        now = timezone.now()
        if value < now - TOO_LATE:
            raise serializers.ValidationError("This time is in the past.", code="past")
        if value > now + TOO_EARLY:
            raise serializers.ValidationError("This time is more than a year in the future.", code="too_far")
        return value


class PostFilter(serializers.Serializer[Any]):
    """Filters of the list. An invalid value is an error, not an empty list."""

    status = serializers.ChoiceField(choices=Post.Status.choices, required=False)
    channel = serializers.UUIDField(required=False)
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)

    def narrow(self, queryset: QuerySet[Post]) -> QuerySet[Post]:
        """Apply the filters. `since` and `until` compare the time of publication or, before that, the due time."""
        chosen = dict(self.validated_data)
        since, until = chosen.pop("since", None), chosen.pop("until", None)
        if since or until:
            queryset = queryset.annotate(moment=Coalesce("published_at", "scheduled_at"))
        if since:
            chosen["moment__gte"] = since
        if until:
            chosen["moment__lt"] = until
        return queryset.filter(**chosen)


class PostViewSet(viewsets.ModelViewSet[Post]):
    serializer_class = PostSerializer
    queryset = Post.objects.none()

    def get_queryset(self) -> QuerySet[Post]:
        return (
            Post.objects.filter(owner=cast("User", self.request.user))
            .select_related("media")
            .defer("embedding")
        )

    def filter_queryset(self, queryset: Any) -> Any:
        if self.action != "list":
            return queryset
        wanted = PostFilter(data=self.request.query_params)
        wanted.is_valid(raise_exception=True)
        return wanted.narrow(queryset)

    @extend_schema(
        parameters=[
            OpenApiParameter("status", enum=[value for value, _ in Post.Status.choices]),
            OpenApiParameter("channel", {"type": "string", "format": "uuid"}),
            OpenApiParameter("since", {"type": "string", "format": "date-time"}),
            OpenApiParameter("until", {"type": "string", "format": "date-time"}),
        ]
    )
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)

    def perform_create(self, serializer: serializers.BaseSerializer[Post]) -> None:
        serializer.save(owner=self.request.user)

    def perform_update(self, serializer: serializers.BaseSerializer[Post]) -> None:
        serializer.instance = services.edit(self.get_object(), serializer.validated_data)

    def perform_destroy(self, instance: Post) -> None:
        services.delete(instance)

    def _accepted(self, post: Post) -> Response:
        return Response(self.get_serializer(post).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=ScheduleSerializer, responses={202: PostSerializer})
    @action(detail=True, methods=["post"])
    def schedule(self, request: Request, pk: str) -> Response:
        wanted = ScheduleSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        return self._accepted(services.schedule(self.get_object(), wanted.validated_data["scheduled_at"]))

    @extend_schema(request=None, responses={202: PostSerializer})
    @action(detail=True, methods=["post"])
    def publish(self, request: Request, pk: str) -> Response:
        return self._accepted(services.publish_now(self.get_object()))

    @extend_schema(request=None, responses={202: PostSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        return self._accepted(services.retry(self.get_object()))

    @extend_schema(request=None, responses={202: PostSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        return self._accepted(services.cancel(self.get_object()))

    @extend_schema(responses=PostSerializer(many=True))
    @action(detail=True, pagination_class=None)
    def similar(self, request: Request, pk: str) -> Response:
        """The customer's own published posts that are nearest in meaning."""
        post = self.get_object()
        if post.embedding is None:
            return Response([])
        others = self.get_queryset().exclude(pk=post.pk).filter(embedding__isnull=False)
        nearest = others.order_by(CosineDistance("embedding", post.embedding))[:SIMILAR]
        return Response(self.get_serializer(nearest, many=True).data)
