"""Folders on disk whose entries outlive a loss of power.

A file or folder has its name for good only when the folder that it is in was synced. Used by the storages that keep
files.
"""

import os
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durable in its own; nobody else may look into it."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
