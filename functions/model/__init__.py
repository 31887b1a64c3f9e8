"""How the application works, apart from what can be called: no module here has functions for clients.

Promises to import nothing from `functions/` but itself. Each of these lines needs nothing but what stands above it:

- plain values: `settings`, `texts`, `amounts`, `spans`, `histogram`, `addresses`, `fingerprint`
- limits: `limits` says which there are, `limiter` takes from them
- what people are told: `audit`, `alerts`
- keys: `scopes`; `keys` as documents, `key_arguments`, `key_usage`, `auth_failures`; `verification` puts them together
- logs and their totals: `request_logs` with `request_minutes`; `embedding_logs`
- requests: `bots`, and `admission`, which decides who is let in
"""
