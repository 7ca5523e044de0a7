"""Users whose plan was set by hand, before there was billing, keep it: their accounts are complimentary."""

from typing import Any

from django.db import migrations


def keep_plans(apps: Any, schema_editor: Any) -> None:
    users = apps.get_model("accounts", "User").objects.filter(plan="paid", billing_account=None)
    account = apps.get_model("billing", "Account")
    account.objects.bulk_create([account(user=user, complimentary=True) for user in users])


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_plan_pro"),
        ("billing", "0001_initial"),
    ]

    operations = [migrations.RunPython(keep_plans, migrations.RunPython.noop)]
