from django.contrib import admin

from posts.models import Channel, Post


@admin.register(Channel)
class ChannelAdmin(admin.ModelAdmin):
    list_display = ("name", "owner", "publisher", "published_count", "last_published_at")
    list_filter = ("publisher",)
    search_fields = ("name", "owner__username")
    raw_id_fields = ("owner",)
    # Staff must not read a customer's signing secret.
    exclude = ("webhook_secret",)


@admin.register(Post)
class PostAdmin(admin.ModelAdmin):
    list_display = (
        "id",
        "owner",
        "channel",
        "status",
        "scheduled_at",
        "published_at",
        "attempts",
        "last_error",
    )
    list_filter = ("status",)
    search_fields = ("text", "owner__username")
    date_hierarchy = "created_at"
    raw_id_fields = ("owner", "channel", "media")
    # Only tasks change the state; a manual change would race with them.
    readonly_fields = (
        "status",
        "attempts",
        "published_at",
        "external_id",
        "claimed_by",
        "claimed_at",
        "last_error",
    )
