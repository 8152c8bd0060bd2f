"""Who has second thoughts while the command still loads is told nothing of how it is made."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

IMPATIENT: Final = """
import os, signal, sys

class Impatient:
    def find_spec(self, name, *_):
        if name == "libs.cli.app":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # What runs in the background is deaf to it.
sys.meta_path.insert(0, Impatient())
from libs.cli.starting import main
main()
"""


def test_ctrl_c_while_the_verbs_are_loaded_ends_in_silence() -> None:
    done = subprocess.run([sys.executable, "-c", IMPATIENT], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
