from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from accounts.models import User


@admin.register(User)
class PostHubUserAdmin(UserAdmin):
    list_display = ("username", "email", "plan", "is_staff", "is_active")
    list_filter = ("plan", "is_staff", "is_active")
    fieldsets = (*(UserAdmin.fieldsets or ()), ("PostHub", {"fields": ("plan",)}))
