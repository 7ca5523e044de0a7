"""The web frontend: built once for each state of its sources, and served by Caddy next to the API."""

from stack.web.browser import find_browser
from stack.web.bundle import build, built, modules
from stack.web.node import why_not
from stack.web.site import site

__all__ = ["build", "built", "find_browser", "modules", "site", "why_not"]
