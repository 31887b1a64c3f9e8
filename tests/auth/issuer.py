"""A real issuer of tokens on loopback: OpenID Connect discovery, keys that rotate, and every way to be ill."""

import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa

DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/keys"


@cache
def private_key(algorithm: str, number: int = 0) -> Any:
    """The same key each time in one process: making RSA keys is slow."""
    if algorithm == "RS256":
        return generate_rsa(65537, 2048)
    return generate_private_key(SECP256R1()) if algorithm == "ES256" else Ed25519PrivateKey.generate()


def public_jwk(algorithm: str, number: int = 0, **fields: Any) -> dict[str, Any]:
    """The public half, as in a JWKS document."""
    text = jwt.get_algorithm_by_name(algorithm).to_jwk(private_key(algorithm, number).public_key())
    return json.loads(text) | {"kid": f"{algorithm}-{number}", "use": "sig", "alg": algorithm} | fields


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def sign(claims: Mapping[str, Any], algorithm: str = "RS256", number: int = 0, **header: Any) -> str:
    """A token signed with one of the keys."""
    header = {"kid": f"{algorithm}-{number}"} | header
    named = {name: value for name, value in header.items() if value is not None}
    return jwt.encode(dict(claims), private_key(algorithm, number), algorithm, headers=named)


class Issuer:
    """One issuer; `url` is its `iss`. What it was asked for is counted by path."""

    def __init__(self, algorithm: str = "RS256", port: int = 0) -> None:
        self.algorithm = algorithm
        self.number = 0  # of the key it signs with
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}  # instead of the right ones
        self.hangs = False
        self.let_go = threading.Event()  # ends what hangs
        self.arrived = threading.Event()  # a request has come
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked[self.path] += 1
                issuer.arrived.set()
                if issuer.hangs:
                    issuer.let_go.wait()
                status, headers, body = issuer.answers.get(self.path) or issuer.right_answer(self.path)
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass  # it was given up

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def right_answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        json_type = {"Content-Type": "application/json; charset=utf-8"}
        if path == DISCOVERY:
            return 200, json_type, json.dumps({"issuer": self.url, "jwks_uri": self.url + JWKS}).encode()
        if path == JWKS:
            return 200, {"Content-Type": "application/jwk-set+json"}, jwks(public_jwk(self.algorithm, self.number))
        if path.startswith("/token?"):  # for programs of the test; `seconds` from now on, without `iat` if negative
            asked = dict(parse_qsl(path.partition("?")[2]))
            now, seconds = time.time(), float(asked.pop("seconds", "3600"))
            times = {"exp": now + abs(seconds)} if seconds < 0 else {"exp": now + seconds, "iat": now}
            return 200, {"Content-Type": "text/plain"}, self.token(jti=secrets.token_hex(4), **times, **asked).encode()
        if path == "/rotate":
            self.rotate()
            return 200, {"Content-Type": "text/plain"}, b"rotated"
        return 404, {"Content-Type": "text/plain"}, b"not here"

    def rotate(self) -> None:
        """Sign with another key from now on, and forget the old one."""
        self.number += 1

    def token(self, **claims: Any) -> str:
        return sign({"iss": self.url, **claims}, self.algorithm, self.number)

    def close(self) -> None:
        self.let_go.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextmanager
def issuing(algorithm: str = "RS256", port: int = 0) -> Iterator[Issuer]:
    issuer = Issuer(algorithm, port)
    try:
        yield issuer
    finally:
        issuer.close()
