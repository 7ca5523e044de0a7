"""Draws dashboards as PNG from a live Prometheus, without Grafana."""

from dashboards.render.pictures import render_all
from dashboards.render.theme import THEMES

__all__ = ["THEMES", "render_all"]
