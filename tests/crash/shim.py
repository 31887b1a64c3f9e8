"""Building and using `shim.c`: run a process under it, kill it, and see what a power loss would have left.

library = build(directory)
process = subprocess.Popen(..., env=environment(library, data_dir, trace_file))
process.kill(); process.wait()
restore_synced(data_dir)        # every file is now what had been synced
assert_replies_follow_syncs(read_trace(trace_file))
"""

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
SHADOW_SUFFIX = ".synced"
OWN_SUFFIXES = (SHADOW_SUFFIX, ".dropped")


def build(directory: Path) -> Path:
    """Compile the shim into `directory` and return the library to preload."""
    library = directory / "shim.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", library, SOURCE, "-ldl"], check=True
    )
    return library


def environment(
    library: Path,
    data_dir: Path,
    trace_file: Path | None = None,
    *,
    fail_sync: int | None = None,
    full: Path | None = None,
) -> dict[str, str]:
    """Return the environment for a process whose files below `data_dir`, which must exist, are followed.

    `fail_sync`: which sync of a write-ahead log, counted from 1, fails and is never made good. `full`: the disk has no
    room for as long as this file exists.
    """
    env = dict(os.environ, LD_PRELOAD=str(library), REACTOR_SHIM_DIR=str(data_dir.resolve()))
    if trace_file is not None:
        env["REACTOR_SHIM_TRACE"] = str(trace_file.resolve())
    if fail_sync is not None:
        env["REACTOR_SHIM_FAIL_SYNC"] = str(fail_sync)
    if full is not None:
        env["REACTOR_SHIM_FULL"] = str(full)
    return env


def restore_synced(data_dir: Path) -> None:
    """Replace every followed file by its synced image, after the process has died; drop those that have none."""
    for path in sorted(data_dir.rglob("*")):
        if not path.is_file() or path.name.endswith((*OWN_SUFFIXES, ".lock")):
            continue
        shadow = path.with_name(path.name + SHADOW_SUFFIX)
        if shadow.exists() and not path.name.endswith("-shm"):
            shutil.copyfile(shadow, path)
        else:
            path.unlink()
    for path in sorted(data_dir.rglob("*")):
        if path.name.endswith((*OWN_SUFFIXES, ".lock")):  # the text in a lock file is never synced
            path.unlink()
