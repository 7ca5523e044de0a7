"""Flower's own sign-in, in production: only Caddy knows the password. Flower reads this file with --conf."""

from pathlib import Path

basic_auth = [Path("/run/secrets/flower_login").read_text(encoding="utf-8").strip()]
