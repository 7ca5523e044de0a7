from django.contrib import admin
from django.http import HttpRequest

from media.models import Asset


@admin.register(Asset)
class AssetAdmin(admin.ModelAdmin):
    """Files can be looked up here. The API deletes them, because it also deletes their bytes."""

    list_display = ("id", "owner", "kind", "content_type", "size", "created_at")
    list_filter = ("kind", "content_type")
    search_fields = ("id", "owner__username")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Asset | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Asset | None = None) -> bool:
        return False
