import uuid
from datetime import timedelta

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.utils import timezone

EARLIER = "authtoken_token"
# Existing tokens keep working for as long as a new one would by default.
LIFETIME = timedelta(days=90)


def move_tokens(apps, schema_editor):
    """Move the tokens that earlier versions stored as plain text, so that only their digests remain.

    The empty table stays for processes of the earlier version during the rollout.
    """
    connection = schema_editor.connection
    if EARLIER not in connection.introspection.table_names():
        return
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO accounts_apitoken (id, user_id, name, digest, prefix, created_at, expires_at)
            SELECT gen_random_uuid(), user_id, 'API token', encode(sha256(convert_to(key, 'UTF8')), 'hex'),
                   left(key, 4), created, %s
            FROM authtoken_token
            """,
            [timezone.now() + LIFETIME],
        )
        cursor.execute("DELETE FROM authtoken_token")


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="ApiToken",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False),
                ),
                ("name", models.CharField(max_length=80)),
                ("digest", models.CharField(editable=False, max_length=64, unique=True)),
                ("prefix", models.CharField(editable=False, max_length=8)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("expires_at", models.DateTimeField()),
                ("last_used_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="api_tokens",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "API token",
                "ordering": ("-created_at",),
                "indexes": [models.Index(fields=["expires_at"], name="apitoken_expires")],
            },
        ),
        migrations.RunPython(move_tokens, migrations.RunPython.noop),
    ]
