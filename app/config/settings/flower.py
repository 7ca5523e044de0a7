"""For Flower in production. It talks only to the broker, so it gets neither a key nor a database."""

import secrets

from config.settings.base import *  # noqa: F403 - the settings that this one overrides

DEBUG = False
SECRET_KEY = secrets.token_urlsafe(50)
DATABASES = {}
