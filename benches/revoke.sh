#!/usr/bin/env bash
# Whether a CA that revoked a million certificates revokes the next one as fast: on PostgreSQL, with a CA of 128 lists and
# their deltas, first with a thousand revoked certificates and then with N. Release build. For each the p50 and p99 of a
# revocation, how long a list and a delta take to build, what that adds to the memory of the server at its peak, and how
# long both are in octets; and the ratios.
#
#   benches/revoke.sh [--rows N] [--revocations N]      a million rows and 500 revocations unless told
#
# What is filled in has the shape of real rows, but no certificate behind them.
# shellcheck source-path=SCRIPTDIR source=../scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

rows=1000000 revocations=500
while (($# > 0)); do
  case $1 in
    --rows) rows=${2:?} && shift 2 ;;
    --revocations) revocations=${2:?} && shift 2 ;;
    *) die "usage: benches/revoke.sh [--rows N] [--revocations N]" ;;
  esac
done

scratch revoke
need column:bsdextrautils curl:curl jq:jq initdb:postgresql python3:python3
server_binary --release
postgres_start --durable
"$PG_BIN/psql" -Xqc "ALTER SYSTEM SET max_wal_size = '2GB'" -c "ALTER SYSTEM SET checkpoint_timeout = '1h'" -c 'SELECT pg_reload_conf()' >/dev/null
database=$(postgres_vault revoke)
sql() { "$PG_BIN/psql" -XqAt -v ON_ERROR_STOP=1 -d revoke "$@"; }
admin() { call "$TOKEN" "$@"; }

server_start vault "$database"
admin POST /v1/pki/ca '{"name": "scale", "common_name": "Scale", "ca_type": "root", "key_type": "ec", "key_size": 256, "crl_shards": 128, "delta_crls": true}'
expect 201
ca=$(field .id)
admin POST /v1/pki/roles '{"name": "scale", "ca_id": "'"$ca"'", "allowed_domains": ["*.example.com"]}'
expect 201

memory() { sed -n "s/^$1:[[:space:]]*\([0-9]*\).*/\1/p" "/proc/$SERVER_PID/status"; }

# built WHICH: waits until no list is due; WHICH is what tells lists from deltas in the audit trail.
built() {
  local n
  for ((n = 0; n < 600; n++)); do
    [[ $(sql -c "SELECT count(*) FROM pki_crl WHERE due_at <= now() OR delta_due_at <= now() OR crl IS NULL AND shard >= 0") == 0 ]] && break
    sleep 1
  done
  ((n < 600)) || die "lists are due for ten minutes" "$SCRATCH/vault.log"
  sql -c "SELECT COALESCE(round(percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms)), 0) || ' ' || COALESCE(max(duration_ms), 0) FROM audit_log
    WHERE action = 'pki_crl_build' AND success AND extra_data ? 'shard' AND $1 extra_data ? 'delta' AND timestamp > '$SINCE'"
}

# fill FROM TO
fill() {
  sql -v from="$1" -v to="$2" -v tenant="$TENANT" -v ca="$ca" <<'SQL'
SET synchronous_commit = off;
SET session_replication_role = replica;
INSERT INTO pki_serial (tenant_id, ca_id, serial, certificate_id, source, not_after, shard, revoked_at, revocation_reason)
SELECT :'tenant', :'ca', '\x40'::bytea || set_byte('\x00'::bytea, 0, n % 128) || substring(sha256(n::text::bytea) FOR 18),
    'cert_0' || lpad(n::text, 25, '0'), 'internal', now() + interval '300 days', n % 128, now(), 'superseded'
FROM generate_series(:from::int, :to::int) n;
SQL
  sql -c 'VACUUM ANALYZE' -c CHECKPOINT
}

declare -A SAID
SINCE=$(sql -c 'SELECT now()')
# measure WHEN
measure() {
  local before
  built '' >/dev/null
  SINCE=$(sql -c 'SELECT now()')
  before=$(memory VmRSS)
  echo 5 >"/proc/$SERVER_PID/clear_refs"
  sql -c "UPDATE pki_crl SET due_at = now() WHERE ca_id = '$ca'"
  read -r "SAID[$1-list p50 ms]" "SAID[$1-list max ms]" < <(built NOT)
  SAID[$1-memory KiB]=$(($(memory VmHWM) - before))
  SINCE=$(sql -c 'SELECT now()')
  python3 - "$URL" "$TOKEN" "$revocations" >"$SCRATCH/revoked" <<'PY'
import http.client, json, sys, time
from urllib.parse import urlsplit
connection, token = http.client.HTTPConnection(urlsplit(sys.argv[1]).netloc), sys.argv[2]
def call(path, body):
    began = time.perf_counter()
    connection.request("POST", path, json.dumps(body), {"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
    answer = connection.getresponse()
    found = json.loads(answer.read())
    assert answer.status in (200, 201), found
    return found, (time.perf_counter() - began) * 1000
serials = [call("/v1/pki/issue/scale", {"common_name": "a.example.com", "ttl": "24h"})[0]["serial_number"] for _ in range(int(sys.argv[3]))]
times = sorted(call("/v1/pki/revoke", {"serial_number": serial, "reason": "superseded"})[1] for serial in serials)
print(f"{times[len(times) // 2]:.2f} {times[len(times) * 99 // 100]:.2f}")
PY
  read -r "SAID[$1-revoke p50 ms]" "SAID[$1-revoke p99 ms]" <"$SCRATCH/revoked"
  read -r "SAID[$1-delta p50 ms]" "SAID[$1-delta max ms]" < <(built '')
  SAID[$1-list octets]=$(curl -sSf "$URL/v1/pki/ca/$ca/crl/7" | wc -c)
  SAID[$1-delta octets]=$(curl -sSf "$URL/v1/pki/ca/$ca/crl/7/delta" | wc -c)
}

step "a thousand revoked certificates"
fill 1 1000
measure few
step "$rows revoked certificates"
fill 1001 "$rows"
measure many

step "$(uname -srm), $(nproc) CPUs; one of 128 lists, $revocations revocations one after the other"
{
  echo "what|1000|$rows|ratio"
  for what in 'revoke p50 ms' 'revoke p99 ms' 'list p50 ms' 'list max ms' 'delta p50 ms' 'delta max ms' 'memory KiB' 'list octets' 'delta octets'; do
    awk -v n="$what" -v a="${SAID[few-$what]}" -v b="${SAID[many-$what]}" 'BEGIN { printf "%s|%s|%s|%.2f\n", n, a, b, (a > 0 ? b / a : 0) }'
  done
} | column -t -s '|'
stop "$SERVER_PID"
