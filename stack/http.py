"""HTTP to servers of this machine: never through a proxy that the user's shell may name."""

import requests


def session() -> requests.Session:
    """A session that ignores proxies and credentials of the environment."""
    made = requests.Session()
    made.trust_env = False
    return made


def answers(url: str) -> bool:
    """Whether an address answers with success."""
    try:
        with session() as client:
            return client.get(url, timeout=2).ok
    except requests.RequestException:
        return False
