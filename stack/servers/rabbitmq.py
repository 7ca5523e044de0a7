"""RabbitMQ, with its management API."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from sidecar import OpsError
from sidecar.http import session
from stack import ports
from stack.paths import PROGRAMS
from stack.ports import HOST
from stack.programs import find
from stack.servers.base import Server

USER = "guest"
# rabbitmqctl starts its own Erlang VM, which takes half a minute on a busy machine.
CONTROL_SECONDS = 180
# Erlang's own start script contains a fixed path; this one uses the folder that the package was unpacked to.
ERL = """#!/bin/sh
ROOTDIR={erlang} BINDIR=$(echo {erlang}/erts-*/bin) EMU=beam PROGNAME=erl
export ROOTDIR BINDIR EMU PROGNAME
exec "$BINDIR/erlexec" "$@"
"""
# Erlang's port mapper ends with the process group of the server.
START = """#!/bin/sh
{erlang}/erts-*/bin/epmd -port "$ERL_EPMD_PORT" -address {host} &
exec {home}/sbin/rabbitmq-server
"""
CONFIG = """listeners.tcp.1 = {host}:{port}
management.tcp.ip = {host}
management.tcp.port = {api_port}
distribution.listener.interface = {host}
disk_free_limit.absolute = 10MB
log.console = true
log.console.level = info
log.file = false
{extra}
"""


class RabbitMq(Server):
    """A broker on loopback with one user, ``guest``.

    Args:
        settings: additional lines of rabbitmq.conf.
    """

    name = "rabbitmq"
    # A clean shutdown takes seconds, and its data is not needed again.
    stop_signal: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(
        self, folder: Path, *, port: int | None = None, log: Path | None = None, settings: Sequence[str] = ()
    ) -> None:
        super().__init__(folder, port=port, log=log)
        self.api_port = ports.choose()
        self._settings = settings
        self._inner_ports = (ports.choose(), ports.choose())

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{USER}@{HOST}:{self.port}//"

    @property
    def api_url(self) -> str:
        """The management API, with its user."""
        return f"http://{USER}:{USER}@{HOST}:{self.api_port}"

    def prepare(self) -> None:
        root = _root()
        home = _home(root)
        erlang = root / "usr/lib/erlang"
        self._script("erl", ERL.format(erlang=erlang))
        self._script("start", START.format(erlang=erlang, home=home, host=HOST))
        config = CONFIG.format(
            host=HOST, port=self.port, api_port=self.api_port, extra="\n".join(self._settings)
        )
        (self.folder / "rabbitmq.conf").write_text(config)
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management].")

    def command(self) -> Sequence[str]:
        return [str(self.folder / "bin" / "start")]

    def environment(self) -> Mapping[str, str]:
        folder, (epmd, distribution) = self.folder, self._inner_ports
        erlang = _root() / "usr/lib/erlang/bin"
        return {
            **os.environ,
            "PATH": os.pathsep.join((str(folder / "bin"), os.environ["PATH"], str(erlang))),
            # rabbitmqctl 4 is a script for escript, which otherwise starts the erl next to it.
            "ESCRIPT_EMULATOR": str(folder / "bin" / "erl"),
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            # One scheduler, because several test servers share the machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    def is_ready(self) -> bool:
        try:
            with session() as client:
                url = f"http://{HOST}:{self.api_port}/api/health/checks/local-alarms"
                return client.get(url, auth=(USER, USER), timeout=2).ok
        except OSError:
            return False

    def control(self, *words: str) -> None:
        """Run rabbitmqctl.

        Raises:
            OpsError: it failed.
        """
        program = _home(_root()) / "sbin" / "rabbitmqctl"
        done = subprocess.run(
            [str(program), *words],
            env=dict(self.environment()),
            capture_output=True,
            text=True,
            check=False,
            timeout=CONTROL_SECONDS,
        )
        if done.returncode != 0:
            raise OpsError(f"rabbitmqctl {' '.join(words)}: {done.stderr.strip()[-600:]}", hint="see its log")

    def freeze(self) -> None:
        """Suspend the server without closing its connections, like a paused machine."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the server."""
        os.killpg(self.pid, signal.SIGCONT)

    def _script(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


def _home(root: Path) -> Path:
    """The folder of the newest RabbitMQ under the root.

    Raises:
        OpsError: there is none.
    """
    homes = sorted(root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*"))
    if not homes:
        raise OpsError("RabbitMQ is not in Debian's usual folder", hint="apt-get install rabbitmq-server")
    return homes[-1]


def _root() -> Path:
    """The folder that the packages were unpacked to; the root folder if they are installed."""
    return PROGRAMS / "debian" if PROGRAMS in find("rabbitmq-server").parents else Path("/")
