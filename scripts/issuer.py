"""An identity provider for tests of `serve`: signs tokens with a key of its own, and serves its key set.

    issuer.py FOLDER [PORT]

Writes FOLDER/url and then FOLDER/token (an administrator's, good for a day), and answers GET /jwks until it is stopped.
Tokens of others: `issuer.py FOLDER --token IDENTITY TENANT SCOPES [ROLES]`.
"""
import base64
import hashlib
import http.server
import json
import os
import sys
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def load(folder):
    path = os.path.join(folder, "issuer.pem")
    if not os.path.exists(path):
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(pem)
    with open(path, "rb") as file:
        return serialization.load_pem_private_key(file.read(), None)


def jwk(key):
    numbers = key.public_key().public_numbers()
    jwk = {"crv": "P-256", "kty": "EC", "x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}
    kid = b64(hashlib.sha256(json.dumps(jwk, separators=(",", ":"), sort_keys=True).encode()).digest())
    return {**jwk, "kid": kid, "alg": "ES256", "use": "sig"}


def token(key, issuer, identity, tenant, scopes, roles):
    now = int(time.time())
    head = {"alg": "ES256", "typ": "JWT", "kid": jwk(key)["kid"]}
    body = {
        "iss": issuer, "aud": "scaivault", "sub": identity, "tenant_id": tenant, "partner_id": "ptn_test", "scope": scopes,
        "roles": roles, "groups": [], "iat": now, "nbf": now, "exp": now + 86400,
    }
    if identity.startswith("sa:"):
        body.update(client_id=identity, token_type="client_credentials")
    signed = ".".join(b64(json.dumps(part).encode()) for part in (head, body))
    r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return signed + "." + b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def main():
    folder = sys.argv[1]
    key = load(folder)
    if sys.argv[2:3] == ["--token"]:
        identity, tenant, scopes, *roles = sys.argv[3:]
        with open(os.path.join(folder, "url"), encoding="utf-8") as file:
            print(token(key, file.read().strip(), identity, tenant, scopes, roles))
        return

    keys = json.dumps({"keys": [jwk(key)]}).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/jwks"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(keys) if found else 0))
            self.end_headers()
            if found:
                self.wfile.write(keys)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", int((sys.argv[2:3] or [0])[0])), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    admin = token(key, url, "user:admin@test.example", "tnt_test", "admin", ["tenant_admin"])
    for name, text in (("url", url), ("token", admin)):
        with open(os.path.join(folder, f"{name}.new"), "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(os.path.join(folder, f"{name}.new"), os.path.join(folder, name))
    server.serve_forever()


if __name__ == "__main__":
    main()
