"""Draws dashboards from a live Prometheus into PNG, for people who have no Grafana at hand."""

from dashboards.render.pictures import render_all
from dashboards.render.theme import THEMES

__all__ = ["THEMES", "render_all"]
