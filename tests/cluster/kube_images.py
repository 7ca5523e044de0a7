"""The versions that the checks on a real cluster deploy: two good ones, and one whose beat exits after some seconds.

``KUBE_LOAD`` is a command that brings images of the local Docker engine into the cluster, such as ``kind load docker-image``.
"""

import os
import shlex
import subprocess

REGISTRY = "posthub-trial"
FIRST, SECOND, BAD_BEAT, UNKNOWN = "first", "second", "bad-beat", "unknown"
BUILD = """
FROM posthub-trial/api:first
USER 0
RUN mv /opt/venv/bin/celery /opt/venv/bin/celery-itself \
 && printf '#!/bin/sh\\ncase " $* " in *" beat "*) sleep 4; exit 1 ;; esac\\nexec celery-itself "$@"\\n' > /opt/venv/bin/celery \
 && chmod 755 /opt/venv/bin/celery
USER 10001:10001
"""
PROGRAMS = ("api", "frontend", "celery-exporter", "backup")


def _docker(*arguments: str, given: str = "") -> None:
    done = subprocess.run(["docker", *arguments], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"


def provide() -> None:
    """Make the versions from the images with the tag ``first``, and bring all of them into the cluster."""
    made = [f"{REGISTRY}/{program}:{FIRST}" for program in PROGRAMS]
    for program in PROGRAMS:
        for tag in (SECOND, BAD_BEAT):
            image = f"{REGISTRY}/{program}:{tag}"
            if (program, tag) == ("api", BAD_BEAT):
                _docker("build", "--network", "none", "--tag", image, "-", given=BUILD)
            else:
                _docker("tag", f"{REGISTRY}/{program}:{FIRST}", image)
            made.append(image)
    load = [*shlex.split(os.environ["KUBE_LOAD"]), *made]
    done = subprocess.run(load, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
