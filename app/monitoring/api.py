"""The data of the system page, for staff."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.errors import Unavailable
from monitoring import system
from monitoring.promquery import NoAnswerError


class QueueSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    length = serializers.IntegerField(allow_null=True)
    oldest_age_seconds = serializers.FloatField(allow_null=True)
    consumers = serializers.IntegerField(allow_null=True)


class BackupSerializer(serializers.Serializer[Any]):
    database = serializers.CharField()
    verified_at = serializers.DateTimeField(
        allow_null=True, help_text="Time of the last verification that passed."
    )
    taken_at = serializers.DateTimeField(
        allow_null=True, help_text="Time at which the verified backup was taken."
    )
    rto_seconds = serializers.FloatField(allow_null=True, help_text="Duration of the restore, in seconds.")
    rto_target_seconds = serializers.FloatField(allow_null=True)
    unlike = serializers.BooleanField(
        allow_null=True, help_text="Whether the newest backup is unlike the ones before it."
    )


class SystemSerializer(serializers.Serializer[Any]):
    queues = QueueSerializer(many=True)
    backups = BackupSerializer(many=True)
    grafana_url = serializers.CharField(allow_blank=True)


class SystemView(APIView):
    permission_classes = (IsAdminUser,)

    @extend_schema(responses=SystemSerializer)
    def get(self, request: Request) -> Response:
        if not settings.PROMETHEUS_URL:
            raise Unavailable("No Prometheus is configured.", code="no_prometheus")
        try:
            found = system.state(settings.PROMETHEUS_URL)
        except NoAnswerError as error:
            raise Unavailable("Prometheus does not answer.", code="prometheus_silent") from error
        return Response(SystemSerializer({**found, "grafana_url": settings.GRAFANA_URL}).data)
