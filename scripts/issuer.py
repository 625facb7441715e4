"""An issuer of tokens for tests: serves its key set at /jwks, and writes tokens of an hour into a folder.

    issuer.py PORT FOLDER

FOLDER/admin is of a tenant's administrator, FOLDER/operator of a super administrator in the same tenant.
"""
import base64
import http.server
import json
import pathlib
import sys
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

KID = "test"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(key, issuer, identity, role):
    now = int(time.time())
    head = {"alg": "ES256", "typ": "JWT", "kid": KID}
    body = {
        "iss": issuer, "aud": "scaivault", "sub": identity, "tenant_id": "tnt_test", "partner_id": "ptn_test",
        "scope": "admin", "groups": [], "roles": [role], "iat": now, "nbf": now, "exp": now + 3600,
    }
    signed = ".".join(b64(json.dumps(part).encode()) for part in (head, body))
    r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def main():
    port, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_numbers()
    x, y = (b64(number.to_bytes(32, "big")) for number in (point.x, point.y))
    jwk = {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KID, "x": x, "y": y}
    keys = json.dumps({"keys": [jwk]}).encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/jwks" else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(keys)))
            self.end_headers()
            self.wfile.write(keys)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    issuer = f"http://127.0.0.1:{port}"
    for name, identity, role in (("admin", "user:admin", "tenant_admin"), ("operator", "user:operator", "super_admin")):
        (folder / name).write_text(token(key, issuer, identity, role))
    server.serve_forever()


main()
