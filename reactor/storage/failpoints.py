"""Named places where a test may let the process die, or something fail.

Owns the one hook that the places call. Nothing in reactor sets it and no setting of an operator can: only a program
made for a test does (`tests/crash/append_failing.py`), so in production each place costs a look at a global, once per
batch, fold or checkpoint and never per commit. A place is written

    if failpoints.armed is not None:
        failpoints.armed("fold: before")

and its name is in `NAMES`, or in `UPLOAD_NAMES`, `RUN_NAMES` or `DEPLOY_NAMES` for what happens once per file, run or
deploy. Used by storage, the publisher, the upload of files, the runs of scheduled functions and crons, and deploys.
"""

from collections.abc import Callable
from typing import Final

NAMES: Final = (
    "append: before",  # the batch is encoded, nothing is written
    "append: after",  # the batch is durable, nobody knows
    "append: before publishing",  # the publisher has the outcome, no caller and no subscription does
    "fold: before",
    "fold: between",  # some documents are newer than what is said to be folded
    "fold: after",
    "trim: after the floor",  # the floor has moved, the records are still there
    "trim: after",
    "checkpoint: before",
    "checkpoint: after",
    "vacuum: after a step",
    "reopen: disconnected",
)

UPLOAD_NAMES: Final = (
    "upload: bytes written",  # but not synced
    "upload: before the rename",  # all of the file is on disk, under a name that nobody knows
    "upload: after the rename",  # the blob is durable, no document names it
    "upload: after the row",  # the document is durable, the caller has not been told
)

# Places outside of storage, in runs that the system itself has begun.
RUN_NAMES: Final = (
    "claim: before the function",  # of a scheduled mutation or a cron's
    "claim: before the commit",  # the function and what has become of its document are staged
    "claim: after the commit",  # applied, perhaps not durable
    "job: before recording",  # a scheduled function has failed, and its document does not say so yet
    "action: before the mark",  # that it runs
    "action: marked",  # durably; it begins now
    "action: ended",  # and its document still says that it runs
    "action: recorded",  # applied, perhaps not durable
)

# Places in a deploy.
DEPLOY_NAMES: Final = (
    "deploy: unpacked",  # nothing but a folder that the next start removes
    "deploy: archive stored",  # durably; no document names it
    "deploy: before the switch",  # tables and indexes are there
    "deploy: after the switch",  # applied, perhaps not durable
    "deploy: durable",  # nobody has been told, older archives are still there
    "deploy: done",  # and the caller has not been told
)

armed: Callable[[str], None] | None = None
"""Called with the name of each place that is reached; None unless a test has set it."""
