"""Breaks the database under a server that goes on running, and counts what that did. Driven by `fault-test`.

    faults.py --label NAME --server BINARY --data DIR --log FILE --port N --scenarios A,B…
              [--database-url URL --pg-bin DIR --pg-dir DIR] [--disk FOLDER] [--seconds N]

Between the server and PostgreSQL stands a proxy of this process, so that connections can be delayed, cut,
swallowed, or led to another server. While clients put, issue and read, one fault after the other is made and
mended. Every answer meanwhile is a success, a conflict between writers, or 503 with Retry-After; every request
is answered; and afterwards what was acknowledged is there, with exactly one audit record each (see crash.py).
"""

import argparse
import asyncio
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from urllib.parse import urlsplit

import crash

READERS = 2
LONGEST_ANSWER = 60  # seconds; a request that waits longer hangs


class Proxy:
    """Forwards TCP connections. What happens to them is `mode`, from one moment to the next."""

    def __init__(self, target):
        self.target, self.mode, self.delay, self.port = target, "forward", 0.0, None
        self.writers, self.ready = set(), threading.Event()
        threading.Thread(target=lambda: asyncio.run(self.run()), daemon=True).start()
        self.ready.wait(10)

    async def run(self):
        self.loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await server.serve_forever()

    async def serve(self, reader, writer):
        if self.mode == "refuse":
            return self.reset(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection(*self.target)
        except OSError:
            return self.reset(writer)
        self.writers |= {writer, up_writer}
        await asyncio.gather(self.pump(reader, up_writer, "up"), self.pump(up_reader, writer, "down"))
        self.writers -= {writer, up_writer}

    async def pump(self, reader, writer, direction):
        try:
            while data := await reader.read(16384):
                if self.mode == "latency":
                    await asyncio.sleep(self.delay)
                elif self.mode == "blackhole" or (self.mode == "halfopen" and direction == "down"):
                    continue  # swallowed: the connection stays open and nothing comes
                elif self.mode == "cut" and direction == "down" and random.random() < 0.01:
                    writer.write(data[: len(data) // 2])  # in the middle of an answer
                    self.reset(writer)
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    @staticmethod
    def reset(writer):
        """RST instead of FIN."""
        sock = writer.get_extra_info("socket")
        if sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    def reset_all(self):
        def every():
            for writer in list(self.writers):
                self.reset(writer)

        self.loop.call_soon_threadsafe(every)


class Postgres:
    """The cluster that `fault-test` started, and the standby that takes over."""

    def __init__(self, options):
        self.bin, self.dir = options.pg_bin, options.pg_dir
        self.port = urlsplit(options.database_url).port
        self.user = os.environ["PGUSER"]  # the superuser; the server is another

    def run(self, program, *arguments, check=True):
        command = [os.path.join(self.bin, program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            crash.fail(f"{program} {arguments}: {done.stderr[-500:]}")
        return done.stdout.strip()

    def control(self, *arguments, data="data", check=True):
        # Its output goes to a file: a server that it starts would keep a pipe open for ever.
        command = [os.path.join(self.bin, "pg_ctl"), "-s", "-w", "-t", "60", "-D", f"{self.dir}/{data}", "-l", f"{self.dir}/log", *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        status = subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        if check and status != 0:
            crash.fail(f"pg_ctl {arguments} ended with {status}", f"{self.dir}/log")

    def sql(self, text):
        # Also where the default is read-only.
        return self.run("psql", "-XqAt", "-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, "-d", "postgres",
                        "-c", "SET default_transaction_read_only = off", "-c", text)

    def start(self):
        with open(f"{self.dir}/data/postmaster.opts") as file:
            options = file.read().split('"')[1::2]  # as it was started
        flat = " ".join(f"'{option}'" if " " in option else option for option in options if option != "-D" and not option.endswith("/data"))
        self.control("start", "-o", flat)

    def postmaster(self):
        with open(f"{self.dir}/data/postmaster.pid") as file:
            return int(file.readline())


class Ledger(crash.Ledger):
    timeout = LONGEST_ANSWER

    def __init__(self):
        super().__init__()
        self.no_answer = self.reads = self.wrong_reads = self.without_wait = 0
        self.slowest = 0.0

    def allows(self, what, status, headers):
        if status == 503 and not (headers.get("Retry-After") or "").isdigit():
            with self.lock:
                self.without_wait += 1
        if status == 503:
            time.sleep(0.02)
        return status == 503 or super().allows(what, status, headers)

    def unanswered(self):
        with self.lock:
            self.no_answer += 1
        time.sleep(0.05)


def read_until_stopped(run, ledger, _name, stop):
    """Reads what was acknowledged: the value as it was written, or 503."""
    client = crash.Client(run, ledger.timeout)
    while not stop.is_set():
        with ledger.lock:
            known = list(ledger.puts.values())[-200:]
        if not known:
            time.sleep(0.05)
            continue
        path, version, data = random.choice(known)
        began = time.monotonic()
        try:
            status, answer = client.call("GET", f"/v1/secrets/{path}?version={version}")
        except OSError:
            ledger.unanswered()
            continue
        ledger.slowest = max(ledger.slowest, time.monotonic() - began)
        if status == 200:
            ledger.reads += 1
            ledger.wrong_reads += crash.json.loads(answer)["data"] != data
        else:
            crash.note_refusal(ledger, "READ", status, answer, client.headers)


# ---------------------------------------------------------------- the faults: made, held, mended


def fault_immediate(world):
    world.postgres.control("stop", "-m", "immediate")
    world.hold()
    world.postgres.start()


def fault_killed(world):
    os.kill(world.postgres.postmaster(), 9)
    world.hold()
    time.sleep(0.5)  # its children notice
    world.postgres.start()


def fault_failover(world):
    """The primary is gone for good and a synchronous standby takes its place."""
    postgres = world.postgres
    standby_port = world.free_port()
    postgres.run("pg_basebackup", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", postgres.user, "-D", f"{postgres.dir}/standby",
                 "-R", "-X", "stream", "-c", "fast")
    postgres.control("start", "-o", f"-c listen_addresses=127.0.0.1 -c port={standby_port} -c unix_socket_directories='{postgres.dir}' "
                     "-c max_connections=200", data="standby")
    postgres.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    postgres.sql("SELECT pg_reload_conf()")
    for _ in range(100):
        if postgres.sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1":
            break
        time.sleep(0.1)
    else:
        crash.fail("the standby did not become synchronous")
    time.sleep(1)  # some writes that wait for it
    postgres.control("stop", "-m", "immediate")
    world.hold()
    postgres.control("promote", data="standby")
    postgres.port = standby_port
    world.proxy.target = ("127.0.0.1", standby_port)
    world.proxy.reset_all()


def fault_read_only(world):
    world.postgres.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    world.postgres.sql("SELECT pg_reload_conf()")
    world.hold()
    world.postgres.sql("ALTER SYSTEM RESET default_transaction_read_only")
    world.postgres.sql("SELECT pg_reload_conf()")


def fault_terminated(world):
    """Every connection is ended by the administrator, again and again."""
    until = time.monotonic() + world.seconds
    while time.monotonic() < until:
        world.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL")
        time.sleep(0.2)


def proxied(mode, delay=0.0):
    def fault(world):
        world.proxy.delay, world.proxy.mode = delay, mode
        if mode == "refuse":
            world.proxy.reset_all()
        world.hold()
        world.proxy.mode = "forward"

    return fault


def fault_full(world):
    """The disk fills up while it is written to; then it is made larger, so that it does not fill up again."""
    # Long enough for the slowest machine; how fast it fills up is not what this is about.
    deadline = time.monotonic() + 300
    while world.ledger.refused[("PUT", 503)] < 20:
        if time.monotonic() > deadline:
            crash.fail("the disk did not fill up within 300 s")
        time.sleep(0.1)
    world.hold()
    subprocess.run(["mount", "-o", "remount,size=1g", world.disk], check=True)


FAULTS = {
    "immediate": fault_immediate,
    "killed": fault_killed,
    "failover": fault_failover,
    "read-only": fault_read_only,
    "terminated": fault_terminated,
    "reset": proxied("refuse"),
    "cut": proxied("cut"),
    "latency": proxied("latency", 0.2),
    "blackhole": proxied("blackhole"),
    "halfopen": proxied("halfopen"),
    "full": fault_full,
}


class World:
    def __init__(self, options):
        self.seconds, self.disk = options.seconds, options.disk
        self.ledger = Ledger()
        self.postgres = self.proxy = None
        if options.database_url:
            self.postgres = Postgres(options)
            self.proxy = Proxy(("127.0.0.1", self.postgres.port))
            options.database_url = options.database_url.replace(f":{self.postgres.port}/", f":{self.proxy.port}/")

    def hold(self):
        time.sleep(self.seconds)

    @staticmethod
    def free_port():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]


def prove(options):
    """What was broken has left no gap in the chains of the audit trail."""
    database = ["--database-url", options.database_url] if options.database_url else []
    done = subprocess.run([options.server, "audit", "verify", "--data-dir", options.data, *database], capture_output=True, text=True)
    print(f"{options.label}: audit verify: {done.stdout.strip()}", flush=True)
    if done.returncode != 0:
        crash.fail(f"the audit trail is not whole: {done.stderr[-500:]}")


def acknowledged(ledger):
    with ledger.lock:
        return len(ledger.puts), len(ledger.certificates)


def recover(world, began, mended):
    """Seconds from the mending until both kinds of writes are acknowledged again."""
    before = acknowledged(world.ledger)
    while True:
        now = acknowledged(world.ledger)
        if now[0] > before[0] and now[1] > before[1]:
            return time.monotonic() - mended
        if time.monotonic() - mended > 60:
            crash.fail(f"nothing was acknowledged within 60 s of the mending ({time.monotonic() - began:.0f} s after the fault)")
        time.sleep(0.02)


def main():
    parser = argparse.ArgumentParser()
    for name in ("label", "server", "data", "log", "scenarios"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=4)
    for name in ("database-url", "pg-bin", "pg-dir", "disk"):
        parser.add_argument(f"--{name}")
    options = parser.parse_args()
    crash.signal.signal(crash.signal.SIGTERM, lambda *_: sys.exit(143))
    world = World(options)
    run, ledger = crash.Run(options, options.port), world.ledger
    crash.RUNNING.append(run)
    stop, total = threading.Event(), Counter()
    try:
        run.start()
        ca = crash.prepare(run)
        targets = [crash.put_until_killed] * crash.PUTTERS + [crash.issue_until_killed] * crash.ISSUERS + [read_until_stopped] * READERS
        workers = [threading.Thread(target=target, args=(run, ledger, f"w{i}", stop), daemon=True) for i, target in enumerate(targets)]
        for worker in workers:
            worker.start()
        time.sleep(1)
        for name in options.scenarios.split(","):
            ledger.slowest, before, refused = 0.0, acknowledged(ledger), sum(ledger.refused.values())
            began = time.monotonic()
            FAULTS[name](world)
            seconds = recover(world, began, time.monotonic())
            time.sleep(1)
            print(f"{options.label}: {name}: recovered in {seconds:.2f} s, refused meanwhile {sum(ledger.refused.values()) - refused}, "
                  f"acknowledged {sum(acknowledged(ledger)) - sum(before)}, slowest read {ledger.slowest:.1f} s", flush=True)
            if run.process.poll() is not None:
                crash.fail(f"the server ended in {name}", options.log)
        stop.set()
        for worker in workers:
            worker.join(LONGEST_ANSWER + 5)
        figures = crash.verify(run, ledger, ca)
        run.stop()
        prove(options)
    finally:
        if run.process and run.process.poll() is None:
            run.kill()
        if world.postgres and os.path.exists(f"{world.postgres.dir}/standby/postmaster.pid"):
            world.postgres.control("stop", "-m", "immediate", data="standby", check=False)
    with open(options.log, "rb") as log:
        figures["panics"] = log.read().count(b"panicked")
    total.update({"no answer": ledger.no_answer, "503 without Retry-After": ledger.without_wait, "wrong reads": ledger.wrong_reads})
    crash.report(options.label, options.scenarios, ledger, figures,
                 f"reads {ledger.reads}, " + ", ".join(f"{name} {count}" for name, count in total.items()))
    if any(total.values()):
        sys.exit("FAILED: see the figures above")


if __name__ == "__main__":
    main()
