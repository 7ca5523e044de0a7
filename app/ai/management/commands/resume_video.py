"""Continues a video job whose operation's name was lost, with the name from the worker's log or from the provider."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ai import videos
from ai.models import AIJob
from ai.providers.gemini import OPERATION


class Command(BaseCommand):
    help = "Continue a video job in doubt with the name of its operation."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("job", help="the job's id")
        parser.add_argument("operation", help="such as models/veo-3.1/operations/abc123")

    def handle(self, *args: Any, **options: Any) -> None:
        if not OPERATION.fullmatch(options["operation"]):
            raise CommandError(f"{options['operation']!r} is not a valid name of an operation")
        try:
            job = AIJob.objects.get(pk=options["job"], kind=AIJob.Kind.VIDEO)
        except (AIJob.DoesNotExist, ValidationError):
            raise CommandError(f"there is no video job {options['job']}") from None
        if job.status != AIJob.Status.UNKNOWN:
            raise CommandError(f"the job is {job.status}; only a job that is unknown needs this")
        videos.adopt(job, options["operation"])
        self.stdout.write("recorded; housekeeping continues the job within minutes")
