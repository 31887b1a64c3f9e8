"""The sync protocol: one session per WebSocket."""
