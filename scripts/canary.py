"""Plants strings that must not spread, and looks for them. Driven by `canary-test`.

    canary.py plant  NEEDLES URL ADMIN_TOKEN OTHER_TOKEN     calls the server, writes the needles as JSON
    canary.py search NEEDLES KIND=FILE...                    KIND: database, dump, peerfiles, peerlog, stdout, stderr

Which needle may be where is the table `MAY_BE_IN`; everything not in it is a leak. What may be in the database
must also be found there: otherwise the search itself would be broken.
"""

import base64
import http.client
import json
import os
import re
import secrets
import string
import subprocess
import sys
from urllib.parse import urlsplit

# needle → kinds of places where it may be. Data rows hold metadata and certificate subjects in the clear, by
# design (they are searched and shown); the admin token is printed by `dev` on its standard output.
MAY_BE_IN = {
    "secret value": set(),
    "secret field name": set(),
    "overwritten value": set(),
    "soft-deleted value": set(),
    "destroyed value": set(),
    "bearer token": set(),
    "forged token payload": set(),
    "foreign header": set(),
    "query string": set(),
    "malformed body": set(),
    "leaf private key": set(),
    "root key": set(),
    "admin token": {"stdout"},
    "metadata": {"database", "dump", "peerfiles"},
    "CA subject": {"database", "dump", "peerfiles"},
}
# Of what may be in a dump: never in these tables.
NEVER_IN_TABLES = re.compile(r"audit|log", re.I)


def canary():
    return "cnry" + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(28))


class Server:
    def __init__(self, url, token):
        parts = urlsplit(url)
        self.host, self.port, self.token, self.refusals = parts.hostname, parts.port, token, []

    def raw(self, method, path, body=None, headers=None, token=None):
        """One call; keeps every answer that is not a success."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        headers = dict(headers or {})
        headers.setdefault("Authorization", f"Bearer {self.token if token is None else token}")
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        if response.status >= 400:
            self.refusals.append((f"{method} {path.split('?')[0]}", response.status, dict(response.getheaders()), answer))
        return response.status, answer

    def call(self, expected, method, path, body=None, **more):
        status, answer = self.raw(method, path, None if body is None else json.dumps(body), **more)
        if status not in (expected if isinstance(expected, tuple) else (expected,)):
            sys.exit(f"FAILED: {method} {path}: expected {expected}, got {status}: {answer.decode(errors='replace')}")
        return json.loads(answer) if answer else None


def plant(file, url, admin, other):
    needles = {name: canary() for name in MAY_BE_IN if name not in ("leaf private key", "root key", "admin token")}
    server = Server(url, admin)

    secret = {"data": {"password": needles["secret value"], needles["secret field name"]: {"deep": [needles["secret value"]]}},
              "metadata": {"description": needles["metadata"], "tags": [needles["metadata"]], "owner": needles["metadata"]}}
    server.call(201, "PUT", "/v1/secrets/canary/kept", secret)
    server.call(201, "PUT", "/v1/secrets/canary/written", {"data": {"password": needles["overwritten value"]}})
    server.call(200, "PUT", "/v1/secrets/canary/written", {"data": {"password": "another"}})
    server.call(201, "PUT", "/v1/secrets/canary/deleted", {"data": {"password": needles["soft-deleted value"]}})
    server.call(200, "DELETE", "/v1/secrets/canary/deleted")
    server.call(201, "PUT", "/v1/secrets/canary/destroyed", {"data": {"password": needles["destroyed value"]}})
    server.call(200, "DELETE", "/v1/secrets/canary/destroyed?permanent=true")
    read = server.call(200, "GET", "/v1/secrets/canary/kept")
    if read["data"]["password"] != needles["secret value"]:
        sys.exit("FAILED: the secret does not read back")
    server.call(200, "GET", "/v1/secrets?prefix=canary")

    # Refusals while a value is in the request: wrong caller, wrong expectation, wrong type, too large.
    value = {"data": {"password": needles["secret value"]}}
    server.call(403, "PUT", "/v1/secrets/canary/kept", value, token=other)
    server.call(409, "PUT", "/v1/secrets/canary/kept", value | {"options": {"cas": 99}})
    server.call(409, "PUT", "/v1/secrets/canary/deleted", value)
    server.call(400, "PUT", "/v1/secrets/canary/kept", value | {"secret_type": needles["malformed body"]})
    server.call(413, "PUT", "/v1/secrets/canary/kept", {"data": {"password": needles["secret value"] + "x" * (2 << 20)}})

    # Bodies that do not parse or do not fit, each with the canary as a value in it.
    text = needles["malformed body"]
    for body in (f'{{"data": {{"password": "{text}"', f'"{text}"', f'["{text}"]', f"{text}", f'{{"data": "{text}"}}',
                 f'{{"data": {{"a": 1}}, "surplus": "{text}"}}', f'{{"data": {{"a": "{text}", "a": "{text}"}}}}',
                 f'{{"data": {{"a": 1}}, "options": {{"max_versions": "{text}"}}}}',
                 f'{{"data": {{"a": 1}}, "options": {{"expires_in": "{text}"}}}}',
                 f'{{"data": {{"a": "{text}"}}, "metadata": "{text}"}}', '{"a":' * 5000 + f'"{text}"' + "}" * 5000,
                 f'{{"data": {{"a": "{text}\x01"}}}}', f'{{"data": {{"a": "{text}\\ud800"}}}}'):
        status, answer = server.raw("PUT", "/v1/secrets/canary/malformed", body)
        if status not in (400, 422):
            sys.exit(f"FAILED: a malformed body was answered {status}: {answer.decode(errors='replace')[:200]}")
    server.raw("PUT", "/v1/secrets/canary/malformed", text.encode() + b"\xff\xfe")
    server.raw("PUT", "/v1/secrets/canary/malformed", json.dumps({"data": {"a": text}}), headers={"Content-Type": "text/plain"})

    # Credentials that are none.
    bogus, payload = needles["bearer token"], needles["forged token payload"]
    segment = lambda claims: base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")  # noqa: E731
    forged = f"{segment({'alg': 'ES256', 'kid': bogus})}.{segment({'sub': payload, 'tenant_id': payload})}.{segment({'x': payload})}"
    none = f"{segment({'alg': 'none'})}.{segment({'sub': payload})}."
    for header in (f"Bearer {bogus}", f"Bearer {forged}", f"Bearer {none}", f"Bearer {bogus} {bogus}", f"Basic {bogus}",
                   f"Bearer {bogus}.{bogus}.{bogus}", bogus):
        server.call(401, "GET", "/v1/secrets/canary/kept", headers={"Authorization": header})
    foreign = needles["foreign header"]
    server.call(200, "GET", "/v1/secrets/canary/kept",
                headers={"X-Api-Key": foreign, "Cookie": f"session={foreign}", "X-Vault-Token": foreign, "Proxy-Authorization": foreign})
    server.raw("GET", f"/v1/secrets/canary/kept?access_token={needles['query string']}")
    server.raw("GET", f"/v1/audit/logs?cursor={needles['query string']}")

    # A CA whose subject carries the canary, and a key that only the caller may see.
    ca = server.call(201, "POST", "/v1/pki/ca", {"name": "canary", "common_name": needles["CA subject"], "ca_type": "root",
                                                  "key_type": "ec", "key_size": 256})
    server.call(201, "POST", "/v1/pki/roles", {"name": "canary", "ca_id": ca["id"], "allowed_domains": ["*.example.com"]})
    leaf = server.call(201, "POST", "/v1/pki/issue/canary", {"common_name": "www.example.com", "ttl": "1h"})
    pem = "".join(line for line in leaf["private_key"].splitlines() if "-----" not in line)
    scalar = subprocess.run(["openssl", "pkey", "-noout", "-text"], input=leaf["private_key"].encode(), capture_output=True, check=True)
    digits = re.search(rb"priv:((?:\s+[0-9a-f:]+)+)", scalar.stdout).group(1)
    needles["leaf private key"] = [pem[8:72], {"hex": re.sub(rb"[^0-9a-f]", b"", digits).decode()[-62:]}]
    needles["admin token"] = [admin.split(".")[2], admin.split(".")[1]]

    # What the audit log tells, as an answer to be searched like any other.
    audit = server.raw("GET", "/v1/audit/logs?limit=1000")[1]

    leaks = 0
    for needle, form, place in found(needles, [("a refusal", json.dumps(headers).encode() + answer) for _, _, headers, answer in server.refusals]
                                     + [("the audit log", audit)]):
        print(f"LEAK: {needle} ({form}) in {place}")
        leaks += 1
    if leaks:
        for what, status, _, answer in server.refusals:
            print(f"  {what} → {status} {answer.decode(errors='replace')[:300]}")
        sys.exit(1)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(needles, out)
    print(f"planted {len(needles)} needles; none in {len(server.refusals)} refusals and the audit log's answer")


def forms(needle):
    """Every way in which the needle could have been written down."""
    raw = bytes.fromhex(needle["hex"]) if isinstance(needle, dict) else needle.encode()
    yield "as it is", raw
    yield "hex", raw.hex().encode()
    yield "HEX", raw.hex().upper().encode()
    for shift in range(3):  # base64 of any text around it, at each of the three alignments
        body = base64.b64encode(b"\0" * shift + raw)[4 if shift else 0:]
        body = body.rstrip(b"=")[:-2]
        yield "base64", body
        if body.translate(bytes.maketrans(b"+/", b"-_")) != body:
            yield "base64url", body.translate(bytes.maketrans(b"+/", b"-_"))
    yield "reversed", raw[::-1]


def found(needles, places):
    for name, values in needles.items():
        for value in values if isinstance(values, list) else [values]:
            for form, pattern in forms(value):
                for place, content in places:
                    if pattern in content:
                        yield name, form, place


def files_below(path):
    if os.path.isfile(path):
        yield path
    for folder, _, names in os.walk(path):
        for name in names:
            if os.path.isfile(os.path.join(folder, name)):
                yield os.path.join(folder, name)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def key_files(path):
    """Small files in the data folder that are no database: root keys and the like. They may hold themselves."""
    for file in files_below(path):
        if os.path.getsize(file) <= 4096 and not re.search(r"(-wal|-shm|-journal|\.db|\.sqlite3?)$", file):
            yield file


def tables(dump):
    """The COPY sections of a pg_dump: (table, rows)."""
    for match in re.finditer(rb"^COPY ([^ (]+) \([^\n]*\n(.*?)^\\\.$", dump, re.M | re.S):
        yield match.group(1).decode(), match.group(2)


def search(file, arguments):
    needles = json.loads(read(file))
    places, searched = {}, 0
    for argument in arguments:
        kind, path = argument.split("=", 1)
        keys = set(key_files(path)) if kind == "database" else set()
        for name in files_below(path):
            if name in keys:
                content = read(name).strip()
                if len(content) >= 16:
                    needles.setdefault("root key", []).append({"hex": content.hex()})
                    if re.fullmatch(rb"[0-9a-fA-F]{32,}", content):
                        needles["root key"].append({"hex": content.decode()})
            else:
                places.setdefault(kind, []).append((name, read(name)))
                searched += len(places[kind][-1][1])

    leaks, seen = [], {}
    for kind, contents in places.items():
        for name, form, place in found(needles, contents):
            seen.setdefault(name, set()).add(kind)
            if kind not in MAY_BE_IN[name]:
                leaks.append(f"{name} ({form}) in {kind}: {os.path.basename(place)}")
    for place, content in places.get("dump", []):
        rows = list(tables(content))
        if not rows:
            leaks.append(f"no COPY sections in {place}: nothing was searched")
        for table, body in rows:
            for name, form, _ in found(needles, [(table, body)]):
                if NEVER_IN_TABLES.search(table):
                    leaks.append(f"{name} ({form}) in table {table}")
                else:
                    seen.setdefault(name, set()).add(f"table {table}")

    width = max(map(len, MAY_BE_IN))
    for name in sorted(needles):
        print(f"  {name:<{width}}  {', '.join(sorted(seen.get(name, ['nowhere'])))}")
    for kind in ("database", "dump"):
        for name in ("metadata", "CA subject"):
            if kind in places and kind not in seen.get(name, set()):
                leaks.append(f"'{name}' was not found in the {kind}, where it belongs: the search does not work")
    for kind in ("stdout", "stderr"):
        for place, content in places.get(kind, []):
            if b"panicked" in content:
                leaks.append(f"a panic in {place}")
    if leaks:
        sys.exit("\n".join(["FAILED:"] + sorted(set(leaks))))
    print(f"  searched {sum(map(len, places.values()))} files, {searched} bytes")


if __name__ == "__main__":
    if sys.argv[1] == "plant":
        plant(*sys.argv[2:])
    else:
        search(sys.argv[2], sys.argv[3:])
