"""Media files of customers: their list, and their bytes behind signed links."""

from typing import cast

from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers, viewsets
from rest_framework.exceptions import NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import User
from config.errors import Unavailable
from media import images, links, services, store
from media.models import Asset


class AssetSerializer(serializers.ModelSerializer[Asset]):
    url = serializers.SerializerMethodField(help_text="The file itself; the link expires after a day.")
    thumbnail_url = serializers.SerializerMethodField()

    class Meta:
        model = Asset
        fields = (
            "id",
            "kind",
            "content_type",
            "width",
            "height",
            "size",
            "url",
            "thumbnail_url",
            "created_at",
        )
        read_only_fields = fields

    def get_url(self, asset: Asset) -> str:
        return links.path(asset, links.ORIGINAL)

    def get_thumbnail_url(self, asset: Asset) -> str:
        return links.path(asset, links.THUMBNAIL)


class OwnAssetField(serializers.PrimaryKeyRelatedField[Asset]):
    """One of the customer's own files. Those of others do not exist for them."""

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
        responses={(200, "image/*"): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, pk: str, variant: str) -> HttpResponse:
        query = request.query_params
        links.check(str(pk), variant, query.get("expires", ""), query.get("signature", ""))
        asset = Asset.objects.filter(pk=pk).first()
        if asset is None or not store.is_configured():
            raise NotFound(code="media_missing")
        content = self._read(asset, variant)
        kind = asset.content_type if variant == links.ORIGINAL else images.THUMBNAIL_TYPE
        return HttpResponse(
            content,
            content_type=kind,
            headers={
                "Cache-Control": "private, max-age=86400, immutable",
                "Content-Security-Policy": "default-src 'none'; sandbox",
                "X-Content-Type-Options": "nosniff",
            },
        )

    @staticmethod
    def _read(asset: Asset, variant: str) -> bytes:
        try:
            return services.read(asset, variant)
        except store.MissingObjectError:
            raise NotFound("The media store has no such file.", code="media_missing") from None
        except store.StoreError as error:
            raise Unavailable("The media store does not answer.", code="media_store_unavailable") from error
