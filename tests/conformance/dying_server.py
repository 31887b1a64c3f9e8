"""The command `reactor`, which dies at a named place of storage the next time it comes there with a file present.

Arguments: the place (`failpoints.NAMES`) and the file, then those of the command. The file is removed, so that the next
process lives.
"""

import os
import signal
import sys
from pathlib import Path

from reactor.cli.main import main
from reactor.storage import failpoints

place, file = sys.argv[1], Path(sys.argv[2])
del sys.argv[1:3]


def reached(name: str) -> None:
    if name == place and file.exists():
        file.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


failpoints.armed = reached
main()
