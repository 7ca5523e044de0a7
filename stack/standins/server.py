"""The web server of a stand-in, as long as a block runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def served(handler: type[BaseHTTPRequestHandler], standin: object, port: int) -> Iterator[str]:
    """Serve on 127.0.0.1 until the end of the block; yields the address.

    Args:
        handler: a class whose attribute ``standin`` is the stand-in that it answers for.
        port: 0 for any free one.
    """
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (handler,), {"standin": standin}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
