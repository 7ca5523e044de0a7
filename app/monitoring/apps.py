from django.apps import AppConfig, apps
from django.conf import settings
from django.db.models.signals import post_migrate


class MonitoringConfig(AppConfig):
    name = "monitoring"

    def ready(self) -> None:
        from monitoring import logs, schedule, scrape

        logs.connect()
        scrape.drop_migration_gauges()
        # The sender is the app that owns the tables: Django sends no signal for an app without models.
        post_migrate.connect(schedule.install, sender=apps.get_app_config("django_celery_beat"))
        if settings.SENTRY_DSN:
            _start_sentry()


def _start_sentry() -> None:
    import sentry_sdk

    sentry_sdk.init(
        dsn=settings.SENTRY_DSN,
        environment=settings.SENTRY_ENVIRONMENT,
        traces_sample_rate=settings.SENTRY_TRACES_SAMPLE_RATE,
        send_default_pii=False,
    )
