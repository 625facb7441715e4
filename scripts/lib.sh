# shellcheck shell=bash disable=SC2034 # what is set here is used by the scripts that source it
# Shared by the scripts beside this file. Source it; do not run it.
#
#   . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#
# Everything a script starts is written down with its process id and start time, and exactly that is
# stopped again when the script ends, however it ends. Nothing is ever stopped by its name.

set -euo pipefail
shopt -s inherit_errexit
if [[ $- == *i* ]]; then
  echo "lib.sh: source this from a script, not from an interactive shell" >&2
  return 1
fi

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${SCAIVAULT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/scaivault-ci}
PATH=$PATH:/usr/sbin:/sbin
cd "$ROOT"

# ---------------------------------------------------------------- saying things

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }

# die MESSAGE [FILE]: stop here; the end of FILE (a log, a body) is shown as well.
die() {
  warn "FAILED: $1"
  if [[ -n ${2:-} && -s ${2:-} ]]; then
    warn "--- last lines of ${2##*/}"
    tail -n 30 "$2" >&2
  fi
  exit 1
}

# step TEXT: a heading with the time since the script began.
step() { printf '\n== [%4ds] %s\n' "$SECONDS" "$*"; }

OK_COUNT=0
# ok TEXT: one thing was shown to hold.
ok() {
  OK_COUNT=$((OK_COUNT + 1))
  printf 'ok %3d  %s\n' "$OK_COUNT" "$*"
}

# ---------------------------------------------------------------- what was started

SCRATCH=
STARTED=() # "pid:start time", so that a recycled process id is never taken for ours
POSTGRES_DIRS=()

# The start time of a process in clock ticks since boot: field 22 of its stat line, counted after the
# name, which may hold blanks and parentheses.
birth_of() {
  local line
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # shellcheck disable=SC2086 # split on purpose
  set -- ${line##*) }
  printf '%s' "${20}"
}

remember() { STARTED+=("$1:$(birth_of "$1" || echo gone)"); }

is_ours() {
  local pid=$1 entry born
  born=$(birth_of "$pid") || return 1
  for entry in "${STARTED[@]}"; do
    [[ $entry == "$pid:$born" ]] && return 0
  done
  return 1
}

# is_running PID: started by this script, and neither gone nor a zombie.
is_running() {
  local state
  is_ours "$1" || return 1
  state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 1
  [[ -n $state && $state != Z ]]
}

# stop PID [SECONDS]: ask, wait, insist.
stop() {
  local pid=$1 tries=$((${2:-15} * 10))
  is_running "$pid" || return 0
  kill -TERM "$pid" 2>/dev/null || true
  while ((tries-- > 0)); do
    is_running "$pid" || break
    sleep 0.1
  done
  if is_running "$pid"; then
    kill -KILL "$pid" 2>/dev/null || true
  fi
  wait "$pid" 2>/dev/null || true
}

cleanup() {
  local status=$? entry dir
  trap - EXIT INT TERM HUP
  set +e
  for entry in "${STARTED[@]}"; do stop "${entry%%:*}"; done
  for dir in "${POSTGRES_DIRS[@]}"; do postgres_stop "$dir"; done
  if [[ -n $SCRATCH ]]; then
    if [[ $status -ne 0 && ${KEEP_SCRATCH:-0} == 1 ]]; then
      warn "kept for reading: $SCRATCH"
    else
      rm -rf -- "$SCRATCH"
    fi
  fi
  exit "$status"
}

# scratch NAME: a private folder in $SCRATCH which goes away with the script. Set KEEP_SCRATCH=1 to
# keep it after a failure.
scratch() {
  SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/scaivault-$1.XXXXXXXX")
  chmod 711 "$SCRATCH" # a PostgreSQL under its own user has to pass through
  trap cleanup EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# A port nobody listens on, below the range from which the kernel takes ports for outgoing connections.
free_port() {
  python3 - <<'PY'
import random, socket
for _ in range(500):
    port = random.randint(20000, 31999)
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            continue
        print(port)
        break
else:
    raise SystemExit("no free port found")
PY
}

# wait_for_url URL PID LOG [SECONDS]: until URL answers 200, or PID ends, or the time is up.
wait_for_url() {
  local url=$1 pid=$2 log=$3 deadline=$((SECONDS + ${4:-60}))
  while ((SECONDS < deadline)); do
    curl -fsS -o /dev/null --max-time 5 "$url" 2>/dev/null && return 0
    is_running "$pid" || die "process $pid ended before $url answered" "$log"
    sleep 0.1
  done
  die "$url did not answer 200 in time" "$log"
}

# ---------------------------------------------------------------- what has to be installed

# need COMMAND:PACKAGE...: have each command, by the Debian package where it is missing.
need() {
  local pair missing=()
  for pair in "$@"; do
    if ! have "${pair%%:*}"; then missing+=("${pair#*:}"); fi
  done
  need_packages "${missing[@]}"
  for pair in "$@"; do
    have "${pair%%:*}" || die "'${pair%%:*}' is still missing after installing package '${pair#*:}'"
  done
}

have() {
  case $1 in
    initdb) [[ -n $(postgres_bin) ]] ;;
    python-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}

# need_packages NAME...: install these Debian packages, as root only, and without starting their services: for the
# time of the installation Debian's policy hook says no. A hook that was there already stays.
need_packages() {
  (($# > 0)) || return 0
  command -v apt-get >/dev/null 2>&1 || die "missing: $*. There is no apt-get here: install them by your own means"
  ((EUID == 0)) || die "missing: $*. Run once as root: apt-get install -y --no-install-recommends $*"
  say "installing: $*"
  (
    hook=/usr/sbin/policy-rc.d ours=
    log=$(mktemp "${SCRATCH:-${TMPDIR:-/tmp}}/apt.XXXXXXXX")
    trap 'rm -f -- "$log" $ours' EXIT
    if [[ ! -e $hook ]]; then
      ours=$hook
      printf '#!/bin/sh\nexit 101\n' >"$hook"
      chmod 755 "$hook"
    fi
    apt_get "$log" update || die "apt-get update failed" "$log"
    apt_get "$log" install -y --no-install-recommends "$@" || die "apt-get could not install: $*" "$log"
  )
}

apt_get() {
  local log=$1
  shift
  DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1 </dev/null
}

# A Python environment with the pinned tools of scripts/requirements.txt; its programs end up in $VENV/bin.
need_venv() {
  local wanted=$ROOT/scripts/requirements.txt
  VENV=$CACHE/venv
  if cmp -s "$wanted" "$VENV/installed.txt" && "$VENV/bin/python3" -c '' 2>/dev/null; then return 0; fi
  need python3:python3 python-venv:python3-venv
  say "making the Python environment in $VENV"
  mkdir -p "$CACHE"
  rm -rf -- "$VENV"
  python3 -m venv "$VENV"
  "$VENV/bin/pip" install --quiet --disable-pip-version-check --no-input -r "$wanted" \
    || die "pip could not install $wanted"
  cp "$wanted" "$VENV/installed.txt"
}

# need_node_modules FOLDER: the modules of FOLDER/package-lock.json, exactly; sets NODE_FOLDER, where they are.
need_node_modules() {
  local wanted=$ROOT/$1/package-lock.json log
  NODE_FOLDER=$CACHE/node-${1##*/}
  if cmp -s "$wanted" "$NODE_FOLDER/installed.json"; then return 0; fi
  say "installing the modules of $1 in $NODE_FOLDER"
  rm -rf -- "$NODE_FOLDER"
  mkdir -p "$NODE_FOLDER"
  cp "$ROOT/$1/package.json" "$wanted" "$NODE_FOLDER/"
  log=$NODE_FOLDER/log
  (cd "$NODE_FOLDER" && npm ci --ignore-scripts --no-audit --no-fund >"$log" 2>&1 </dev/null) \
    || die "npm could not install the modules of $1" "$log"
  cp "$wanted" "$NODE_FOLDER/installed.json"
}

# need_cargo_tool NAME VERSION: a cargo subcommand of exactly this version, built once into the cache;
# afterwards `cargo NAME` finds it.
need_cargo_tool() {
  local name=$1 version=$2 dir=$CACHE/tools-$1-$2
  if [[ ! -x $dir/bin/cargo-$name ]]; then
    say "building cargo-$name $version (once)"
    CARGO_TARGET_DIR=$CACHE/tools-build cargo install --quiet --locked --root "$dir" "cargo-$name@$version" \
      || die "cargo install cargo-$name failed"
    rm -rf -- "$CACHE/tools-build"
  fi
  PATH=$dir/bin:$PATH
}

# ---------------------------------------------------------------- a private PostgreSQL

# The folder with initdb, pg_ctl and pgbench: the newest version installed.
postgres_bin() {
  local dir
  dir=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
  if [[ -x $dir ]]; then
    dirname "$dir"
  elif command -v initdb >/dev/null 2>&1; then
    dirname "$(readlink -f "$(command -v initdb)")"
  fi
}

# PostgreSQL refuses to run as root: then it runs as the user that its package made.
as_postgres() {
  if ((EUID == 0)); then
    (cd / && runuser -u postgres -- "$@")
  else
    "$@"
  fi
}

# postgres_start [--durable]: a new cluster on a free port of 127.0.0.1 with its socket in the scratch
# folder. Sets PG_URL (of a superuser), PG_PORT, PG_DIR and PG_BIN. Without --durable it does not flush: for tests of
# behaviour only, never for crash tests or timings.
postgres_start() {
  local flush=off attempt log
  [[ ${1:-} == --durable ]] && flush=on
  need initdb:postgresql
  PG_BIN=$(postgres_bin)
  PG_DIR=$SCRATCH/postgres-${#POSTGRES_DIRS[@]}
  log=$PG_DIR/log
  mkdir -p "$PG_DIR"
  if ((EUID == 0)); then
    id postgres >/dev/null 2>&1 || die "running as root needs the user 'postgres' of Debian's package postgresql"
    chown postgres "$PG_DIR"
  fi
  as_postgres "$PG_BIN/initdb" -D "$PG_DIR/data" -U scaivault -A trust -E UTF8 --locale=C.UTF-8 >"$PG_DIR.initdb" 2>&1 \
    || die "initdb failed" "$PG_DIR.initdb"
  POSTGRES_DIRS+=("$PG_DIR")
  for attempt in 1 2 3; do
    PG_PORT=$(free_port)
    if as_postgres "$PG_BIN/pg_ctl" -D "$PG_DIR/data" -s -w -t 60 -l "$log" start -o "-c listen_addresses=127.0.0.1 \
        -c port=$PG_PORT -c unix_socket_directories='$PG_DIR' -c fsync=$flush -c max_connections=200" </dev/null; then
      # psql and pgbench from here on mean this server.
      export PGHOST=127.0.0.1 PGPORT=$PG_PORT PGUSER=scaivault PGDATABASE=postgres
      unset PGPASSWORD PGSERVICE PGOPTIONS
      PG_URL=postgres://scaivault@127.0.0.1:$PG_PORT/postgres
      return 0
    fi
    warn "PostgreSQL did not start on port $PG_PORT (attempt $attempt)"
  done
  die "PostgreSQL did not start" "$log"
}

# postgres_database NAME [CREATEDB OPTION...]: an empty database; prints its URL.
postgres_database() {
  "$PG_BIN/createdb" "$@" >&2
  printf '%s' "${PG_URL%/*}/$1"
}

# postgres_vault NAME [CREATEDB OPTION...]: a database with the vault's schema, made by its owner; prints its URL for the role that serves,
# which row-level security holds. Needs SERVER.
postgres_vault() {
  local url
  url=$(postgres_database "$@")
  # Nothing else of ours: an unknown SCAIVAULT_… is refused.
  env -i "DATABASE_URL=$url" LOG_LEVEL=warn "$SERVER" migrate --create-roles >&2 || die "the roles and the schema could not be made"
  printf '%s' "${url/scaivault@/scaivault_app@}"
}

postgres_stop() {
  [[ -f $1/data/postmaster.pid ]] || return 0
  as_postgres "$PG_BIN/pg_ctl" -D "$1/data" -s -w -t 30 -m fast stop </dev/null \
    || as_postgres "$PG_BIN/pg_ctl" -D "$1/data" -s -w -m immediate stop </dev/null || true
}

# ---------------------------------------------------------------- the server under test

# server_binary [--release]: builds the server (or takes $SCAIVAULT_SERVER) and sets SERVER.
server_binary() {
  local profile=debug flags=(--locked --quiet -p scaivault-server)
  if [[ ${1:-} == --release ]]; then
    profile=release
    flags+=(--release)
  fi
  if [[ -n ${SCAIVAULT_SERVER:-} ]]; then
    SERVER=$SCAIVAULT_SERVER
  else
    need jq:jq
    cargo build "${flags[@]}" || die "the server does not build"
    SERVER=$(cargo metadata --format-version 1 --no-deps --locked | jq -r .target_directory)/$profile/scaivault-server
  fi
  [[ -x $SERVER ]] || die "no server binary at $SERVER"
}

# server_start NAME [DATABASE_URL]: `dev` on a free port with its data in $SCRATCH/NAME; what it prints goes
# to NAME.out and NAME.err. Sets SERVER_PID, SERVER_DATA, URL, TENANT and TOKEN.
server_start() {
  local out=$SCRATCH/$1.out err=$SCRATCH/$1.err deadline=$((SECONDS + 60)) dev_flags=()
  SERVER_DATA=$SCRATCH/$1
  mkdir -p "$SERVER_DATA"
  if [[ -n ${2:-} ]]; then dev_flags=(--database-url "$2"); fi
  : >"$out"
  "$SERVER" dev --bind 127.0.0.1:0 --data-dir "$SERVER_DATA" "${dev_flags[@]}" \
    >"$out" 2>>"$err" </dev/null &
  SERVER_PID=$!
  remember "$SERVER_PID"
  until grep -q '^admin token: ' "$out"; do
    is_running "$SERVER_PID" || die "the server ended at its start" "$err"
    ((SECONDS < deadline)) || die "the server did not print its lines in time" "$err"
    sleep 0.05
  done
  URL=$(sed -n 's/^url: //p' "$out" | head -n 1)
  TENANT=$(sed -n 's/^tenant: //p' "$out" | head -n 1)
  TOKEN=$(sed -n 's/^admin token: //p' "$out" | head -n 1)
  [[ $URL == http://127.0.0.1:* ]] || die "expected a line 'url: http://127.0.0.1:…', got '$URL'" "$out"
  [[ -n $TENANT ]] || die "expected a line 'tenant: …'" "$out"
  [[ $TOKEN == eyJ* ]] || die "expected a line 'admin token: eyJ…', got '${TOKEN:0:8}…'" "$out"
  wait_for_url "$URL/v1/health/ready" "$SERVER_PID" "$err"
}

# ---------------------------------------------------------------- `serve`, as in production

# issuer_start: an identity provider for tests. Sets ISSUER_URL, TENANT and TOKEN (of an administrator). `token_of
# IDENTITY SCOPES [ROLE...]` prints others. Needs VENV.
issuer_start() {
  local dir=$SCRATCH/issuer deadline=$((SECONDS + 30)) pid
  mkdir -p "$dir"
  "$VENV/bin/python3" scripts/issuer.py "$dir" >"$dir/log" 2>&1 </dev/null &
  pid=$!
  remember "$pid"
  until [[ -s $dir/token ]]; do
    is_running "$pid" || die "the issuer ended at its start" "$dir/log"
    ((SECONDS < deadline)) || die "the issuer did not start in time" "$dir/log"
    sleep 0.05
  done
  # shellcheck disable=SC2034 # for whoever sources this
  ISSUER_URL=$(<"$dir/url") TENANT=tnt_test TOKEN=$(<"$dir/token")
}
token_of() { "$VENV/bin/python3" scripts/issuer.py "$SCRATCH/issuer" --token "$1" tnt_test "${@:2}"; }

# settings DATABASE_URL VARIABLE=VALUE...: sets SETTINGS, the whole environment of a server; it listens on a free port,
# URL.
settings() {
  local port
  port=$(free_port)
  URL=http://127.0.0.1:$port
  SETTINGS=("DATABASE_URL=$1" "BIND_ADDRESS=127.0.0.1:$port" "BASE_URL=$URL" "SCAIKEY_URL=$ISSUER_URL"
    "SCAIKEY_JWKS_URL=$ISSUER_URL/jwks" LOG_FORMAT=text "${@:2}")
}

# serve_start NAME: `serve` with SETTINGS, once it is ready; what it logs goes to NAME.err. Sets SERVER_PID.
serve_start() {
  local err=$SCRATCH/$1.err
  env -i "PATH=$PATH" "${SETTINGS[@]}" "$SERVER" serve >>"$err" 2>&1 </dev/null &
  SERVER_PID=$!
  remember "$SERVER_PID"
  wait_for_url "$URL/v1/health/ready" "$SERVER_PID" "$err"
}

# ---------------------------------------------------------------- calls and what they must answer

# call TOKEN METHOD PATH [BODY] [CURL OPTION...]: sets STATUS, ANSWER (a file with the body), REQUEST_ID and
# CALL (for messages). An empty TOKEN sends none.
call() {
  local token=$1 method=$2 path=$3 body=${4:-} options=()
  shift $(($# < 4 ? $# : 4))
  ANSWER=$SCRATCH/answer
  CALL="$method $path"
  if [[ -n $token ]]; then options+=(-H "Authorization: Bearer $token"); fi
  if [[ -n $body ]]; then options+=(-H 'Content-Type: application/json' --data-binary "$body"); fi
  : >"$ANSWER"
  STATUS=$(curl -sS --max-time 60 --path-as-is -X "$method" -D "$SCRATCH/headers" -o "$ANSWER" -w '%{http_code}' \
    "${options[@]}" "$@" "$URL$path") || die "$CALL: no answer" "${SCRATCH}/headers"
  REQUEST_ID=$(tr -d '\r' <"$SCRATCH/headers" | sed -n 's/^[Xx]-[Rr]equest-[Ii][Dd]: *//p' | tail -n 1)
}

# expect STATUS [CODE]: of the last call; CODE is `error.code`.
expect() {
  local code
  [[ $STATUS == "$1" ]] || die "$CALL: expected status $1, got $STATUS" "$ANSWER"
  if [[ -n ${2:-} ]]; then
    code=$(jq -r '.error.code // "none"' "$ANSWER" 2>/dev/null || echo 'no JSON')
    [[ $code == "$2" ]] || die "$CALL: expected error code $2, got $code" "$ANSWER"
  fi
}

# field FILTER: from the last answer; missing or null is a failure.
field() {
  jq -er "$1" "$ANSWER" || die "$CALL: the answer has no $1" "$ANSWER"
}

# holds FILTER [JQ OPTION...]: the last answer satisfies FILTER.
holds() {
  local filter=$1
  shift
  jq -e "$@" "$filter" "$ANSWER" >/dev/null || die "$CALL: expected $filter to hold" "$ANSWER"
}
