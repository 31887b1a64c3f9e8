"""Components to mount: rate limiter, aggregate, workpool and friends. Written with the public API only.

All have one shape: `client` is the class that applications use, `functions/` what it calls, in modules named by what
they hold, `schema` the tables; what stands beside them is arithmetic or documents, apart from either. `contexts` and
`scheduled` are what they share.
"""
