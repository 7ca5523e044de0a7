"""Caddy in front of the frontend's files and the API, on one origin as in production."""

import os
import re
from pathlib import Path

from stack.ports import HOST
from stack.programs import find
from stack.servers import Service
from stack.web.node import FRONTEND

NGINX = FRONTEND / "nginx.conf"
HEADER = re.compile(r'^\s*add_header (\S+) "([^"$]+)" always;$', re.MULTILINE)
CADDYFILE = """\
{{
	admin off
	auto_https off
	persist_config off
	storage file_system `{state}`
}}

http://:{port} {{
	bind {host}
	handle /api/* {{
		reverse_proxy {host}:{api}
	}}
	handle {{
		root * `{files}`
		header {{
{headers}
		}}
		@hashed path_regexp -[A-Z0-9]+\\.(js|css)$
		header @hashed Cache-Control "public, max-age=31536000, immutable"
		@changing not path_regexp -[A-Z0-9]+\\.(js|css)$
		header @changing Cache-Control no-cache
		# A missing file is a 404; every other address is a page of the app.
		@page not path_regexp \\.\\w+$
		rewrite @page /index.html
		file_server {{
			precompressed gzip
		}}
	}}
}}
"""


def headers() -> dict[str, str]:
    """The security headers of production, read from their configuration file."""
    return dict(HEADER.findall(NGINX.read_text(encoding="utf-8")))


def site(files: Path, *, api: int, port: int, folder: Path, log: Path) -> Service:
    """The web server in front of a frontend build and the API at port ``api``."""
    config = folder / "Caddyfile"

    def write() -> None:
        lines = "\n".join(f'\t\t\t{name} "{value}"' for name, value in headers().items())
        config.write_text(
            CADDYFILE.format(
                state=folder / "state", host=HOST, port=port, api=api, files=files, headers=lines
            ),
            encoding="utf-8",
        )

    return Service(
        "web",
        [str(find("caddy")), "run", "--adapter", "caddyfile", "--config", str(config)],
        folder=folder,
        env={"PATH": os.defpath, "HOME": str(folder)},
        port=port,
        log=log,
        ready="/",
        before=write,
    )
