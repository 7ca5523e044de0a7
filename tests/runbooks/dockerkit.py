"""A machine with a fake docker, on which the scripts run."""

import os
import pty
import select
import shutil
import subprocess
import termios
import time
from pathlib import Path

from stack.paths import ROOT
from stack.wait import wait_for

# A fake docker that records its calls and answers like the real one.
DOCKER = r"""#!/bin/sh
echo "$*" >> "$DOCKER_LOG"
hang() {
  : > "$DOCKER_LOG.hangs"
  seconds=0
  until [ -e "$DOCKER_LOG.hung-up" ] || [ "$((seconds += 1))" -gt 60 ]; do sleep 1; done
  exit 1
}
case "$*" in
  *"$DOCKER_FAILS"*) echo "${DOCKER_SAYS:-it failed}" >&2; exit "${DOCKER_STATUS:-1}" ;;
esac
case "$*" in
  *"$DOCKER_FAILS_ONCE"*) [ "$(grep -c -- "$DOCKER_FAILS_ONCE" "$DOCKER_LOG")" -ne "${DOCKER_FAILS_AT:-1}" ] || exit 1 ;;
esac
case "$*" in
  *"$DOCKER_HANGS"*) [ -e "$DOCKER_LOG.hangs" ] || hang ;;
esac
case "$*" in
  *"cat posthub_db_roles /run/secrets/restore_url"*) printf 'postgresql://posthub:the-secret@db/posthub' ;;
  *rollback*--dry-run*--json*)
    printf '{\n "kept": "posthub_undone_x",\n "found": %s,\n "returned_at": %s\n}\n' "${SWAPPED:-false}" "${RETURNED_AT:-null}" ;;
  *--dry-run*--json*)
    printf '{\n%s "into": "posthub_restored_planned",\n "production": "posthub",\n "promoted_at": %s,\n "server_bytes": 2000000000,\n "found": %s\n}\n' "${PLANNED:-}" "${PROMOTED_AT:-null}" "${SWAPPED:-false}" ;;
  *--dry-run*) ;;
  *"df -Pk"*) printf 'Filesystem blocks used free\n/dev/x 1 1 %s 1%% /\n' "${FREE_KIB:-9000000}" ;;
  *"FROM pg_database"*) echo "${DATABASES:-1}" ;;
  *"FROM pg_class"*) echo "${TABLES:-0}" ;;
  *"posthub_backup restore"*"--to"*)
    work=$(echo "$*" | sed 's/.*-v \([^:]*\):.*/\1/')
    : > "$work/dump.rdb"
    echo "outer folder $(stat -c %a "${work%/*}")" >> "$DOCKER_LOG" ;;
  *"posthub_backup restore"*--json*)
    printf '{\n "ok": true,\n "into": "posthub_restored_x",\n "taken": "2026-11-23 05:00:00.5+00:00",\n "rows": 12,\n "x": 1\n}\n' ;;
  *"migrate --check"*) exit "${MIGRATE_CHECK:-0}" ;;
  *answers.py*)
    for try in $(seq 500); do [ "$(grep -c 'silence add' "$DOCKER_LOG")" -lt "${SILENCES:-0}" ] || break; sleep 0.02; done ;;
  *"silence list"*) echo "id-1  active  until x  alertname!=Watchdog  $SCRIPT: $SCRIPT is at work" ;;
esac
exit 0
"""


class Host:
    """A machine with a fake docker."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "docker.log"
        self._checkout = folder / "checkout"
        shutil.copytree(ROOT / "runbooks", self._checkout / "runbooks")
        self.folder = self._checkout
        self.settings = self._checkout / ".env.production"
        self.settings.write_text("BACKUP_STORE_URL=s3://b\nBACKUP_AGE_IDENTITY=AGE-SECRET-KEY-1\n")
        (folder / "bin").mkdir()
        self._temporary = folder / "temporary"
        self._temporary.mkdir()
        docker = folder / "bin" / "docker"
        docker.write_text(DOCKER)
        docker.chmod(0o755)
        self._path = f"{docker.parent}:{os.environ['PATH']}"
        self.status, self.out, self.err = 0, "", ""

    def environment(self, script: str, **more: str) -> dict[str, str]:
        return {
            "PATH": self._path,
            "DOCKER_LOG": str(self._log),
            "DOCKER_FAILS": "no such thing",
            "DOCKER_FAILS_ONCE": "no such thing",
            "DOCKER_HANGS": "no such thing",
            "LIFT_SECONDS": "0",
            "SCRIPT": script,
            "TMPDIR": str(self._temporary),
            **more,
        }

    def in_a_shell(self, line: str, until: str, script: str = "restore.sh", **more: str) -> str:
        """Type a line into an interactive shell on a terminal, and read until a text is shown; returns what was shown.

        The folder of the shell is that of the checkout.
        """
        self._log.write_text("")
        terminal, theirs = pty.openpty()
        with subprocess.Popen(
            ["setsid", "--ctty", "bash", "--norc", "--noediting", "-i"],
            env={**self.environment(script, **more), "PS1": "", "TERM": "dumb"},
            cwd=self._checkout,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as shell:
            os.close(theirs)
            os.write(terminal, f"{line}\n".encode())
            shown = ""
            end = time.monotonic() + 30
            while until not in shown.partition("\n")[2] and time.monotonic() < end:
                if select.select([terminal], [], [], 0.2)[0]:
                    shown += os.read(terminal, 4096).decode()
            # A shell that ends lets go on what was stopped, which is too late.
            os.write(terminal, b"exit\nexit\n")
            _seen(terminal)
            shell.wait()
        os.close(terminal)
        return shown

    def interrupted(self, script: str, *arguments: str, hangs: str, key: str = "\x03", **more: str) -> str:
        """Run a script on a terminal until docker hangs, and press Ctrl-C five times; returns everything that was shown.

        Args:
            key: another key, such as that of Ctrl-\\.
        """
        self._log.write_text("")
        hanging = Path(f"{self._log}.hangs")
        hanging.unlink(missing_ok=True)
        terminal, theirs = pty.openpty()
        # Otherwise, Ctrl-C discards what the script has shown and this test has not yet read.
        modes = termios.tcgetattr(theirs)
        modes[3] |= termios.NOFLSH
        termios.tcsetattr(theirs, termios.TCSANOW, modes)
        with subprocess.Popen(
            # A key has no effect on a script that starts with its signal ignored, as in the background of a shell.
            [
                "env",
                "--default-signal",
                "setsid",
                "--ctty",
                str(self._checkout / "runbooks" / script),
                *arguments,
            ],
            env=self.environment(script, DOCKER_HANGS=hangs, **more),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            wait_for(
                hanging.exists, timeout=30, what=f"a docker that hangs at {hangs}", hint="see the script"
            )
            for _ in range(5):
                os.write(terminal, key.encode())
                time.sleep(0.05)  # as a person does
            seen = _seen(terminal)
            self.status = process.wait()
        os.close(terminal)
        return seen

    def hung_up(self, script: str, *arguments: str, hangs: str) -> None:
        """Run a script on a terminal until docker hangs, close the terminal, and wait for the end of the script."""
        self._log.write_text("")
        hanging = Path(f"{self._log}.hangs")
        terminal, theirs = pty.openpty()
        with subprocess.Popen(
            [
                "env",
                "--default-signal",
                "setsid",
                "--ctty",
                str(self._checkout / "runbooks" / script),
                *arguments,
            ],
            env=self.environment(script, DOCKER_HANGS=hangs),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            wait_for(
                hanging.exists, timeout=30, what=f"a docker that hangs at {hangs}", hint="see the script"
            )
            os.close(terminal)
            # The script hears of it; its child does only once the script has ended.
            Path(f"{self._log}.hung-up").touch()
            self.status = process.wait()

    def typed(self, script: str, *arguments: str, answers: list[str]) -> str:
        """Run a script on a terminal and type answers; returns everything that was shown."""
        self._log.write_text("")
        terminal, theirs = pty.openpty()
        with subprocess.Popen(
            ["setsid", "--ctty", str(self._checkout / "runbooks" / script), *arguments],
            env=self.environment(script),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            os.write(terminal, "".join(f"{each}\n" for each in answers).encode())
            seen = _seen(terminal)
            self.status = process.wait()
        os.close(terminal)
        return seen

    def clear(self) -> None:
        """Forget the calls so far."""
        self._log.write_text("")

    def calls(self) -> list[str]:
        return self._log.read_text().replace("compose -f docker-compose.prod.yml ", "").splitlines()

    def run(self, script: str, *arguments: str, fails: str = "no such thing", **more: str) -> list[str]:
        """Run a script; returns how docker was called."""
        self._log.write_text("")
        done = subprocess.run(
            [str(self._checkout / "runbooks" / script), *arguments],
            env=self.environment(script, DOCKER_FAILS=fails, **more),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr
        calls = self.calls()
        assert "the-secret" not in self._log.read_text() + self.out + self.err
        return calls


def _seen(terminal: int) -> str:
    """All that a terminal shows until its program has ended."""
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            return shown.decode()
        if not piece:
            return shown.decode()
        shown += piece


def order(calls: list[str], *parts: str) -> None:
    """The parts occur in the calls, in this order."""
    places: list[int] = []
    for part in parts:
        found = [
            number
            for number, call in enumerate(calls)
            if part in call and number > (places[-1] if places else -1)
        ]
        assert found, (part, calls)
        places.append(found[0])
