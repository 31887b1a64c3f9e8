"""The HTTP routes of the application."""

from functions.issuer import discovery, keys, sign_in
from reactor import http_router

http = http_router()
http.route(path="/.well-known/openid-configuration", method="GET", handler=discovery)
http.route(path="/.well-known/jwks.json", method="GET", handler=keys)
http.route(path="/sign-in", method="POST", handler=sign_in, cors=True)
