"""HTTP actions: routes, mounts, and running what answers a request."""
