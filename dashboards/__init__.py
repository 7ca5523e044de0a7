"""Grafana dashboards, built in Python and committed as JSON."""

import warnings

# The SDK recommends schema v2, which Grafana before 12 cannot load from provisioning files.
warnings.filterwarnings("ignore", message="Prefer using dashboardv2", category=DeprecationWarning)

from dashboards.catalogue import JSON_FOLDER, boards, build, out_of_sync  # noqa: E402 - after what it depends on

__all__ = ["JSON_FOLDER", "boards", "build", "out_of_sync"]
