"""The backend of an AI service, an example of an application of reactor.

What lies here and in `ai/` and `embeddings/` is what clients can call, under the names that the paths of the modules
give: `functions/ai/analytics.py` is `ai/analytics`. Such a module says who may call, what comes in and what goes out.
How things are done stands in `model/`, which calls nobody here. docs/application/README.md is the tour.

- `ai/analytics`, `ai/limits`, `monitoring`: requests to AI providers, who is let in, and what they come to.
- `embeddings/keys`, `embeddings/rate_limiting`, `embeddings/stats`: the same for a service that computes embeddings.
- `api_keys`, `alerts`, `audit`: for administrators.
- `anomalies`, `expiry`, `retention`: what runs by itself, begun by `crons`; `migrations`: what runs once.
- `access`: the decorators that all of these are made with. Read it first.
- `app`, `auth_config`, `crons`, `http`: what reactor itself looks for under these names; `issuer` signs people in.
"""
