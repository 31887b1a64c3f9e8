"""The shell: sockets, HTTP, and the composition root."""
