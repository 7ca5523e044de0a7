"""Checks of the machine: engine, disk, clock, ports and DNS names."""

import re
import time
from collections.abc import Iterator

from sidecar.humanize import size
from stack.doctor.check import Case, Check

# docs/deployment.md gives the same number.
OLDEST_COMPOSE = (2, 24)
ENOUGH_BYTES = 20 * 10**9
# S3 rejects signatures that are 15 minutes off; logs are confusing long before that.
LARGEST_SKEW = 5.0
PORTS = (80, 443)
CLOCK = "https://acme-v02.api.letsencrypt.org/directory"


def examine(case: Case) -> Iterator[Check]:
    yield _engine(case)
    yield _compose(case)
    yield _disk(case)
    yield _clock(case)
    yield from (_port(case, port) for port in PORTS)
    yield from (_name(case, name) for name in ("SITE_DOMAIN", "API_DOMAIN") if case.settings.get(name))


def _engine(case: Case) -> Check:
    done = case.host.run("docker", "version", "--format", "{{.Server.Version}}")
    if done.code != 0:
        return Check(
            "Docker engine", False, done.last_line, "install Docker, and add this user to the docker group"
        )
    return Check("Docker engine", True, done.output.strip())


def _compose(case: Case) -> Check:
    done = case.host.run("docker", "compose", "version", "--short")
    if done.code != 0:
        return Check("Docker compose", False, done.last_line, "install the compose plug-in")
    version = done.output.strip().lstrip("v")
    oldest = ".".join(map(str, OLDEST_COMPOSE))
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        return Check("Docker compose", None, f"unknown version {version or ''}".strip(), f"{oldest} or newer")
    if (int(found[1]), int(found[2])) < OLDEST_COMPOSE:
        return Check("Docker compose", False, f"{version} is too old", f"{oldest} or newer")
    return Check("Docker compose", True, version)


def _disk(case: Case) -> Check:
    free = case.host.free_bytes(case.root)
    detail = f"{size(free)} free"
    if free < ENOUGH_BYTES:
        fix = f"{size(ENOUGH_BYTES)} are needed: docker system prune, or a larger disk"
        return Check("disk", False, detail, fix)
    return Check("disk", True, detail)


def _clock(case: Case) -> Check:
    theirs = case.host.time_of(CLOCK)
    if theirs is None:
        return Check("clock", None, "no time server could be reached", "timedatectl status")
    skew = abs(time.time() - theirs)
    if skew > LARGEST_SKEW:
        return Check("clock", False, f"{skew:.0f} s off", "timedatectl set-ntp true")
    return Check("clock", True, "correct")


def _port(case: Case, port: int) -> Check:
    if case.host.is_free(port):
        return Check(f"port {port}", True, "free")
    ours = case.host.run(
        "docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}"
    ).output.strip()
    if ours == "posthub_caddy":
        return Check(f"port {port}", True, "used by posthub_caddy")
    return Check(f"port {port}", False, f"used by {ours or 'another program'}", f"ss -ltnp 'sport = :{port}'")


def _name(case: Case, variable: str) -> Check:
    name = case.settings[variable]
    found = case.host.addresses(name)
    if not found:
        return Check(
            f"DNS {name}", False, "does not resolve", "create an A record that points to this server"
        )
    elsewhere = sorted(set(found) - set(case.host.own_addresses()))
    if elsewhere:
        # This is correct behind address translation or a proxy.
        fix = "use this server's address, unless a proxy in front of it forwards requests"
        return Check(f"DNS {name}", None, f"{', '.join(elsewhere)} is not an address of this machine", fix)
    return Check(f"DNS {name}", True, ", ".join(found))
