"""Whose tokens are taken: those of this deployment itself (`functions/issuer`).

Name your own provider here instead; docs/howto/auth.md shows how.
"""

from functions.issuer import AUDIENCE
from reactor import auth_config, env, oidc

auth = auth_config([oidc(domain=env.ref("CONVEX_SITE_URL"), application_id=AUDIENCE)])
