"""Exits with 0 if a URL answers with success: ``python answers.py http://127.0.0.1:9808/healthz``.

Many containers run it every few seconds, so it loads no HTTP client: that would be most of the cost of a check.
"""

import signal
import socket
import sys
import time

SECONDS = 5
# For a program that is still starting: the next check would be some seconds later.
START_SECONDS = 4
# Enough for a status line.
LONGEST = 1024


def main(url: str) -> int:
    place, _, path = url.removeprefix("http://").partition("/")
    host, _, port = place.partition(":")
    request = f"GET /{path} HTTP/1.0\r\nHost: {place}\r\n\r\n"
    try:
        with _connect(host, int(port or 80)) as connection:
            connection.sendall(request.encode())
            with connection.makefile("rb") as answer:
                status = answer.readline(LONGEST).decode("latin-1").strip()
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    # HTTP/1.1 200 OK
    protocol, _, rest = status.partition(" ")
    if protocol.startswith("HTTP/") and rest[:1] in ("2", "3"):
        return 0
    print(status or "no answer", file=sys.stderr)
    return 1


def _connect(host: str, port: int) -> socket.socket:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            return socket.create_connection((host, port), timeout=SECONDS)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    # The timeout above is for each read. A server that sends byte by byte must not block the check forever.
    signal.alarm(SECONDS + 1)
    sys.exit(main(sys.argv[1]))
