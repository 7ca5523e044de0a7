"""The Debian packages that provide each program."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kit:
    """Programs that are packaged together.

    Args:
        packages: Debian packages to unpack, including libraries that a bare system lacks.
        programs: program name → its path in the packages, without the leading slash.
        data: a folder of the packages that is compiled into the programs by its absolute path.
        optional: packages that are unpacked only if the release of Debian has them.
    """

    packages: tuple[str, ...]
    programs: dict[str, str]
    data: str | None = None
    optional: tuple[str, ...] = ()


def _same(*names: str) -> dict[str, str]:
    return {name: f"usr/bin/{name}" for name in names}


# What the demo runs: servers, and the exporter's program of each scrape job.
SERVERS = ("redis-server", "prometheus", "alertmanager")
EXPORTERS = {"redis": "redis_exporter", "postgres": "postgres_exporter", "node": "node_exporter"}
WEB_PAGES = (
    "fonts-glyphicons-halflings",
    "libjs-bootstrap4",
    "libjs-d3",
    "libjs-eonasdan-bootstrap-datetimepicker",
    "libjs-jquery",
    "libjs-jquery-hotkeys",
    "libjs-moment",
    "libjs-moment-timezone",
    "libjs-mustache",
    "libjs-popper.js",
    "libjs-rickshaw",
)
KITS = (
    Kit(
        ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1"),
        _same("redis-server", "redis-cli", "redis-check-rdb", "redis-benchmark"),
    ),
    Kit(
        ("prometheus",),
        _same("prometheus", "promtool"),
        data="/usr/share/prometheus/web",
        # Newer releases have promtool in a separate package. The others are what its web pages load.
        optional=("promtool", *WEB_PAGES),
    ),
    Kit(
        ("prometheus-alertmanager",),
        {"alertmanager": "usr/bin/prometheus-alertmanager", "amtool": "usr/bin/amtool"},
        data="/usr/share/prometheus/alertmanager",
    ),
    Kit(("nginx", "nginx-common"), {"nginx": "usr/sbin/nginx"}),
    Kit(("age",), _same("age", "age-keygen")),
    Kit(("zstd",), _same("zstd")),
    Kit(("prometheus-node-exporter",), {"node_exporter": "usr/bin/prometheus-node-exporter"}),
    Kit(("prometheus-redis-exporter",), {"redis_exporter": "usr/bin/prometheus-redis-exporter"}),
    Kit(("prometheus-postgres-exporter",), {"postgres_exporter": "usr/bin/prometheus-postgres-exporter"}),
    Kit(("prometheus-blackbox-exporter",), {"blackbox_exporter": "usr/bin/prometheus-blackbox-exporter"}),
    Kit(
        (
            "rabbitmq-server",
            *(
                f"erlang-{part}"
                for part in (
                    "base",
                    "asn1",
                    "crypto",
                    "eldap",
                    "ftp",
                    "inets",
                    "mnesia",
                    "os-mon",
                    "parsetools",
                    "public-key",
                    "runtime-tools",
                    "snmp",
                    "ssl",
                    "syntax-tools",
                    "tftp",
                    "tools",
                    "xmerl",
                )
            ),
        ),
        {"rabbitmq-server": "usr/sbin/rabbitmq-server", "erl": "usr/lib/erlang/bin/erl"},
    ),
)


def kit_for(program: str) -> Kit | None:
    """The kit that provides a program."""
    return next((kit for kit in KITS if program in kit.programs), None)
