"""Root keys under load: see scripts/roots-test.

Real providers, each a process or a token of its own, and real servers that wrap under them; clients put, read and issue
meanwhile, and count every answer.
"""
import argparse
import glob
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from urllib.parse import urlsplit

CLIENTS = 6
CACHE_TTL = 2  # seconds that a server keeps unwrapped keys in these tests
OUT = []  # processes to end


def fail(text):
    sys.exit(f"FAILED: {text}")


def until(what, seconds, check):
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > deadline:
            fail(f"{what}: not within {seconds} s")
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def port_pair():
    """OpenBao takes the next port for its cluster."""
    for _ in range(500):
        port = random.randint(20000, 31998)
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", port))
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    fail("no free pair of ports")


def ask(url, method="GET", body=None, headers=None, timeout=10):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")
    except OSError:
        return 0, {}


def spawn(command, log, env=None, **more):
    with open(log, "ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env, **more)
    OUT.append(process)
    return process


class Bao:
    """OpenBao with its data on disk, so that it comes back from being killed."""

    name = "transit"

    def __init__(self, options, key):
        self.folder, self.binary, self.key = os.path.join(options.scratch, "bao"), options.bao, key
        os.makedirs(os.path.join(self.folder, "data"))
        port = port_pair()
        self.url = f"http://127.0.0.1:{port}"
        with open(os.path.join(self.folder, "bao.hcl"), "w", encoding="utf-8") as file:
            file.write(
                f'storage "raft" {{\n path = "{self.folder}/data"\n node_id = "one"\n}}\n'
                f'listener "tcp" {{\n address = "127.0.0.1:{port}"\n tls_disable = true\n}}\n'
                f'api_addr = "{self.url}"\ncluster_addr = "http://127.0.0.1:{port + 1}"\ndisable_mlock = true\n'
            )
        self.spawn()
        until("OpenBao", 60, lambda: ask(f"{self.url}/v1/sys/init")[0] == 200)
        _, made = ask(f"{self.url}/v1/sys/init", "PUT", {"secret_shares": 1, "secret_threshold": 1})
        self.unseal_key, self.token = made["keys"][0], made["root_token"]
        self.unseal()
        self.call("POST", "sys/mounts/transit", {"type": "transit"})

    def spawn(self):
        command = [self.binary, "server", f"-config={self.folder}/bao.hcl"]
        self.process = spawn(command, f"{self.folder}/log", {"HOME": self.folder, "PATH": os.environ["PATH"]})

    def unseal(self):
        until("OpenBao", 60, lambda: ask(f"{self.url}/v1/sys/init")[0] == 200)
        ask(f"{self.url}/v1/sys/unseal", "PUT", {"key": self.unseal_key})
        until("OpenBao unsealed", 60, lambda: ask(f"{self.url}/v1/sys/health")[0] == 200)

    def call(self, method, path, body=None):
        status, answer = ask(f"{self.url}/v1/{path}", method, body, {"X-Vault-Token": self.token})
        if status not in (200, 204):
            fail(f"OpenBao: {method} {path}: {status} {answer}")
        return answer

    def settings(self):
        return {"KMS_PROVIDER": "vault", "VAULT_ADDR": self.url, "VAULT_TOKEN": self.token, "VAULT_TRANSIT_KEY": self.key}

    def kill(self):
        self.process.kill()
        self.process.wait()

    def back(self):
        self.spawn()
        self.unseal()

    def destroy(self):
        self.call("POST", f"transit/keys/{self.key}/config", {"deletion_allowed": True})
        self.call("DELETE", f"transit/keys/{self.key}")


class Aws:
    """moto."""

    name = "aws"

    def __init__(self, options):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self.process = spawn(command, os.path.join(options.scratch, "moto.log"))
        until("moto", 60, lambda: ask(f"{self.url}/moto-api/data.json")[0] == 200)
        self.arn = self.call("CreateKey", {"KeyUsage": "ENCRYPT_DECRYPT"})["KeyMetadata"]["Arn"]

    def call(self, target, body):
        headers = {
            "X-Amz-Target": f"TrentService.{target}", "Content-Type": "application/x-amz-json-1.1",
            "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/kms/aws4_request, SignedHeaders=host, Signature=0",
        }
        status, answer = ask(self.url, "POST", body, headers)
        if status != 200:
            fail(f"moto: {target}: {status} {answer}")
        return answer

    def settings(self):
        return {"KMS_PROVIDER": "aws", "KMS_KEY_ID": self.arn, "KMS_ENDPOINT": self.url}

    def hang(self):
        self.process.send_signal(signal.SIGSTOP)

    def back(self):
        self.process.send_signal(signal.SIGCONT)


class Hsm:
    """A token of SoftHSM2."""

    name = "pkcs11"

    def __init__(self, options):
        self.folder, self.module = os.path.join(options.scratch, "tokens"), options.softhsm
        os.makedirs(self.folder, 0o700)
        self.conf = os.path.join(options.scratch, "softhsm2.conf")
        with open(self.conf, "w", encoding="utf-8") as file:
            file.write(f"directories.tokendir = {self.folder}\nobjectstore.backend = file\nlog.level = ERROR\n")
        command = ["softhsm2-util", "--init-token", "--free", "--label", "vault", "--so-pin", "5678", "--pin", "123456"]
        subprocess.run(command, env={**os.environ, "SOFTHSM2_CONF": self.conf}, check=True, capture_output=True)

    def settings(self):
        return {"KMS_PROVIDER": "pkcs11", "PKCS11_LIBRARY": self.module, "PKCS11_SLOT": "label:vault", "PKCS11_PIN": "123456",
                "PKCS11_KEY_LABEL": "root"}

    def destroy(self):
        shutil.rmtree(self.folder)


class Server:
    """`serve` with these roots, in order of preference."""

    def __init__(self, options, name):
        self.options, self.name, self.port = options, name, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def environment(self, roots):
        o = self.options
        env = {
            "PATH": os.environ["PATH"], "DATABASE_URL": o.database_url, "BIND_ADDRESS": f"127.0.0.1:{self.port}",
            "BASE_URL": "https://vault.example", "SCAIKEY_URL": o.issuer, "SCAIKEY_JWKS_URL": f"{o.issuer}/jwks",
            "KEY_CACHE_TTL": f"{CACHE_TTL}s", "LOG_FORMAT": "text", "DRAIN_TIMEOUT": "10s",
            **{f"RATE_LIMIT_{name}": "0" for name in ("SECRETS_READ", "SECRETS_WRITE", "PKI_ISSUE", "PKI_ADMIN")},
            # What the chain of credentials finds; moto takes any.
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }
        for at, root in enumerate(roots):
            suffix = "" if at == 0 else f"_{at + 1}"
            env.update({f"{name}{suffix}": value for name, value in root.settings().items()})
            if isinstance(root, Hsm):
                env["SOFTHSM2_CONF"] = root.conf
        return env

    def command(self, roots, *words, secret=None):
        done = subprocess.run([self.options.server, *words], env=self.environment(roots), input=secret, capture_output=True, text=True)
        if done.returncode != 0:
            fail(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout + done.stderr

    def start(self, roots):
        self.process = spawn([self.options.server, "serve"], os.path.join(self.options.scratch, f"{self.name}.err"), self.environment(roots))
        until(f"{self.name} ready", 60, lambda: self.ready()[0] == 200)

    def ready(self):
        return ask(f"{self.url}/v1/health/ready")

    def stop(self):
        self.process.terminate()
        if self.process.wait(60) != 0:
            fail(f"{self.name} ended with {self.process.returncode}")


class Load:
    """Clients of whatever servers are in `urls`; each changes to another when its own is taken out, as behind a load
    balancer that is told first."""

    def __init__(self, token, urls):
        self.token, self.urls = token, list(urls)
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.answers, self.written, self.failures, self.slowest = Counter(), {}, [], 0.0
        self.threads = [threading.Thread(target=self.work, args=(at,), daemon=True) for at in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(70)

    def request(self, connection, method, path, body=None):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.getheader("Retry-After")

    def work(self, at):
        turn, url, connection = 0, None, None
        while not self.stopping.is_set():
            turn += 1
            urls = self.urls
            if url not in urls:
                url = urls[at % len(urls)]
                connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
            path = f"/v1/secrets/load/{at}/{turn % 20}"
            kind = ("put", "read", "read", "issue")[turn % 4]
            began = time.monotonic()
            try:
                if kind == "put":
                    status, text, wait = self.request(connection, "PUT", path, {"data": {"k": f"{at}-{turn}"}})
                    if status in (200, 201):
                        with self.lock:
                            self.written[path] = f"{at}-{turn}"
                elif kind == "read":
                    known = random.choice(list(self.written)) if self.written else path
                    status, text, wait = self.request(connection, "GET", known)
                    if status == 404 and known == path:
                        status = 200  # nobody has put it yet
                else:
                    status, text, wait = self.request(connection, "POST", "/v1/pki/issue/load", {"common_name": f"c{turn}.example.com", "ttl": "1h"})
            except (OSError, http.client.HTTPException) as error:
                connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
                status, text, wait = "no answer", repr(error).encode(), None
            with self.lock:
                self.answers[f"{kind} {status}"] += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
                if status not in (200, 201):
                    self.failures.append((time.monotonic(), kind, status, wait, text[:300]))

    def since(self, mark):
        """Answers since a mark, and the failures among them."""
        with self.lock:
            return sum(self.answers.values()) - mark[0], self.failures[mark[1]:]

    def mark(self):
        with self.lock:
            self.slowest = 0.0
            return sum(self.answers.values()), len(self.failures)


def prepare(server, token):
    def call(method, path, body):
        status, answer = ask(server.url + path, method, body, {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        if status not in (200, 201):
            fail(f"{method} {path}: {status} {answer}")
        return answer

    ca = call("POST", "/v1/pki/ca", {"name": "load", "common_name": "Load", "ca_type": "root", "key_type": "ec", "key_size": 256})
    call("POST", "/v1/pki/roles", {"name": "load", "ca_id": ca["id"], "allowed_domains": ["*.example.com"]})


def check_everything(server, token, load):
    """Every secret has the value that was acknowledged last, and nothing is left that does not open."""
    for path, value in load.written.items():
        status, answer = ask(server.url + path, headers={"Authorization": f"Bearer {token}"})
        if status != 200 or answer["data"] != {"k": value}:
            fail(f"{path}: {status} {answer}, expected {value}")
    return len(load.written)


def quiet(load, mark, what, slowest=None):
    count, failures = load.since(mark)
    if failures:
        fail(f"{what}: {len(failures)} of {count} requests failed, such as {failures[:3]}")
    print(f"ok: {what}: {count} requests, none failed, slowest {load.slowest:.2f} s", flush=True)


def outage(options):
    """The primary root is killed, then the other hangs as well; each comes back."""
    bao, aws = Bao(options, "root"), Aws(options)
    roots, server = [bao, aws], Server(options, "outage")
    print(server.command(roots, "keys", "bootstrap").strip(), flush=True)
    server.start(roots)
    prepare(server, options.token)
    with Load(options.token, [server.url]) as load:
        time.sleep(3 * CACHE_TTL)
        quiet(load, (0, 0), "both roots are there")

        mark = load.mark()
        bao.kill()
        time.sleep(5 * CACHE_TTL)
        quiet(load, mark, "the primary root was killed")
        status, body = server.ready()
        if status != 200 or "transit" not in json.dumps(body):
            fail(f"readiness with one root of two: {status} {body}")

        mark, began = load.mark(), time.monotonic()
        aws.hang()
        until("a refusal", 60, lambda: load.since(mark)[1])
        count, failures = load.since(mark)
        first = failures[0][0] - began
        # Half a second of slack: the last unwrap before the end may have been long on its way.
        if not CACHE_TTL * 0.2 <= first:
            fail(f"cached keys did not serve: refused after {first:.2f} s")
        time.sleep(3)
        count, failures = load.since(mark)
        wrong = [failure for failure in failures if failure[2] != 503 or not failure[3]]
        if wrong:
            fail(f"without any root: {wrong[:3]}")
        until("readiness says so", 30, lambda: server.ready()[0] == 503)
        print(f"ok: no root is left: cached keys served for {first:.1f} s, then 503 with Retry-After ({len(failures)}), "
              f"readiness {server.ready()[1]}", flush=True)

        began = time.monotonic()
        aws.back()
        mark = load.mark()
        until("an answer", 60, lambda: load.since(mark)[0] - len(load.since(mark)[1]) > 20)
        print(f"ok: the second root is back: served again after {time.monotonic() - began:.2f} s, without a restart", flush=True)
        until("readiness", 60, lambda: server.ready()[0] == 200)
        bao.back()
        time.sleep(10)
        mark = load.mark()
        aws.hang()
        time.sleep(4 * CACHE_TTL)
        quiet(load, mark, "the primary root is back, and the second hangs")
        aws.back()
    print(f"ok: {check_everything(server, options.token, load)} secrets hold what was acknowledged last", flush=True)
    print(f"answers: {dict(sorted(load.answers.items()))}", flush=True)
    server.stop()


def migration(options):
    """SoftHSM, then Transit, then AWS: two servers, restarted one after the other, and no request fails."""
    hsm, bao, aws = Hsm(options), Bao(options, "migrated"), Aws(options)
    one, two = Server(options, "one"), Server(options, "two")
    print(one.command([hsm], "keys", "bootstrap").strip(), flush=True)
    for server in (one, two):
        server.start([hsm])
    prepare(one, options.token)
    with Load(options.token, [one.url, two.url]) as load:
        def restart_with(roots):
            for server, other in ((one, two), (two, one)):
                load.urls = [other.url]
                time.sleep(0.5)
                server.stop()
                server.start(roots)
                load.urls = [one.url, two.url]
                time.sleep(0.5)

        def move(old, new):
            mark = load.mark()
            one.command([old, new], "keys", "bootstrap")
            restart_with([old, new])
            print(one.command([old, new], "keys", "add-root", new.name).strip(), flush=True)
            restart_with([new, old])
            print(one.command([new, old], "keys", "remove-root", old.name).strip(), flush=True)
            restart_with([new])
            old.destroy()
            time.sleep(3 * CACHE_TTL)
            quiet(load, mark, f"from {old.name} to {new.name}, and the old root destroyed")

        time.sleep(2 * CACHE_TTL)
        quiet(load, (0, 0), "before")
        move(hsm, bao)
        move(bao, aws)
    print(f"ok: {check_everything(one, options.token, load)} secrets hold what was acknowledged last", flush=True)
    print(one.command([aws], "keys", "verify").strip(), flush=True)
    print(f"answers: {dict(sorted(load.answers.items()))}", flush=True)
    for server in (one, two):
        server.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("outage", "migration"))
    for name in ("server", "scratch", "database-url", "issuer", "token", "bao"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    found = [path for pattern in ("/usr/lib/softhsm", "/usr/lib/*/softhsm", "/usr/local/lib/softhsm", "/usr/lib64/pkcs11")
             for path in glob.glob(f"{pattern}/libsofthsm2.so")]
    options.softhsm = os.environ.get("SCAIVAULT_SOFTHSM") or (found or [""])[0]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        {"outage": outage, "migration": migration}[options.what](options)
    finally:
        for process in OUT:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
