#!/usr/bin/env bash
# Requests a second and p99 of OCSP (an answer that is kept, and one signed afresh because a nonce was sent), of issuing and
# signing for each kind of key, all under a P-256 CA, on SQLite (release build); and the p99 of certificates with keys of RSA
# made by the server at a steady five requests a second. The ratios are what to look at; absolute figures belong to the
# machine.
#
#   benches/pki.sh [--seconds N] [--connections N]
# shellcheck source-path=SCRIPTDIR source=../scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

seconds=5 connections=16
while (($# > 0)); do
  case $1 in
    --seconds) seconds=${2:?} && shift 2 ;;
    --connections) connections=${2:?} && shift 2 ;;
    *) die "usage: benches/pki.sh [--seconds N] [--connections N]" ;;
  esac
done

scratch pki
need wrk:wrk column:bsdextrautils curl:curl jq:jq openssl:openssl python3:python3
server_binary --release
server_start vault
admin() { call "$TOKEN" "$@"; }

ROWS=() # "what|requests a second|p99 in ms"
base=

# load WHAT PATH TYPE BODY-FILE [TOKEN]
load() {
  local rate p99 refused broken word
  wrk -t2 -c"$connections" -d"${seconds}s" --timeout 30s -s benches/pki.lua "$URL" -- "$2" "$3" "$4" "${5-}" >"$SCRATCH/wrk.txt" 2>&1 \
    || die "wrk" "$SCRATCH/wrk.txt"
  read -r word rate p99 refused broken < <(grep '^RESULT ' "$SCRATCH/wrk.txt" || echo "none")
  [[ $word == RESULT ]] || die "wrk gave no result" "$SCRATCH/wrk.txt"
  ((refused == 0 && broken == 0)) || die "$1: $refused answers were no success, $broken connections broke" "$SCRATCH/wrk.txt"
  ROWS+=("$1|$rate|$p99")
  : "${base:=$rate}"
}

admin POST /v1/pki/ca '{"name": "load", "common_name": "Load", "ca_type": "root", "key_type": "ec", "key_size": 256}'
expect 201
ca=$(field .id)
admin GET "/v1/pki/ca/$ca/certificate"
expect 200
field .certificate_pem >"$SCRATCH/ca.pem"

# role NAME KEY-FIELDS
role() {
  admin POST /v1/pki/roles '{"name": "'"$1"'", "ca_id": "'"$ca"'", "allowed_domains": ["*.example.com"], '"$2"'}'
  expect 201
}
role ocsp '"key_type": "ec", "key_bits": 256'
printf '{"common_name": "load.example.com", "ttl": "24h"}' >"$SCRATCH/issue.json"
admin POST /v1/pki/issue/ocsp "$(cat "$SCRATCH/issue.json")"
expect 201
field .certificate >"$SCRATCH/leaf.pem"
openssl ocsp -issuer "$SCRATCH/ca.pem" -cert "$SCRATCH/leaf.pem" -no_nonce -reqout "$SCRATCH/kept.der" >/dev/null 2>&1
openssl ocsp -issuer "$SCRATCH/ca.pem" -cert "$SCRATCH/leaf.pem" -nonce -reqout "$SCRATCH/fresh.der" >/dev/null 2>&1

step "wrk -t2 -c$connections -d${seconds}s"
load "OCSP, kept" "/v1/pki/ocsp/$ca" application/ocsp-request "$SCRATCH/kept.der"
load "OCSP, signed afresh (nonce)" "/v1/pki/ocsp/$ca" application/ocsp-request "$SCRATCH/fresh.der"

# each NAME KEY-FIELDS [GENPKEY-OPTION...]: without options nothing is signed that came with a request
each() {
  local name=$1
  role "$name" "$2"
  load "issue $name" "/v1/pki/issue/$name" application/json "$SCRATCH/issue.json" "$TOKEN"
  (($# > 2)) || return 0
  openssl genpkey -out "$SCRATCH/key.pem" "${@:3}" 2>/dev/null
  openssl req -new -key "$SCRATCH/key.pem" -subj /CN=load.example.com -out "$SCRATCH/csr.pem" 2>/dev/null
  jq -n --rawfile csr "$SCRATCH/csr.pem" '{csr_pem: $csr, ttl: "24h"}' >"$SCRATCH/sign.json"
  load "sign $name" "/v1/pki/sign/$name" application/json "$SCRATCH/sign.json" "$TOKEN"
}
each ec-256 '"key_type": "ec", "key_bits": 256' -algorithm EC -pkeyopt ec_paramgen_curve:P-256
each ec-384 '"key_type": "ec", "key_bits": 384' -algorithm EC -pkeyopt ec_paramgen_curve:P-384
each ec-521 '"key_type": "ec", "key_bits": 521' -algorithm EC -pkeyopt ec_paramgen_curve:P-521
each ed25519 '"key_type": "ed25519"' -algorithm ED25519
each rsa-2048 '"key_type": "rsa", "key_bits": 2048' -algorithm RSA -pkeyopt rsa_keygen_bits:2048
each rsa-3072 '"key_type": "rsa", "key_bits": 3072' -algorithm RSA -pkeyopt rsa_keygen_bits:3072
each rsa-4096 '"key_type": "rsa", "key_bits": 4096' -algorithm RSA -pkeyopt rsa_keygen_bits:4096
# OpenSSL has these since 3.5: without it there is nobody who makes a request.
for kind in ml-dsa-44 ml-dsa-65 ml-dsa-87; do
  if openssl list -public-key-algorithms | grep -qi "$kind"; then each "$kind" "\"key_type\": \"$kind\"" -algorithm "$kind"; else each "$kind" "\"key_type\": \"$kind\""; fi
done

step "RSA keys made by the server, five requests a second for 20 s"
python3 - "$URL/v1/pki/issue/rsa-2048" "$TOKEN" "$SCRATCH/issue.json" <<'PY' >"$SCRATCH/paced.txt"
import sys, threading, time, urllib.request
url, token, body = sys.argv[1], sys.argv[2], open(sys.argv[3], "rb").read()
times, began = [], time.monotonic()
def one(due):
    request = urllib.request.Request(url, body, {"Authorization": "Bearer " + token, "Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201, answer.status
        answer.read()
    times.append(time.monotonic() - due)
threads = []
for n in range(100):
    due = began + n / 5
    time.sleep(max(0, due - time.monotonic()))
    threads.append(threading.Thread(target=one, args=(due,)))
    threads[-1].start()
for thread in threads:
    thread.join()
times.sort()
assert len(times) == 100, len(times)
print(f"{1000 * times[49]:.1f} {1000 * times[98]:.1f}")
PY
read -r median p99 <"$SCRATCH/paced.txt"
ROWS+=("issue rsa-2048 at 5/s (median $median ms)|5|$p99")

step "$(uname -srm), $(nproc) CPUs, $connections connections, $seconds s each"
{
  echo "what|requests/s|p99 ms|ratio to OCSP, kept"
  for row in "${ROWS[@]}"; do
    IFS='|' read -r what rate p99 <<<"$row"
    echo "$what|$rate|$p99|$(awk -v a="$rate" -v b="$base" 'BEGIN { printf "%.3f", a / b }')"
  done
} | column -t -s '|'
stop "$SERVER_PID"
