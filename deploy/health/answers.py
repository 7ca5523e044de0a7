"""Exits with 0 if a URL answers with success: ``python answers.py http://127.0.0.1:9808/healthz``."""

import signal
import sys
import urllib.error
import urllib.request

SECONDS = 5


def main(url: str) -> int:
    # Never through a proxy from the container's environment.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=SECONDS) as answer:
            return 0 if answer.status < 400 else 1
    except (urllib.error.URLError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    # The timeout above is for each read. A server that sends byte by byte must not block the check forever.
    signal.alarm(SECONDS + 1)
    sys.exit(main(sys.argv[1]))
