"""Components to mount: rate limiter, aggregate, workpool and friends. Written with the public API only."""
