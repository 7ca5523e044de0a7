from collections.abc import Callable
from typing import Any, cast

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from ai import providers, services, videos
from ai.models import AIJob
from media.api import AssetSerializer
from posts.models import Post


class JobSerializer(serializers.ModelSerializer[AIJob]):
    asset = AssetSerializer(read_only=True, allow_null=True, help_text="The file that the job has produced.")

    class Meta:
        model = AIJob
        fields = (
            "id",
            "kind",
            "status",
            "priority",
            "provider",
            "post",
            "prompt",
            "result",
            "asset",
            "error",
            "seconds",
            "attempts",
            "created_at",
            "started_at",
            "finished_at",
        )
        read_only_fields = fields


class OwnPostField(serializers.PrimaryKeyRelatedField[Post]):
    def get_queryset(self) -> QuerySet[Post]:
        return Post.objects.filter(owner=self.context["request"].user)


class JobRequestSerializer(serializers.Serializer[Any]):
    prompt = serializers.CharField(max_length=2000)
    post = OwnPostField(queryset=Post.objects.none(), required=False, allow_null=True)


class CaptionSerializer(JobRequestSerializer):
    provider = serializers.CharField(required=False)

    def validate_provider(self, value: str) -> str:
        names = providers.available()
        if value not in names:
            raise serializers.ValidationError(
                f"Available: {', '.join(names) or 'none'}.", code="unknown_provider"
            )
        return value


def _requested(
    request: Request, serializer: type[JobRequestSerializer], create: Callable[..., AIJob]
) -> Response:
    """Check what a user requests, create the job, and answer with it."""
    wanted = serializer(data=request.data, context={"request": request})
    wanted.is_valid(raise_exception=True)
    job = create(cast("User", request.user), **wanted.validated_data)
    return Response(JobSerializer(job).data, status=status.HTTP_202_ACCEPTED)


class CaptionView(APIView):
    throttle_scope = "ai"

    @extend_schema(request=CaptionSerializer, responses={202: JobSerializer})
    def post(self, request: Request) -> Response:
        return _requested(request, CaptionSerializer, services.request_caption)


class ImageRequestSerializer(JobRequestSerializer):
    pass


class ImageView(APIView):
    throttle_scope = "ai"

    @extend_schema(request=ImageRequestSerializer, responses={202: JobSerializer})
    def post(self, request: Request) -> Response:
        return _requested(request, ImageRequestSerializer, services.request_image)


class VideoRequestSerializer(JobRequestSerializer):
    seconds = serializers.ChoiceField(choices=videos.SECONDS, default=videos.SECONDS[0])


class VideoView(APIView):
    throttle_scope = "ai"

    @extend_schema(request=VideoRequestSerializer, responses={202: JobSerializer})
    def post(self, request: Request) -> Response:
        return _requested(request, VideoRequestSerializer, services.request_video)


class JobViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[AIJob]):
    serializer_class = JobSerializer
    queryset = AIJob.objects.none()

    def get_queryset(self) -> QuerySet[AIJob]:
        return AIJob.objects.filter(owner=cast("User", self.request.user)).select_related("asset")

    @extend_schema(request=None, responses=JobSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(services.cancel(self.get_object())).data)
