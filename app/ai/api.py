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


class CaptionSerializer(serializers.Serializer[Any]):
    prompt = serializers.CharField(max_length=2000)
    post = OwnPostField(queryset=Post.objects.none(), required=False, allow_null=True)
    provider = serializers.CharField(required=False)

    def validate_provider(self, value: str) -> str:
        names = providers.available()
        if value not in names:
            raise serializers.ValidationError(
                f"Available: {', '.join(names) or 'none'}.", code="unknown_provider"
            )
        return value


class CaptionView(APIView):
    throttle_scope = "ai"

    @extend_schema(request=CaptionSerializer, responses={202: JobSerializer})
    def post(self, request: Request) -> Response:
        wanted = CaptionSerializer(data=request.data, context={"request": request})
        wanted.is_valid(raise_exception=True)
        job = services.request_caption(cast("User", request.user), **wanted.validated_data)
        return Response(JobSerializer(job).data, status=status.HTTP_202_ACCEPTED)


class ImageRequestSerializer(serializers.Serializer[Any]):
    prompt = serializers.CharField(max_length=2000)
    post = OwnPostField(queryset=Post.objects.none(), required=False, allow_null=True)


class ImageView(APIView):
    throttle_scope = "ai"

    @extend_schema(request=ImageRequestSerializer, responses={202: JobSerializer})
    def post(self, request: Request) -> Response:
        wanted = ImageRequestSerializer(data=request.data, context={"request": request})
        wanted.is_valid(raise_exception=True)
        job = services.request_image(cast("User", request.user), **wanted.validated_data)
        return Response(JobSerializer(job).data, status=status.HTTP_202_ACCEPTED)


class VideoRequestSerializer(ImageRequestSerializer):
    seconds = serializers.ChoiceField(choices=videos.SECONDS, default=videos.SECONDS[0])


class VideoView(APIView):
    throttle_scope = "ai"

    @extend_schema(request=VideoRequestSerializer, responses={202: JobSerializer})
    def post(self, request: Request) -> Response:
        wanted = VideoRequestSerializer(data=request.data, context={"request": request})
        wanted.is_valid(raise_exception=True)
        job = services.request_video(cast("User", request.user), **wanted.validated_data)
        return Response(JobSerializer(job).data, status=status.HTTP_202_ACCEPTED)


class JobViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[AIJob]):
    serializer_class = JobSerializer
    queryset = AIJob.objects.none()

    def get_queryset(self) -> QuerySet[AIJob]:
        return AIJob.objects.filter(owner=cast("User", self.request.user)).select_related("asset")

    @extend_schema(request=None, responses=JobSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(services.cancel(self.get_object())).data)
