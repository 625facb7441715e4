#!/usr/bin/env bash
# Whether the vault stays as fast when it is full: the same requests on PostgreSQL with a thousand rows of each kind,
# and with N secrets, N certificates and ten times N audit records (spread over two years). Release build. For each the
# p50 and p99 before and after, and their ratio; the time a server takes to be ready; and how PostgreSQL plans the
# statements.
#
#   benches/scale.sh [--rows N] [--seconds N] [--keep-plans FILE]      a million rows unless told
#
# What is filled in has the shape of real rows, but not their seals: only the first thousand are ever read.
# shellcheck source-path=SCRIPTDIR source=../scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

rows=1000000 seconds=5 plans=
while (($# > 0)); do
  case $1 in
    --rows) rows=${2:?} && shift 2 ;;
    --seconds) seconds=${2:?} && shift 2 ;;
    --keep-plans) plans=${2:?} && shift 2 ;;
    *) die "usage: benches/scale.sh [--rows N] [--seconds N] [--keep-plans FILE]" ;;
  esac
done

scratch scale
need wrk:wrk column:bsdextrautils curl:curl jq:jq initdb:postgresql python3:python3
server_binary --release
postgres_start --durable
"$PG_BIN/psql" -Xqc "ALTER SYSTEM SET max_wal_size = '2GB'" -c "ALTER SYSTEM SET checkpoint_timeout = '1h'" -c 'SELECT pg_reload_conf()' >/dev/null
database=$(postgres_vault scale)
sql() { "$PG_BIN/psql" -XqAt -v ON_ERROR_STOP=1 -d scale "$@"; }

admin() { call "$TOKEN" "$@"; }
# start: the server; sets READY to the milliseconds until it was.
start() {
  local began
  began=$(date +%s%N)
  server_start vault "$database"
  READY=$((($(date +%s%N) - began) / 1000000))
}

step "a thousand rows of each kind"
start
admin POST /v1/pki/ca '{"name": "scale", "common_name": "Scale", "ca_type": "root", "key_type": "ec", "key_size": 256}'
expect 201
ca=$(field .id)
admin POST /v1/pki/roles '{"name": "scale", "ca_id": "'"$ca"'", "allowed_domains": ["*.example.com"]}'
expect 201
python3 - "$URL" "$TOKEN" "$SCRATCH" <<'PY'
import http.client, json, sys, threading
from urllib.parse import urlsplit
host, token, folder = urlsplit(sys.argv[1]).netloc, sys.argv[2], sys.argv[3]
ids, lock = [], threading.Lock()
def work(part):
    connection = http.client.HTTPConnection(host)
    for n in range(part, 1000, 8):
        for method, path, body in (("PUT", f"/v1/secrets/scale/{n:04}", {"data": {"k": "v" * 64}, "metadata": {"tags": ["scale"]}}),
                                   ("POST", "/v1/pki/issue/scale", {"common_name": f"c{n}.example.com", "ttl": "24h"})):
            connection.request(method, path, json.dumps(body), {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
            answer = connection.getresponse()
            found = json.loads(answer.read())
            assert answer.status in (200, 201), found
        with lock:
            ids.append(found["id"])
threads = [threading.Thread(target=work, args=(part,)) for part in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
def write(name, lines):
    with open(f"{folder}/{name}.paths", "w") as file:
        file.write("\n".join(lines) + "\n")
write("read", [f"/v1/secrets/scale/{n:04}" for n in range(1000)])
write("put", [f"/v1/secrets/scale-put/{n:04}" for n in range(1000)])
write("list", [f"/v1/secrets?prefix=scale/{n:02}&limit=100" for n in range(10)])
write("tagged", ["/v1/secrets?tag=scale&limit=100"])
write("certificate", [f"/v1/pki/certificates/{identity}" for identity in ids])
write("certificates", ["/v1/pki/certificates?limit=100"])
write("issue", ["/v1/pki/issue/scale"])
write("ca", ["/v1/pki/ca"])
write("logs", ["/v1/audit/logs?limit=100"])
write("by-path", [f"/v1/audit/logs?path_prefix=scale/{n:04}&limit=100" for n in range(1000)])
write("by-who", ["/v1/audit/logs?identity_id=user:nobody@example.com&limit=100", "/v1/audit/logs?action=delete&limit=100"])
write("trail", [f"/v1/audit/secrets/scale/{n:04}?limit=100" for n in range(1000)])
PY

KINDS=(read:GET list:GET tagged:GET put:PUT issue:POST certificate:GET certificates:GET ca:GET logs:GET by-path:GET by-who:GET trail:GET)
declare -A P50 P99
# measure WHEN
measure() {
  local kind name method body word _rate p50 p99 bad
  for kind in "${KINDS[@]}"; do
    name=${kind%%:*} method=${kind#*:} body=
    case $name in
      put) body='{"data":{"k":"v"}}' ;;
      issue) body='{"common_name":"load.example.com","ttl":"24h"}' ;;
    esac
    # Once to warm up, as a server in use is.
    for ((word = 0; word < 2; word++)); do
      wrk -t1 -c2 -d"$((word == 0 ? 1 : seconds))s" --timeout 10s -s benches/scale.lua "$URL" -- "$method" "$TOKEN" "$SCRATCH/$name.paths" "$body" \
        >"$SCRATCH/wrk.txt" 2>&1 || die "wrk" "$SCRATCH/wrk.txt"
    done
    read -r word _rate p50 p99 bad < <(grep '^RESULT ' "$SCRATCH/wrk.txt" || echo none)
    [[ $word == RESULT && $bad == 0 ]] || die "$name: answers that were no success" "$SCRATCH/wrk.txt"
    P50[$1-$name]=$p50 P99[$1-$name]=$p99
  done
}
stop "$SERVER_PID"
# The months are the same before and after: it is rows that make the difference.
sql <<'SQL'
SELECT count(scaivault_make_partition('pki_certificate', (now() + make_interval(months => m))::date)) AS months FROM generate_series(-12, 12) m;
SELECT count(scaivault_make_partition('audit_log', (now() - make_interval(months => m))::date)) AS months FROM generate_series(0, 25) m;
SQL
sql -c 'VACUUM ANALYZE'
start
ready_before=$READY
step "measuring, $seconds s each"
measure before
stop "$SERVER_PID"

step "filling: $rows secrets, $rows certificates, $((rows * 10)) audit records"
filled=$SECONDS
sql -v rows="$rows" -v tenant="$TENANT" -v ca="$ca" <<'SQL'
SET synchronous_commit = off;
SET session_replication_role = replica;
INSERT INTO secret (tenant_id, path, id, secret_type, current_version, max_versions, metadata, notify_before, created_at, updated_at)
SELECT :'tenant', 'fill/' || (n % 1000) || '/' || n, 'sec_fill' || lpad(n::text, 22, '0'), 'json', 1, 10, '{}', '30d', now(), now()
FROM generate_series(1, :rows) n;
INSERT INTO secret_version (tenant_id, secret_id, version, ciphertext, wrapped_key, key_id, created_at, created_by)
SELECT :'tenant', 'sec_fill' || lpad(n::text, 22, '0'), 1, v.ciphertext, v.wrapped_key, v.key_id, now(), 'user:fill'
FROM generate_series(1, :rows) n, (SELECT * FROM secret_version LIMIT 1) v;
INSERT INTO secret_tag SELECT :'tenant', 'sec_fill' || lpad(n::text, 22, '0'), 'fill', 'fill/' || (n % 1000) || '/' || n
FROM generate_series(1, :rows) n;
CREATE TEMP TABLE filled AS SELECT n, 'cert_0' || lpad(n::text, 25, '0') AS id, sha256(n::text::bytea) AS serial,
    date_trunc('second', now() + make_interval(secs => (n::float8 / :rows - 0.5) * 63000000)) AS not_after FROM generate_series(1, :rows) n;
INSERT INTO pki_serial (tenant_id, ca_id, serial, certificate_id, source, not_after)
SELECT :'tenant', :'ca', serial, id, 'internal', not_after FROM filled;
INSERT INTO pki_certificate (tenant_id, id, ca_id, serial, role, common_name, alt_names, ip_sans, certificate, fingerprint_sha256,
    not_before, not_after, source, issued_to, created_at)
SELECT :'tenant', f.id, :'ca', f.serial, 'scale', 'fill.example.com', c.alt_names, c.ip_sans, c.certificate, f.serial,
    f.not_after - interval '1 day', f.not_after, 'internal', 'user:fill', f.not_after
FROM filled f, (SELECT * FROM pki_certificate WHERE source = 'internal' LIMIT 1) c;
SQL
for ((part = 0; part < 10; part++)); do
  sql -v rows="$rows" -v part="$part" -v tenant="$TENANT" <<'SQL'
SET synchronous_commit = off;
SET session_replication_role = replica;
INSERT INTO audit_log (tenant_id, seq, prev_hash, hash, id, timestamp, action, identity_type, identity_id, acting_tenant_id,
    resource_type, resource_id, secret_path, source_ip, user_agent, success, error_code, duration_ms, request_id, extra_data)
SELECT :'tenant', h.seq + n, h.hash, h.hash, 'log_fill' || lpad(n::text, 20, '0'),
    now() - make_interval(secs => (1 - n / (:rows * 10.0)) * 63000000 + 60), (ARRAY['read', 'write', 'list', 'pki_issue'])[1 + n % 4],
    'user', 'user:' || (n % 5000) || '@example.com', :'tenant', 'secret', 'sec_fill' || (n % :rows), 'fill/' || (n % 1000) || '/' || (n % :rows),
    '10.0.' || (n / 256 % 256) || '.' || (n % 256), 'fill', n % 50 <> 0, CASE WHEN n % 50 = 0 THEN 'access_denied' END, 2, 'req_fill' || n, '{}'
FROM generate_series(:part * :rows::bigint + 1, (:part + 1) * :rows::bigint) n, (SELECT seq, hash FROM audit_head WHERE tenant_id = :'tenant') h;
SQL
done
sql -v rows="$rows" -v tenant="$TENANT" <<'SQL'
UPDATE audit_head SET seq = seq + :rows * 10::bigint WHERE tenant_id = :'tenant';
SQL
sql -c 'VACUUM ANALYZE' -c 'CHECKPOINT'
say "filled in $((SECONDS - filled)) s; $(sql -c "SELECT pg_size_pretty(pg_database_size('scale'))")"

start
ready_after=$READY
# As the hourly work does: also counts what was issued, once.
admin POST "/v1/pki/ca/$ca/crl"
expect 200
step "measuring, $seconds s each"
measure after

step "$(uname -srm), $(nproc) CPUs, 2 connections, $seconds s each; ready in $ready_before ms, and $ready_after ms"
{
  echo "what|p50 ms|p99 ms|p50 ms full|p99 ms full|p50 ratio|p99 ratio"
  for kind in "${KINDS[@]}"; do
    name=${kind%%:*}
    awk -v n="$name" -v a="${P50[before-$name]}" -v b="${P99[before-$name]}" -v c="${P50[after-$name]}" -v d="${P99[after-$name]}" \
      'BEGIN { printf "%s|%s|%s|%s|%s|%.2f|%.2f\n", n, a, b, c, d, a ? c / a : 0, b ? d / b : 0 }'
  done
} | column -t -s '|'

step "plans"
{
  explain() { printf '\n-- %s\n' "$1" && sql -c "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) $2"; }
  t="tenant_id = '$TENANT'"
  explain "read a secret" "SELECT s.id, v.ciphertext FROM secret s LEFT JOIN secret_version v ON v.tenant_id = s.tenant_id AND v.secret_id = s.id AND v.version = s.current_version WHERE s.$t AND s.path = 'scale/0001'"
  explain "list secrets" "SELECT path FROM secret WHERE $t AND path > 'scale/' AND path >= 'scale/' AND path < 'scale0' AND deleted_at IS NULL ORDER BY path LIMIT 500"
  explain "list by tag" "SELECT t.path FROM secret_tag t JOIN secret s ON s.tenant_id = t.tenant_id AND s.id = t.secret_id WHERE t.$t AND t.tag = 'scale' AND s.deleted_at IS NULL ORDER BY t.path LIMIT 500"
  explain "list certificates" "SELECT certificate_id, not_after, revoked_at, revocation_reason FROM pki_serial WHERE $t ORDER BY certificate_id DESC LIMIT 101"
  explain "one certificate" "SELECT id FROM pki_certificate WHERE $t AND id = 'cert_00000000000000000000000500' AND not_after = (SELECT not_after FROM pki_serial WHERE $t AND certificate_id = 'cert_00000000000000000000000500')"
  explain "list of CAs, what one issued since it was last counted" "SELECT (SELECT count(*) FROM pki_serial i WHERE i.tenant_id = c.tenant_id AND i.ca_id = c.id AND i.certificate_id > c.counted_until AND i.certificate_id < 'cert_~' AND i.certificate_id <> COALESCE(c.certificate_id, '')) FROM pki_ca c WHERE c.$t ORDER BY c.id LIMIT 101"
  explain "OCSP" "SELECT serial, revoked_at FROM pki_serial WHERE $t AND ca_id = '$ca' AND serial IN ('\\x00')"
  explain "revoked certificates" "SELECT serial FROM pki_serial WHERE $t AND ca_id = '$ca' AND revoked_at IS NOT NULL AND not_after > now() ORDER BY serial"
  explain "audit, newest" "SELECT id FROM audit_log WHERE $t ORDER BY timestamp DESC, id DESC LIMIT 101"
  explain "audit, by path" "SELECT id FROM audit_log WHERE $t AND secret_path >= 'scale/0001' AND secret_path < 'scale/0002' ORDER BY timestamp DESC, id DESC LIMIT 101"
  explain "audit, by identity" "SELECT id FROM audit_log WHERE $t AND identity_id = 'user:17@example.com' ORDER BY timestamp DESC, id DESC LIMIT 101"
  explain "audit, by action" "SELECT id FROM audit_log WHERE $t AND action IN ('delete') ORDER BY timestamp DESC, id DESC LIMIT 101"
} >"$SCRATCH/plans.txt"
if [[ -n $plans ]]; then cp "$SCRATCH/plans.txt" "$plans"; else cat "$SCRATCH/plans.txt"; fi
