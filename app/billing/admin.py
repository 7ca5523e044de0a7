from typing import Any

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest

from billing.models import Account, Event, Reconciliation, Subscription
from billing.synchronization import set_plan


class _ReadOnly:
    """Stripe is the source of truth: a change here would be undone by the next event."""

    def has_add_permission(self, *_: Any) -> bool:
        return False

    def has_change_permission(self, *_: Any) -> bool:
        return False

    def has_delete_permission(self, *_: Any) -> bool:
        return False


class SubscriptionInline(_ReadOnly, admin.TabularInline):
    model = Subscription
    fields = ("id", "status", "current_period_end", "cancel_at_period_end", "past_due_since")
    readonly_fields = fields
    extra = 0


@admin.register(Account)
class AccountAdmin(admin.ModelAdmin):
    """Staff can only give the plan pro for free."""

    list_display = ("user", "customer_id", "complimentary", "synced_at")
    list_filter = ("complimentary",)
    search_fields = ("user__username", "customer_id")
    fields = ("user", "complimentary", "customer_id", "synced_at")
    readonly_fields = ("customer_id", "synced_at")
    raw_id_fields = ("user",)
    inlines = (SubscriptionInline,)

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            set_plan(Account.objects.select_for_update().get(pk=obj.pk))

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> tuple[str, ...]:
        return (*self.readonly_fields, *(("user",) if obj else ()))

    def has_delete_permission(self, *_: Any) -> bool:
        return False


@admin.register(Event)
class EventAdmin(_ReadOnly, admin.ModelAdmin):
    list_display = ("id", "type", "customer_id", "status", "error", "created_at", "received_at", "handled_at")
    list_filter = ("status", "type")
    search_fields = ("id", "customer_id")


@admin.register(Reconciliation)
class ReconciliationAdmin(_ReadOnly, admin.ModelAdmin):
    list_display = ("finished_at", "subscriptions", "differences")
