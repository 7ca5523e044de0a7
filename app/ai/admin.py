from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from ai.models import AIJob, Operation


class OperationInline(admin.TabularInline):
    """The operation of a video, with the name that the provider knows it by."""

    model = Operation
    can_delete = False
    readonly_fields = ("name", "intended_at", "accepted_at", "polls")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(AIJob)
class AIJobAdmin(admin.ModelAdmin):
    list_display = (
        "id",
        "owner",
        "kind",
        "status",
        "priority",
        "provider",
        "attempts",
        "created_at",
        "finished_at",
    )
    list_filter = ("status", "kind", "provider", "priority")
    search_fields = ("owner__username", "prompt")
    raw_id_fields = ("owner", "post")
    inlines = (OperationInline,)
    readonly_fields = ("status", "attempts", "sent_at", "started_at", "finished_at")
