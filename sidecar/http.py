"""HTTP sessions: the only module that creates one.

Two kinds of servers are called, and the environment's proxy is right for only one of them:

* our own servers (Prometheus, Alertmanager, the app) on this machine or in its network: :func:`session`;
* services on the internet (a dead man's switch, Slack, a hosted Grafana): :func:`outside_session`.
"""

import os
from typing import Any

import requests
from requests.auth import HTTPBasicAuth
from requests.utils import get_auth_from_url

from sidecar.address import is_near

# The variables that requests reads for a private certificate authority.
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def session() -> requests.Session:
    """A session for our own servers. It ignores the proxies and the ``.netrc`` of the environment."""
    direct = requests.Session()
    direct.trust_env = False
    direct.verify = next((os.environ[name] for name in CA_VARIABLES if os.environ.get(name)), True)
    return direct


def outside_session() -> requests.Session:
    """A session for services on the internet. It uses the proxies of the environment, except for near hosts.

    It ignores ``.netrc``, whose entry for a host would replace the token that we send to it.
    """
    proxied = _OutsideSession()
    proxied.auth = _credentials_of_the_url
    return proxied


def answers(url: str) -> bool:
    """Whether one of our own servers answers with success within 2 seconds."""
    try:
        with session() as client:
            return client.get(url, timeout=2).ok
    except requests.RequestException:
        return False


class _OutsideSession(requests.Session):
    def merge_environment_settings(self, url: Any, *arguments: Any) -> Any:
        settings = super().merge_environment_settings(url, *arguments)
        return {**settings, "proxies": {}} if is_near(str(url)) else settings


def _credentials_of_the_url(request: requests.PreparedRequest) -> requests.PreparedRequest:
    user, password = get_auth_from_url(request.url or "")
    return HTTPBasicAuth(user, password)(request) if user else request
