"""PostgreSQL's programs with an ``initdb`` that copies what the real one has created before.

A throwaway server costs a second of a processor, most of it for ``initdb``. The copy has the same content, including the
system's identifier, which nothing reads in such a server.
"""

import fcntl
import subprocess
from pathlib import Path

from backup.load.throwaway import CREATION
from backup.programs import clean_environment
from sidecar.rootless import rootless
from stack.servers.postgres import USER

SCRIPT = """\
#!/bin/sh
# The folder for the usual arguments is copied; other calls go to the real program.
if [ "$1 $3 $4" = "-D -U {user}" ]; then
  data=$2
  shift 4
  [ "$*" = "{options}" ] && exec cp -a {template} "$data"
  set -- -D "$data" -U {user} "$@"
fi
exec {real} "$@"
"""


def quick(programs: Path, folder: Path) -> Path:
    """A folder of links to the programs, with the quick ``initdb``.

    Args:
        folder: where it is created, once for all processes of a test run.
    """
    folder.mkdir(exist_ok=True)
    found, template = folder / "bin", folder / "template"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (found / "initdb").exists():
            _create(programs / "initdb", template)
            found.mkdir(exist_ok=True)
            for program in programs.iterdir():
                if program.name != "initdb":
                    (found / program.name).symlink_to(program)
            _write_script(found / "initdb", programs / "initdb", template)
    return found


def _create(initdb: Path, template: Path) -> None:
    command = rootless([str(initdb), "-D", str(template), "-U", USER, *CREATION])
    subprocess.run(command, check=True, capture_output=True, env=clean_environment())


def _write_script(script: Path, real: Path, template: Path) -> None:
    script.write_text(
        SCRIPT.format(user=USER, options=" ".join(CREATION), template=template, real=real), encoding="utf-8"
    )
    script.chmod(0o755)
