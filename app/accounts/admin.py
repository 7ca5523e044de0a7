from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest

from accounts.models import ApiToken, User


@admin.register(User)
class PostHubUserAdmin(UserAdmin):
    list_display = ("username", "email", "plan", "is_staff", "is_active")
    list_filter = ("plan", "is_staff", "is_active")
    fieldsets = (*(UserAdmin.fieldsets or ()), ("PostHub", {"fields": ("plan",)}))
    # The plan follows from the billing account, where staff can make it complimentary.
    readonly_fields = ("plan",)


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):
    """Staff can see which tokens exist and revoke them. Only the owner can create one."""

    list_display = ("name", "user", "prefix", "created_at", "expires_at", "last_used_at")
    search_fields = ("name", "user__username")
    fields = list_display
    readonly_fields = list_display

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False
