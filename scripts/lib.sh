# What the scripts share: where things lie, and how what is missing gets installed. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pontoon
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export PONTOON_CORPUS=${PONTOON_CORPUS:-$root/../shared/corpus}
pgbin=${PGBINDIR:-/usr/lib/postgresql/15/bin}

say() { printf '\n== %s\n' "$*"; }

# as_root CMD...: runs it as root, through sudo where we are not.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# need_packages PACKAGE...: installs those Debian packages that are missing.
need_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  say "installing ${missing[*]}"
  as_root apt-get update -q >/dev/null
  # A database server that the package would start of its own accord is of no use here.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
}

need_rust() {
  if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust first (https://rustup.rs)" >&2
    exit 2
  fi
  command -v cc >/dev/null || need_packages build-essential
}

need_postgres() {
  [ -x "$pgbin/initdb" ] && [ -x "$pgbin/postgres" ] && return 0
  need_packages postgresql-15 postgresql-client-15
}

# The commands java, node, npm or a python with venv may come from elsewhere than Debian.
need_drivers() {
  [ -f /usr/share/java/postgresql.jar ] || need_packages libpostgresql-jdbc-java
  command -v javac >/dev/null || need_packages default-jdk-headless
  { command -v node && command -v npm; } >/dev/null || need_packages nodejs npm
  python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages python3 python3-venv
  local home=$cache/drivers
  mkdir -p "$home"
  if [ ! -x "$home/py/bin/python" ] || ! "$home/py/bin/python" -c 'import psycopg' 2>/dev/null; then
    python3 -m venv "$home/py"
    "$home/py/bin/pip" install -q --disable-pip-version-check 'psycopg[binary]>=3.2,<4'
  fi
  if [ ! -d "$home/node/node_modules/pg-cursor" ]; then
    npm install --silent --no-audit --no-fund --prefix "$home/node" pg@8 pg-cursor@2
  fi
}

# Faults between nodes need network namespaces, which only root can make.
need_namespaces() {
  if [ "$(id -u)" != 0 ]; then
    say "faults of a network: left out, only root can make network namespaces"
    return 0
  fi
  { command -v ip && command -v mkfs.ext4 && command -v fsfreeze; } >/dev/null ||
    need_packages iproute2 e2fsprogs mount util-linux
}

need_nextest() {
  cargo nextest --version >/dev/null 2>&1 && return 0
  say "installing cargo-nextest"
  cargo install --locked --quiet cargo-nextest
}
