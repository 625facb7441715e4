#!/usr/bin/env bash
# Whether certificates are found as fast among ten million as among a hundred thousand: on PostgreSQL, one search after the
# other over HTTP (release build), first with a hundredth of the rows. For each the p50 and p99 and their ratio.
#
#   benches/inventory.sh [--rows N] [--searches N]      a million rows and 100 of each search unless told
#
# Ten million take some 40 GB. What is filled in has the shape of real rows, but no certificate behind them.
# shellcheck source-path=SCRIPTDIR source=../scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

rows=1000000 searches=100
while (($# > 0)); do
  case $1 in
    --rows) rows=${2:?} && shift 2 ;;
    --searches) searches=${2:?} && shift 2 ;;
    *) die "usage: benches/inventory.sh [--rows N] [--searches N]" ;;
  esac
done

scratch inventory
need column:bsdextrautils curl:curl jq:jq openssl:openssl initdb:postgresql python3:python3
server_binary --release
postgres_start --durable
"$PG_BIN/psql" -Xqc "ALTER SYSTEM SET max_wal_size = '2GB'" -c "ALTER SYSTEM SET maintenance_work_mem = '512MB'" -c 'SELECT pg_reload_conf()' >/dev/null
database=$(postgres_vault inventory)
sql() { "$PG_BIN/psql" -XqAt -v ON_ERROR_STOP=1 -d inventory "$@"; }
admin() { call "$TOKEN" "$@"; }

server_start vault "$database"
sql -c "SELECT count(scaivault_make_partition('pki_certificate', (now() + make_interval(months => m))::date)) FROM generate_series(-13, 13) m" >/dev/null
CAS=()
for n in 0 1 2 3 4 5 6 7 8 9; do
  admin POST /v1/pki/ca '{"name": "scale-'"$n"'", "common_name": "Scale '"$n"'", "ca_type": "root", "key_type": "ec", "key_size": 256}'
  expect 201
  CAS+=("$(field .id)")
done
admin POST /v1/pki/roles '{"name": "scale", "ca_id": "'"${CAS[0]}"'", "allowed_domains": ["*.example.com"]}'
expect 201
admin POST /v1/pki/issue/scale '{"common_name": "template.example.com", "ttl": "24h"}'
expect 201
template=$(field .id)

# fill FROM TO: one in a hundred is revoked, one in a thousand on hold; two hundred roles, ten CAs; ends over two years.
fill() {
  sql -v from="$1" -v to="$2" -v tenant="$TENANT" -v cas="{$(IFS=, && echo "${CAS[*]}")}" -v template="$template" <<'SQL'
SET synchronous_commit = off;
SET session_replication_role = replica;
CREATE TEMP TABLE made AS SELECT n, 'cert_0' || lpad(n::text, 25, '0') AS id, (:'cas'::text[])[1 + n % 10] AS ca,
  '\x40'::bytea || substring(sha256(n::text::bytea) FOR 19) AS serial, date_trunc('second', now()) + (n % 730 - 365) * interval '1 day' AS ends,
  'role-' || n % 200 AS role, CASE WHEN n % 50 = 0 THEN 'user:u' || n % 5000 ELSE 'sa:main' END AS who,
  'h' || n || '.s' || n % 1000 || '.svc.example' AS name
FROM generate_series(:from::int, :to::int) n;
INSERT INTO pki_serial (tenant_id, ca_id, serial, certificate_id, source, not_after, key_hash, revoked_at, revocation_reason)
SELECT :'tenant', ca, serial, id, 'internal', ends, sha256(serial), CASE WHEN n % 100 = 0 THEN now() END,
  CASE WHEN n % 1000 = 0 THEN 'certificate_hold' WHEN n % 100 = 0 THEN 'superseded' END FROM made;
INSERT INTO pki_certificate (tenant_id, id, ca_id, serial, role, common_name, alt_names, ip_sans, certificate, fingerprint_sha256, not_before, not_after, source, issued_to, created_at)
SELECT :'tenant', made.id, ca, made.serial, made.role, name, jsonb_build_array(name), '[]', c.certificate, sha256(made.serial), ends - interval '30 days', ends, 'internal', who, now()
FROM made, pki_certificate c WHERE c.id = :'template';
INSERT INTO pki_term (tenant_id, field, value, certificate_id)
SELECT :'tenant', term.field, term.value, id FROM made CROSS JOIN LATERAL (VALUES ('role', role), ('by', who), ('cn', name), ('san', name),
  ('san', 's' || n % 1000 || '.svc.example'), ('san', 'svc.example'), ('san', 'example')) AS term (field, value);
SQL
}

# measure WHEN ROWS
measure() {
  sql -c 'VACUUM ANALYZE'
  python3 - "$URL" "$TOKEN" "$searches" "$2" "${CAS[0]}" <<'PY' >"$SCRATCH/$1"
import hashlib, http.client, json, random, sys, time
from urllib.parse import urlsplit
url, token, searches, rows, ca = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
connection = http.client.HTTPConnection(urlsplit(url).netloc)
random.seed(1)
serial = lambda n: b"\x40" + hashlib.sha256(str(n).encode()).digest()[:19]
KINDS = {
    "common name": lambda n: f"common_name=h{n}.s{n % 1000}.svc.example",
    "common name, its beginning": lambda n: f"common_name=h{n // 100}*",
    "alternative name, a label": lambda n: f"san=s{n % 1000}.svc",
    "alternative name of all": lambda n: "san=svc.example",
    "role": lambda n: f"role=role-{n % 200}",
    "requester of few": lambda n: f"requested_by=user:u{n % 100 * 50}",
    "requester of most": lambda n: "requested_by=sa:main",
    "CA": lambda n: f"ca_id={ca}",
    "serial number": lambda n: f"include_revoked=true&serial_number={serial(n).hex()}",
    "key": lambda n: f"include_revoked=true&key_hash={hashlib.sha256(serial(n)).hexdigest()}",
    "revoked": lambda n: "status=revoked",
    "on hold": lambda n: "status=on_hold",
    "active": lambda n: "status=active",
    "ending within 7 days, by expiry": lambda n: "expiring_within=7d&sort=expiry",
    "role and alternative name": lambda n: f"role=role-{n % 200}&san=s{n % 1000}.svc",
    "role, by expiry": lambda n: f"role=role-{n % 200}&sort=expiry",
    "count of all": lambda n: "include_revoked=true&count=true&limit=1",
    "summary": None,
}
for what, query in KINDS.items():
    times, found = [], 0
    for _ in range(searches):
        path = "/v1/pki/certificates/summary" if query is None else "/v1/pki/certificates?" + query(random.randrange(1, rows))
        began = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = json.loads(answer.read())
        times.append((time.perf_counter() - began) * 1000)
        assert answer.status == 200, (path, body)
        found += len(body.get("certificates", [1]))
    assert found, what
    times.sort()
    print(f"{what}|{times[len(times) // 2]:.1f}|{times[len(times) * 99 // 100]:.1f}", flush=True)
PY
}

few=$((rows / 100))
step "$few certificates"
fill 1 "$few"
measure few "$few"
step "$rows certificates"
at=$few
while ((at < rows)); do
  to=$((at + 500000 < rows ? at + 500000 : rows))
  fill $((at + 1)) "$to"
  at=$to
done
measure many "$rows"

step "$(uname -srm), $(nproc) CPUs, $searches searches of each kind one after the other, ms; tables of $(sql -c "SELECT pg_size_pretty(pg_database_size('inventory'))")"
{
  echo "what|$few p50|p99|$rows p50|p99|ratio of p50"
  paste -d'|' "$SCRATCH/few" "$SCRATCH/many" | awk -F'|' '{ printf "%s|%s|%s|%s|%s|%.2f\n", $1, $2, $3, $5, $6, $5 / $2 }'
} | column -t -s '|'
stop "$SERVER_PID"
