from typing import Any

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.routers import SimpleRouter

from accounts.api import TokenViewSet, login, logout, me, token
from ai.api import CaptionView, ImageView, JobViewSet, VideoView
from billing.api import CheckoutView, PortalView
from billing.webhook import receive
from media.api import AssetViewSet, FileView
from monitoring.api import SystemView
from monitoring.views import health, metrics
from posts.api import ChannelViewSet, PostViewSet

router = SimpleRouter()
router.register("channels", ChannelViewSet, "channel")
router.register("posts", PostViewSet, "post")
router.register("media", AssetViewSet, "asset")
router.register("ai/jobs", JobViewSet, "ai-job")
router.register("auth/tokens", TokenViewSet, "token")

api: list[Any] = [
    path("health/", health, name="health"),
    path("auth/token/", token, name="sign-in-token"),
    path("auth/login/", login, name="login"),
    path("auth/logout/", logout, name="logout"),
    path("me/", me, name="me"),
    path("ai/captions/", CaptionView.as_view(), name="ai-caption"),
    path("ai/images/", ImageView.as_view(), name="ai-image"),
    path("ai/videos/", VideoView.as_view(), name="ai-video"),
    path("media/<uuid:pk>/original/", FileView.as_view(), {"variant": "original"}, name="media-original"),
    path("media/<uuid:pk>/thumbnail/", FileView.as_view(), {"variant": "thumbnail"}, name="media-thumbnail"),
    path("billing/checkout/", CheckoutView.as_view(), name="billing-checkout"),
    path("billing/portal/", PortalView.as_view(), name="billing-portal"),
    path("billing/webhook/", receive, name="billing-webhook"),
    path("system/", SystemView.as_view(), name="system"),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("", include(router.urls)),
]

urlpatterns = [
    path("admin/", admin.site.urls),
    path("health/", health, name="health"),
    # The name that public Django dashboards and alerts leave out of the traffic.
    path("metrics", metrics, name="prometheus-django-metrics"),
    path("api/v1/", include((api, "api"))),
]

handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"

if settings.DEBUG:
    urlpatterns.append(path("api/docs/", SpectacularSwaggerView.as_view(url_name="api:schema")))
