"""``python -m posthub_ops COMMAND …``, for a process manager that starts an interpreter and not a script."""

import sys

from posthub_ops import commands

if __name__ == "__main__":
    known = {each.removeprefix("ops-"): each for each in commands.COMMANDS}
    name = known.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if name is None:
        sys.stderr.write(f"Error: a command is missing\nTry: python -m posthub_ops {'|'.join(known)}\n")
        sys.exit(2)
    del sys.argv[1]
    commands.run(name)
