"""Kills a server at random moments while it is written to, and counts what is left. Driven by `crash-test`.

    crash.py --label NAME --server BINARY --data DIR --log FILE --rounds N [--database-url URL] [--seed N]

Every request carries a request id of its own, and every secret value and certificate name carries that id too. So
after the last round three sets can be compared: what was acknowledged, what is stored, and what the audit log says
was done. They must agree: nothing acknowledged is missing, nothing is stored without its one record, and no record
tells of something that is not stored.
"""

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from urllib.parse import quote

PUTTERS, ISSUERS = 5, 3
VERSIONS_PER_PATH = 60  # below the 100 a secret may keep, so that no version ages out


class Run:
    """A server process on a fixed port; started again and again on the same data."""

    def __init__(self, options, port):
        self.options, self.port, self.process, self.token = options, port, None, None

    def start(self):
        database = ["--database-url", self.options.database_url] if self.options.database_url else []
        began = time.monotonic()
        with open(self.options.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.options.server, "dev", "--bind", f"127.0.0.1:{self.port}", "--data-dir", self.options.data, *database],
                stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL)
        for line in self.process.stdout:
            if line.startswith(b"admin token: "):
                self.token = line.split(b": ", 1)[1].strip().decode()
                break
        else:
            fail(f"the server did not start (status {self.process.wait()})", self.options.log)
        threading.Thread(target=self.process.stdout.read, daemon=True).start()  # so that the pipe never fills
        while True:
            try:
                if Client(self).call("GET", "/v1/health/ready")[0] == 200:
                    return time.monotonic() - began
            except OSError:
                pass
            if self.process.poll() is not None:
                fail("the server ended before it was ready", self.options.log)
            if time.monotonic() - began > 60:
                fail("the server was not ready within 60 s", self.options.log)
            time.sleep(0.02)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
                fail("the server did not stop within 30 s of SIGTERM", self.options.log)


class Client:
    """One connection, opened again when it breaks."""

    def __init__(self, run, timeout=30):
        self.run, self.timeout, self.connection, self.headers = run, timeout, None, {}

    def call(self, method, path, body=None, request_id=None, headers=None):
        """Status and raw body; OSError when no whole answer came."""
        headers = dict(headers or {}, Authorization=f"Bearer {self.run.token}")
        if request_id:
            headers["X-Request-ID"] = request_id
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.run.port, timeout=self.timeout)
            self.connection.request(method, path, body=body, headers=headers)
            response = self.connection.getresponse()
            self.headers = response.headers
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            if self.connection:
                self.connection.close()
            self.connection = None
            raise OSError(str(error)) from error

    def get(self, path):
        status, body = self.call("GET", path)
        if status != 200:
            fail(f"GET {path}: {status} {body[:300]!r}")
        return json.loads(body)


RUNNING = []  # the run whose server must not be left behind


def fail(message, log=None):
    for run in RUNNING:
        if run.process and run.process.poll() is None:
            run.process.kill()
    print(f"FAILED: {message}", file=sys.stderr)
    if log:
        with open(log, "rb") as file:
            sys.stderr.write(file.read()[-3000:].decode(errors="replace"))
    os._exit(1) if threading.current_thread() is not threading.main_thread() else sys.exit(1)


class Ledger:
    """What was sent, and what was acknowledged."""

    timeout = 30  # seconds for an answer

    def __init__(self):
        self.lock = threading.Lock()
        self.counter = self.shared = 0
        self.sent, self.puts, self.certificates, self.refused = set(), {}, {}, Counter()
        self.first = threading.Event()

    def allows(self, what, status, _headers):
        """Whether a refusal is an honest answer: here only a conflict between writers of one path."""
        return (what, status) == ("PUT", 409)

    def unanswered(self):
        """No answer came. The server was killed, and the next attempt is refused until the round ends."""
        time.sleep(0.01)

    def next_id(self, kind):
        with self.lock:
            self.counter += 1
            request_id = f"crash-{kind}-{self.counter:07d}"
            self.sent.add(request_id)
            return request_id

    def shared_path(self):
        """A path that all putters write at the same time, changed before it is full."""
        with self.lock:
            self.shared += 1
            return f"crash/shared/{self.shared // VERSIONS_PER_PATH}"


def put_until_killed(run, ledger, name, stop):
    client, count = Client(run, ledger.timeout), 0
    while not stop.is_set():
        request_id = ledger.next_id("put")
        path = ledger.shared_path() if count % 3 == 0 else f"crash/{name}/{count // VERSIONS_PER_PATH}"
        count += 1
        body = {"data": {"request": request_id, "noise": os.urandom(random.choice((16, 200, 3000))).hex()},
                "options": {"max_versions": 100}}
        try:
            status, answer = client.call("PUT", f"/v1/secrets/{path}", body, request_id)
        except OSError:
            ledger.unanswered()
            continue
        if status in (200, 201):
            version = json.loads(answer)["version"]
            with ledger.lock:
                ledger.puts[request_id] = (path, version, body["data"])
            ledger.first.set()
        else:
            note_refusal(ledger, "PUT", status, answer, client.headers)


def issue_until_killed(run, ledger, _name, stop):
    client = Client(run, ledger.timeout)
    while not stop.is_set():
        request_id = ledger.next_id("issue")
        try:
            status, answer = client.call("POST", "/v1/pki/issue/crash", {"common_name": f"{request_id}.example.com", "ttl": "24h"}, request_id)
        except OSError:
            ledger.unanswered()
            continue
        if status == 201:
            answer = json.loads(answer)
            with ledger.lock:
                ledger.certificates[request_id] = (answer["id"], answer["serial_number"], answer["certificate"])
            ledger.first.set()
        else:
            note_refusal(ledger, "ISSUE", status, answer, client.headers)


def note_refusal(ledger, what, status, answer, headers):
    with ledger.lock:
        ledger.refused[(what, status)] += 1
    if not ledger.allows(what, status, headers):
        fail(f"{what} was answered {status}: {answer[:300]!r}")


def prepare(run):
    client = Client(run)

    def create(path, body):
        status, answer = client.call("POST", path, body)
        if status != 201:
            fail(f"POST {path}: {status} {answer[:300]!r}")
        return json.loads(answer)

    root = create("/v1/pki/ca", {"name": "crash-root", "common_name": "Crash Root", "ca_type": "root", "key_type": "ec", "key_size": 256})
    ca = create("/v1/pki/ca", {"name": "crash", "common_name": "Crash", "ca_type": "intermediate", "parent_ca_id": root["id"],
                               "key_type": "ec", "key_size": 256})
    create("/v1/pki/roles", {"name": "crash", "ca_id": ca["id"], "allowed_domains": ["*.example.com"]})
    return ca["id"]


def one_round(run, ledger, number):
    stop = threading.Event()
    ledger.first.clear()
    workers = [threading.Thread(target=target, args=(run, ledger, f"r{number}-{i}", stop), daemon=True)
               for i, target in enumerate([put_until_killed] * PUTTERS + [issue_until_killed] * ISSUERS)]
    for worker in workers:
        worker.start()
    if not ledger.first.wait(30):
        fail("nothing was acknowledged within 30 s", run.options.log)
    time.sleep(random.uniform(0, 0.7))
    run.kill()  # the clients are in the middle of their requests
    stop.set()
    for worker in workers:
        worker.join(60)


def each(run, items, work):
    """`work(client, item)` for all items on a few threads; the results."""
    items, results, lock = list(items), [], threading.Lock()

    def loop():
        client = Client(run)
        while True:
            with lock:
                if not items:
                    return
                item = items.pop()
            result = work(client, item)
            with lock:
                results.append(result)

    threads = [threading.Thread(target=loop) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def pages(client, path, envelope):
    cursor = None
    while True:
        page = client.get(path + (f"&cursor={quote(cursor, safe='')}" if cursor else ""))
        yield from page[envelope]
        cursor = page.get("cursor")
        if not page.get("has_more"):
            return


def stored_versions(run):
    """Every version of every secret: (request id in its value, path, version, data)."""
    client = Client(run)
    paths = [row["path"] for row in pages(client, "/v1/secrets?prefix=crash/&limit=1000", "secrets")]

    def versions(client, path):
        listed = [row["version"] for row in client.get(f"/v1/secrets/{path}/versions?limit=1000")["versions"]]
        found = []
        for version in listed:
            data = client.get(f"/v1/secrets/{path}?version={version}")["data"]
            found.append((data["request"], path, version, data))
        if sorted(listed) != list(range(1, len(listed) + 1)):
            fail(f"{path} has versions {sorted(listed)}: a number is missing or doubled")
        return found

    return [entry for found in each(run, paths, versions) for entry in found]


def ocsp_is_good(folder, url, certificate):
    file = os.path.join(folder, f"{threading.get_ident()}.pem")
    with open(file, "w") as out:
        out.write(certificate)
    said = subprocess.run(["openssl", "ocsp", "-issuer", os.path.join(folder, "ca.pem"), "-cert", file, "-url", url,
                           "-CAfile", os.path.join(folder, "chain.pem")], capture_output=True, text=True)
    return ".pem: good" in said.stdout and "Response verify OK" in said.stdout + said.stderr


def verify(run, ledger, ca):
    """Compares the three sets. Returns figures; `lost` and the like must be zero."""
    figures = Counter()
    client = Client(run)

    audit = {}
    for action in ("write", "pki_issue"):
        rows = [row for row in pages(client, f"/v1/audit/logs?action={action}&limit=1000", "logs") if row["request_id"].startswith("crash-")]
        audit[action] = Counter(row["request_id"] for row in rows if row["success"])
        ids = Counter(row["id"] for row in rows)
        figures["duplicated audit"] += sum(n - 1 for n in audit[action].values()) + sum(n - 1 for n in ids.values())

    stored = stored_versions(run)
    by_request = {request: (path, version, data) for request, path, version, data in stored}
    figures["doubled versions"] = len(stored) - len(by_request)
    for request, (path, version, data) in ledger.puts.items():
        figures["found" if by_request.get(request) == (path, version, data) else "lost"] += 1

    certificates = list(pages(client, f"/v1/pki/certificates?ca_id={ca}&limit=1000", "certificates"))
    by_name = {row["common_name"].split(".")[0]: row for row in certificates}
    figures["doubled certificates"] = len(certificates) - len(by_name)
    for request, (identity, serial, _) in ledger.certificates.items():
        row = by_name.get(request, {})
        figures["found" if (row.get("id"), row.get("serial_number")) == (identity, serial) else "lost"] += 1

    for kept, recorded in ((set(by_request), audit["write"]), (set(by_name), audit["pki_issue"])):
        figures["missing audit"] += len(kept - set(recorded))
        figures["audit of nothing"] += len(set(recorded) - kept)
        figures["never sent"] += len(kept - ledger.sent)
    acknowledged = set(ledger.puts) | set(ledger.certificates)
    figures["acknowledged"] = len(acknowledged)
    figures["missing audit"] += len(acknowledged - set(audit["write"]) - set(audit["pki_issue"]))
    figures["stored unacknowledged"] = len((set(by_request) | set(by_name)) - acknowledged)

    with tempfile.TemporaryDirectory() as folder:
        answer = client.get(f"/v1/pki/ca/{ca}/certificate")
        for name, text in (("ca.pem", answer["certificate_pem"]), ("chain.pem", answer["certificate_pem"] + "\n" + answer["chain_pem"])):
            with open(os.path.join(folder, name), "w") as out:
                out.write(text)
        sample = random.sample(sorted(ledger.certificates.values()), min(200, len(ledger.certificates)))
        url = f"http://127.0.0.1:{run.port}/v1/pki/ocsp/{ca}"
        good = each(run, sample, lambda _client, item: ocsp_is_good(folder, url, item[2]))
        figures["OCSP asked"], figures["OCSP not good"] = len(good), good.count(False)
    return figures


def main():
    parser = argparse.ArgumentParser()
    for name in ("label", "server", "data", "log"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--database-url")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    random.seed(options.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` below stops the server
    run, ledger, began = Run(options, options.port), Ledger(), time.monotonic()
    RUNNING.append(run)
    try:
        slowest = run.start()
        ca = prepare(run)
        for number in range(options.rounds):
            one_round(run, ledger, number)
            slowest = max(slowest, run.start())
        figures = verify(run, ledger, ca)
        run.stop()
    finally:
        if run.process and run.process.poll() is None:
            run.kill()
    with open(options.log, "rb") as log:
        figures["panics"] = log.read().count(b"panicked")

    report(options.label, f"rounds {options.rounds}", ledger, figures,
           f"slowest start {slowest:.2f} s, {time.monotonic() - began:.0f} s, seed {options.seed}")


def report(label, what, ledger, figures, end):
    """Prints the figures and ends the process unless they are as they must be."""
    must_be_zero = ("lost", "duplicated audit", "missing audit", "audit of nothing", "doubled versions", "doubled certificates",
                    "never sent", "OCSP not good", "panics")
    print(f"{label}: {what}, acknowledged {figures['acknowledged']} "
          f"({len(ledger.puts)} puts, {len(ledger.certificates)} certificates), found {figures['found']}, "
          + ", ".join(f"{name} {figures[name]}" for name in must_be_zero)
          + f"; stored but not acknowledged {figures['stored unacknowledged']}, refused {sum(ledger.refused.values())}, "
          f"OCSP asked {figures['OCSP asked']}, {end}")
    if any(figures[name] for name in must_be_zero) or figures["found"] != figures["acknowledged"]:
        sys.exit("FAILED: see the figures above")
    if not ledger.puts or not ledger.certificates:
        sys.exit("FAILED: nothing of one kind was acknowledged, so nothing was tested")


if __name__ == "__main__":
    main()
