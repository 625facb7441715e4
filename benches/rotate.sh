#!/usr/bin/env bash
# Rotates the key of a tenant with many secrets on PostgreSQL while others read and write: throughput and p99 before,
# during and after. Fails if one request fails, or if a row does not open afterwards.
#
#   benches/rotate.sh [--secrets N] [--seconds N] [--connections N]
# shellcheck source-path=SCRIPTDIR source=../scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

secrets=100000 seconds=10 connections=32
while (($# > 0)); do
  case $1 in
    --secrets) secrets=${2:?} && shift 2 ;;
    --seconds) seconds=${2:?} && shift 2 ;;
    --connections) connections=${2:?} && shift 2 ;;
    *) die "usage: benches/rotate.sh [--secrets N] [--seconds N] [--connections N]" ;;
  esac
done

scratch rotate
need wrk:wrk column:bsdextrautils curl:curl jq:jq initdb:postgresql python3:python3
server_binary --release
postgres_start --durable
url=$(postgres_vault rotate)
server_start rotate "$url"

sql() { "$PG_BIN/psql" -qAt -d rotate -c "$1"; }
keys() { "$SERVER" keys "$@" --data-dir "$SERVER_DATA" --database-url "$url"; }

# load SECONDS MODE WHICH: wrk in the background, its answer in $SCRATCH/wrk.txt; sets WRK_PID.
load() {
  wrk -t2 -c"$connections" -d"${1}s" --timeout 10s -s benches/rotate.lua "$URL" -- "$2" "$TOKEN" "$3" >"$SCRATCH/wrk.txt" 2>&1 &
  WRK_PID=$!
  remember "$WRK_PID"
}

# result WHAT: what wrk found; dies on a request that failed. Adds to ROWS.
ROWS=("when|requests|seconds|requests/s|p99 ms|failed")
result() {
  local word requests took p99 refused broken
  read -r word requests took p99 refused broken < <(grep '^RESULT ' "$SCRATCH/wrk.txt" || echo "none")
  [[ $word == RESULT ]] || die "wrk gave no result" "$SCRATCH/wrk.txt"
  ((refused == 0 && broken == 0)) || die "$1: $refused answers were no success, $broken connections broke" "$SCRATCH/wrk.txt"
  ROWS+=("$1|$requests|$took|$(awk -v n="$requests" -v s="$took" 'BEGIN { printf "%.0f", s ? n / s : 0 }')|$p99|0")
}

step "seeding $secrets secrets"
round=0
while (($(sql 'SELECT count(*) FROM secret') < secrets)); do
  round=$((round + 1))
  load 2 seed "$round"
  wait "$WRK_PID" || die "wrk" "$SCRATCH/wrk.txt"
  result "seeding"
done
paths=$SCRATCH/paths.txt
sql 'SELECT path FROM secret' >"$paths"
ROWS=("${ROWS[0]}")

step "before, $seconds s"
load "$seconds" mixed "$paths"
wait "$WRK_PID" || die "wrk" "$SCRATCH/wrk.txt"
result before

rows=$(sql 'SELECT count(*) FROM secret_version')
step "rotating the key of $TENANT, $rows rows"
load 3600 mixed "$paths"
began=$(date +%s.%N)
keys rotate-tenant "$TENANT" >"$SCRATCH/rotate.txt" 2>"$SCRATCH/rotate.err" || die "rotate-tenant" "$SCRATCH/rotate.err"
took=$(awk -v a="$began" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
kill -INT "$WRK_PID"
wait "$WRK_PID" || true
result during
cat "$SCRATCH/rotate.txt"

step "after, $seconds s"
load "$seconds" mixed "$paths"
wait "$WRK_PID" || die "wrk" "$SCRATCH/wrk.txt"
result after

step "every key is opened"
keys verify 2>"$SCRATCH/verify.err" || die "keys verify" "$SCRATCH/verify.err"
left=$(sql 'SELECT count(*) FROM secret_version v JOIN tenant_key k ON k.id = v.key_id WHERE k.retired_at IS NOT NULL')
ok "$rows rows rotated in $took s; $left rows are under a retired key"
((left == 0)) || say "(written by the server with the key it had in its cache; its background work wraps them anew)"

step "$(uname -srm), $(nproc) CPUs, $connections connections"
printf '%s\n' "${ROWS[@]}" | column -t -s '|'
