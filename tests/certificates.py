"""A certificate of ``localhost`` that signs itself, for servers of the tests."""

import subprocess
from pathlib import Path


def write_certificate(folder: Path) -> Path:
    """Write ``cert.pem`` and ``key.pem`` into a folder, valid for two days; returns the folder."""
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    files = ["-keyout", "key.pem", "-out", "cert.pem"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*request, *files, *names], cwd=folder, check=True, capture_output=True)
    return folder
