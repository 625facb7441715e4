#!/usr/bin/env bash
# Requests a second and p99 of secret read, secret write and P-256 issue, on SQLite and PostgreSQL (release build),
# beside what the same machine and the same PostgreSQL do in the same run without us: `pgbench -S`, and a durable
# insert of one row by as many clients; and how often each asked the provider of the root key. The ratios are what to
# look at; absolute figures belong to the machine.
#
#   benches/load.sh [--seconds N] [--connections N]
# shellcheck disable=SC2016 # jq filters are in single quotes
# shellcheck source-path=SCRIPTDIR source=../scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

seconds=10 connections=32
while (($# > 0)); do
  case $1 in
    --seconds) seconds=${2:?} && shift 2 ;;
    --connections) connections=${2:?} && shift 2 ;;
    *) die "usage: benches/load.sh [--seconds N] [--connections N]" ;;
  esac
done

scratch load
need wrk:wrk column:bsdextrautils curl:curl jq:jq initdb:postgresql python3:python3
server_binary --release
postgres_start --durable

ROWS=() # "what|requests a second|p99 in ms|compared with|requests a second of that|KMS calls"

# pg_bench NAME OPTION...: sets RATE and P99.
pg_bench() {
  local name=$1 log=$SCRATCH/pgbench-$1
  shift
  mkdir "$log"
  "$PG_BIN/pgbench" -n -c "$connections" -j 2 -T "$seconds" -l --log-prefix="$log/t" "$@" pgbench >"$log.txt" 2>"$log.err" \
    || die "pgbench" "$log.err"
  RATE=$(sed -n 's/^tps = \([0-9]*\).*/\1/p' "$log.txt")
  # The third column of its log is the time of a transaction in microseconds.
  P99=$(cat "$log"/t* | awk '{ print $3 }' | sort -n | awk '{ v[NR] = $1 } END { printf "%.2f", v[int(NR * 0.99) + (NR < 100)] / 1000 }')
}

postgres_database pgbench >/dev/null
"$PG_BIN/pgbench" -i -q -s 10 pgbench >"$SCRATCH/init.txt" 2>&1 || die "pgbench -i" "$SCRATCH/init.txt"
"$PG_BIN/psql" -q -d pgbench -c 'CREATE TABLE durable (id bigserial PRIMARY KEY, body text NOT NULL)'
printf "INSERT INTO durable (body) VALUES (repeat('s', 300));\n" >"$SCRATCH/insert.sql"

step "pgbench, $connections clients, $seconds s each"
pg_bench select -S
select_rate=$RATE
ROWS+=("pgbench -S|$RATE|$P99||")
pg_bench insert -f "$SCRATCH/insert.sql"
insert_rate=$RATE
ROWS+=("durable insert of one row, PostgreSQL|$RATE|$P99||")

# How often this disk takes a flush from one writer: the bound for a store that flushes once a write.
flush_rate=$(python3 - "$SCRATCH/flush" "$seconds" <<'PY'
import os, sys, time
fd, end, count = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), time.monotonic() + min(3, float(sys.argv[2])), 0
while time.monotonic() < end:
    os.write(fd, b"s" * 4096)
    os.fdatasync(fd)
    count += 1
print(int(count / min(3, float(sys.argv[2]))))
PY
)
ROWS+=("4 KiB append and fdatasync, one writer|$flush_rate|||")

# How often the provider of the root key was called so far.
kms_calls() {
  call "$TOKEN" GET /v1/metrics
  expect 200
  sed -n 's/^scaivault_kms_calls_total //p' "$SCRATCH/answer"
}

# load WHAT MODE COMPARED RATE
load() {
  local rate p99 refused broken word calls
  calls=$(kms_calls)
  wrk -t2 -c"$connections" -d"${seconds}s" --timeout 10s -s benches/load.lua "$URL" -- "$2" "$TOKEN" "r$SECONDS" >"$SCRATCH/wrk.txt" 2>&1 \
    || die "wrk" "$SCRATCH/wrk.txt"
  read -r word rate p99 refused broken < <(grep '^RESULT ' "$SCRATCH/wrk.txt" || echo "none")
  [[ $word == RESULT ]] || die "wrk gave no result" "$SCRATCH/wrk.txt"
  ((refused == 0 && broken == 0)) || die "$1: $refused answers were no success, $broken connections broke" "$SCRATCH/wrk.txt"
  ROWS+=("$1|$rate|$p99|$3|$4|$(($(kms_calls) - calls))")
}

admin() { call "$TOKEN" "$@"; }
for store in SQLite PostgreSQL; do
  url=
  if [[ $store == PostgreSQL ]]; then url=$(postgres_vault load); fi
  server_start "$store" "$url"
  admin PUT /v1/secrets/load/read '{"data": {"password": "ssssssssssssssssssssssssssssssss", "user": "app"}}'
  expect 201
  admin POST /v1/pki/ca '{"name": "load", "common_name": "Load", "ca_type": "root", "key_type": "ec", "key_size": 256}'
  expect 201
  admin POST /v1/pki/roles '{"name": "load", "ca_id": "'"$(field .id)"'", "allowed_domains": ["*.example.com"]}'
  expect 201
  step "wrk -t2 -c$connections -d${seconds}s on $store"
  load "secret read, $store" read 'pgbench -S' "$select_rate"
  load "secret write, $store" write 'durable insert' "$insert_rate"
  load "issue P-256, $store" issue 'durable insert' "$insert_rate"
  stop "$SERVER_PID"
done

step "$(uname -srm), $(nproc) CPUs, $connections connections, $seconds s each"
{
  echo "what|requests/s|p99 ms|ratio|KMS calls"
  for row in "${ROWS[@]}"; do
    IFS='|' read -r what rate p99 compared base calls <<<"$row"
    ratio=
    if [[ -n $compared ]]; then ratio=$(awk -v a="$rate" -v b="$base" -v c="$compared" 'BEGIN { printf "%.2f of %s", b ? a / b : 0, c }'); fi
    echo "$what|$rate|${p99:--}|${ratio:--}|${calls:--}"
  done
} | column -t -s '|'
