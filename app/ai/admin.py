from django.contrib import admin

from ai.models import AIJob


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
    readonly_fields = ("status", "attempts", "sent_at", "started_at", "finished_at")
