from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from monitoring.health import report
from monitoring.scrape import exposition


@never_cache
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    result = report()
    return JsonResponse(result, status=200 if result["status"] == "ok" else 503)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    body, content_type = exposition(request.headers.get("Accept", ""))
    return HttpResponse(body, content_type=content_type)
