"""Where a client's connection is, as applications show it to their users. Used by both clients."""

import enum

import msgspec


class ConnectionState(enum.Enum):
    """Where a client's connection is."""

    NEW = "new"  # nothing was asked yet
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"  # for the next attempt
    CLOSED = "closed"  # by `close`, or for good by the server


class ConnectionReport(msgspec.Struct, frozen=True):
    """The state of a connection, and what depends on it."""

    state: ConnectionState
    connection_count: int  # opened so far
    retries: int  # failed attempts since everything was last in order
    unfinished_mutations: int  # asked for, and not yet finished
    unfinished_actions: int
    max_observed_timestamp: int  # the newest commit seen, in nanoseconds; 0 before the first

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self.state is ConnectionState.CONNECTED

    @property
    def has_ever_connected(self) -> bool:
        """Whether there ever was one."""
        return self.connection_count > 0
