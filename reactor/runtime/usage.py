"""Warnings for functions that come near a limit of one execution.

Owns how near is near, and what the developer is told. Promises that a function far from every limit pays a few
comparisons. Used by runs, at the end of each.
"""

import logging
from typing import Final

from reactor.engine.transaction import READ_ADVICE, Transaction
from reactor.limits import (
    LIMIT_WARNING_RATIO,
    MAX_BYTES_READ,
    MAX_BYTES_WRITTEN,
    MAX_DOCUMENTS_READ,
    MAX_DOCUMENTS_WRITTEN,
    MAX_READS,
)
from reactor.runtime.logs import LogBuffer

log = logging.getLogger(__name__)

NEAR_DOCUMENTS_READ: Final = int(MAX_DOCUMENTS_READ * LIMIT_WARNING_RATIO)
NEAR_BYTES_READ: Final = int(MAX_BYTES_READ * LIMIT_WARNING_RATIO)
NEAR_READS: Final = int(MAX_READS * LIMIT_WARNING_RATIO)
NEAR_DOCUMENTS_WRITTEN: Final = int(MAX_DOCUMENTS_WRITTEN * LIMIT_WARNING_RATIO)
NEAR_BYTES_WRITTEN: Final = int(MAX_BYTES_WRITTEN * LIMIT_WARNING_RATIO)
WRITE_ADVICE: Final = "Consider writing less in one mutation, for example in batches."


def is_near_limits(transaction: Transaction) -> bool:
    """Whether more than 80 % of a limit was used."""
    return (
        transaction.documents_read > NEAR_DOCUMENTS_READ
        or transaction.bytes_read > NEAR_BYTES_READ
        or transaction.reads.recorded > NEAR_READS
        or transaction.documents_written > NEAR_DOCUMENTS_WRITTEN
        or transaction.bytes_written > NEAR_BYTES_WRITTEN
    )


def warn_of_limits(transaction: Transaction, lines: LogBuffer, path: str, *, met_rules: bool) -> None:
    """Log a line for each limit of which more than 80 % was used.

    Clients see the log lines of a function, and what it has read counts documents that row rules hide: when it met
    rules, the server's log gets the warning.
    """
    for what, used, limit, advice in (
        ("documents read", transaction.documents_read, MAX_DOCUMENTS_READ, READ_ADVICE),
        ("bytes read", transaction.bytes_read, MAX_BYTES_READ, READ_ADVICE),
        ("reads", transaction.reads.interval_count, MAX_READS, READ_ADVICE),
        ("documents written", transaction.documents_written, MAX_DOCUMENTS_WRITTEN, WRITE_ADVICE),
        ("bytes written", transaction.bytes_written, MAX_BYTES_WRITTEN, WRITE_ADVICE),
    ):
        if used > int(limit * LIMIT_WARNING_RATIO):
            text = f"Many {what} in a single function execution (actual: {used}, limit: {limit}). {advice}"
            if not met_rules:
                lines.warn(text)
            elif lines.is_heard:
                log.warning("%s: %s", path, text)
