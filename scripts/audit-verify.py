#!/usr/bin/env python3
"""Judges an exported audit trail with nothing but docs/AUDIT.md: Python's hashlib, and openssl for signatures.

    scripts/audit-verify.py TRAIL.jsonl PUBLIC-KEY.pem      exit 0: good, 1: bad
"""
import base64, hashlib, json, subprocess, sys, tempfile
from datetime import datetime, timedelta, timezone

VERSION, ALGORITHM, ZEROS = "scaivault-audit-v1", "ecdsa-p256-sha256", "00" * 32


def part(value):
    if value is None:
        return b"\x00"
    if isinstance(value, bool):
        value = bytes([value])
    elif isinstance(value, int):
        value = value.to_bytes(8, "big", signed=True)
    elif isinstance(value, str):
        value = value.encode()
    return b"\x01" + len(value).to_bytes(4, "big") + value


def micros(text):
    return (datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
            - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)


def encode(*values):
    return b"".join(part(value) for value in (VERSION, *values))


def record_hash(r):
    extra = json.dumps(r["extra_data"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(encode(
        "record", r["tenant_id"], r["seq"], bytes.fromhex(r["prev_hash"]), r["id"], micros(r["timestamp"]), r["action"],
        r["identity_type"], r["identity_id"], r["acting_tenant_id"], r["resource_type"], r["resource_id"], r["secret_path"],
        r["source_ip"], r["user_agent"], r["success"], r["error_code"], r["duration_ms"], r["request_id"], extra)).hexdigest()


def signed(c, key):
    der = subprocess.run(["openssl", "pkey", "-pubin", "-in", key, "-outform", "DER"], capture_output=True, check=True).stdout
    message = encode("checkpoint", c["tenant_id"], c["seq"], bytes.fromhex(c["hash"]), micros(c["timestamp"]), c["purpose"],
                     c["algorithm"], c["key_id"])
    with tempfile.NamedTemporaryFile() as signature:
        signature.write(base64.b64decode(c["signature"], validate=True))
        signature.flush()
        said = subprocess.run(["openssl", "dgst", "-sha256", "-verify", key, "-signature", signature.name], input=message,
                              capture_output=True)
    return said.returncode == 0 and c["algorithm"] == ALGORITHM and c["key_id"] == hashlib.sha256(der).hexdigest()


def judge(lines, key):
    header = json.loads(next(lines))
    base, end, tenant = header["begins_after"], header["ends_with"], header["tenant_id"]
    seq, last, proofs = 0, ZEROS, {}
    for c in filter(None, (base, end)):
        if c["tenant_id"] != tenant or not signed(c, key):
            return f"checkpoint {c['seq']} of the header is not signed by the key for this tenant"
    if base:
        if base["purpose"] != "retention":
            return f"record {base['seq']} and those before it are missing, and were not retired by retention"
        seq, last = base["seq"], base["hash"]
    proofs[end["seq"]] = end["hash"]
    for r in map(json.loads, lines):
        if r.pop("type") == "checkpoint":
            if r["seq"] > seq and (r["tenant_id"] != tenant or not signed(r, key) or proofs.setdefault(r["seq"], r["hash"]) != r["hash"]):
                return f"checkpoint {r['seq']} is not signed by the key for this tenant, or contradicts another"
            continue
        if r["seq"] != seq + 1 or r["tenant_id"] != tenant:
            return f"record {seq + 1} should be here; here is {r['seq']} ({r['id']}) of {r['tenant_id']}"
        if record_hash(r) != r["hash"] or r["prev_hash"] != last or proofs.get(r["seq"], r["hash"]) != r["hash"]:
            return f"record {r['seq']} ({r['id']}) was changed, or does not follow the one before it"
        seq, last = r["seq"], r["hash"]
    if seq != max(proofs):
        return f"record {seq + 1} is missing, or signed for by no checkpoint"
    print(f"good: {tenant}, records up to {seq}, signed {end['timestamp']}")


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        fault = judge(file, sys.argv[2])
    if fault:
        sys.exit(f"BAD: {fault}")
