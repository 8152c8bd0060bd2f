"""`millrace`, loaded once: each line of stdin is a command, and each is run by a process of its own, forked from here.

What a command costs beside that is half a second of imports, which is most of what a test of it would cost.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from typing import Final, NoReturn

from typer.main import get_command

from libs.cli.app import app

READ: Final = os.O_RDONLY
WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def serve() -> None:
    """Answer each command with how it ended, once it has; what it printed is in the files that it names."""
    millrace = get_command(app)
    gc.freeze()  # What is loaded is looked through for garbage, and so copied, by none of them.
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            become(asked)
            end_with(millrace)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def end_with(millrace: Callable[[], object]) -> NoReturn:
    """Run the command and end as it does, without taking Python apart: that would cost more than most commands."""
    code = 0
    try:
        millrace()
    except SystemExit as ended:
        code = int(ended.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def become(asked: dict[str, object]) -> None:
    """Have the arguments, environment, directory and files of the command."""
    arguments, env, out, err = asked["arguments"], asked["env"], asked["out"], asked["err"]
    assert isinstance(arguments, list)
    assert isinstance(env, dict)
    for number, (path, how) in enumerate(((os.devnull, READ), (str(out), WRITE), (str(err), WRITE))):
        os.dup2(os.open(path, how, 0o600), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir("/")
    sys.argv = ["millrace", *arguments]


if __name__ == "__main__":
    serve()
