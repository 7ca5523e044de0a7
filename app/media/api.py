"""Media files of customers: their list, and their bytes behind signed links."""

from typing import cast

from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, viewsets
from rest_framework.exceptions import NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import User
from config.errors import Unavailable
from media import images, links, ranges, services, store
from media.models import Asset


class AssetSerializer(serializers.ModelSerializer[Asset]):
    url = serializers.SerializerMethodField(help_text="The file itself; the link expires after a day.")
    thumbnail_url = serializers.SerializerMethodField(help_text="A small picture. Videos have none.")

    class Meta:
        model = Asset
        fields = (
            "id",
            "kind",
            "content_type",
            "width",
            "height",
            "duration",
            "size",
            "url",
            "thumbnail_url",
            "created_at",
        )
        read_only_fields = fields

    def get_url(self, asset: Asset) -> str:
        return links.path(asset, links.ORIGINAL)

    def get_thumbnail_url(self, asset: Asset) -> str | None:
        if asset.kind == Asset.Kind.VIDEO:
            return None
        return links.path(asset, links.THUMBNAIL)


class OwnAssetField(serializers.PrimaryKeyRelatedField[Asset]):
    """One of the customer's own files. Files of other customers are reported as missing."""

    def get_queryset(self) -> QuerySet[Asset]:
        return Asset.objects.filter(owner=self.context["request"].user)


class AssetViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet[Asset],
):
    serializer_class = AssetSerializer
    queryset = Asset.objects.none()

    def get_queryset(self) -> QuerySet[Asset]:
        return Asset.objects.filter(owner=cast("User", self.request.user))

    def perform_destroy(self, instance: Asset) -> None:
        services.delete(instance)


class FileView(APIView):
    """The bytes of a file. The signature in the link is the permission, so there is nothing to guess or throttle."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()

    @extend_schema(
        parameters=[OpenApiParameter("expires", int), OpenApiParameter("signature", str)],
        responses={(200, "image/*"): OpenApiTypes.BINARY, (206, "video/mp4"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, pk: str, variant: str) -> HttpResponseBase:
        query = request.query_params
        links.check(str(pk), variant, query.get("expires", ""), query.get("signature", ""))
        asset = Asset.objects.filter(pk=pk).first()
        if asset is None or not store.is_configured():
            raise NotFound(code="media_missing")
        try:
            answer = self._original(request, asset) if variant == links.ORIGINAL else self._thumbnail(asset)
        except store.MissingObjectError:
            raise NotFound("The media store has no such file.", code="media_missing") from None
        except store.StoreError as error:
            raise Unavailable("The media store does not answer.", code="media_store_unavailable") from error
        answer.headers["Cache-Control"] = "private, max-age=86400, immutable"
        answer.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer

    @staticmethod
    def _thumbnail(asset: Asset) -> HttpResponseBase:
        return HttpResponse(services.read(asset, links.THUMBNAIL), content_type=images.THUMBNAIL_TYPE)

    @staticmethod
    def _original(request: Request, asset: Asset) -> HttpResponseBase:
        """The file in pieces. Browsers ask for ranges of a video, to play from the middle."""
        wanted = ranges.parse(request.headers.get("Range", ""), asset.size)
        if wanted is None:
            answer = HttpResponse(status=416)
            answer.headers["Content-Range"] = f"bytes */{asset.size}"
            return answer
        pieces = services.stream(asset, wanted.first, wanted.last)
        streamed = StreamingHttpResponse(
            pieces, status=206 if wanted.is_part else 200, content_type=asset.content_type
        )
        streamed.headers["Accept-Ranges"] = "bytes"
        streamed.headers["Content-Length"] = str(wanted.last - wanted.first + 1)
        if wanted.is_part:
            streamed.headers["Content-Range"] = f"bytes {wanted.first}-{wanted.last}/{asset.size}"
        return streamed
