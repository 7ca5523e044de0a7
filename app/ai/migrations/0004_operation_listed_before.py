from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("ai", "0003_videos")]

    operations = [
        migrations.AddField(
            model_name="operation",
            name="listed_before",
            field=models.JSONField(blank=True, editable=False, null=True),
        ),
    ]
