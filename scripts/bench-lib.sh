# What the benchmarks share: two servers, the tables, the loads, the table of results. Sourced with
# `rounds`, `seconds` and `only` set, never run.

work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/tmp}}/pontoon-bench.XXXXXX")
chmod 755 "$work"
mkdir "$work/pg" "$work/results"
pg_pid='' pn_pid=''
# Processes that belong to a server beside the first.
pg_more='' pn_more=''

# Programs of PostgreSQL refuse to run as root.
as_pg=()
[ "$(id -u)" != 0 ] || as_pg=(setpriv --reuid=postgres --regid=postgres --init-groups --)

finish() {
  local pid
  for pid in $pn_more $pn_pid; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in $pg_more $pg_pid; do kill -INT "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
now_ms() { date +%s%3N; }
pg_port=$(free_port) pn_port=$(free_port) rpc_port=$(free_port) admin_port=$(free_port)

# on pg|pn: makes libpq's variables name that server.
on() {
  export PGHOST=127.0.0.1 PGUSER=postgres PGDATABASE=postgres PGSSLMODE=disable PGCONNECT_TIMEOUT=10
  if [ "$1" = pg ]; then export PGPORT=$pg_port; else export PGPORT=$pn_port; fi
}
sql() { psql -XqAt -v ON_ERROR_STOP=1 -c "$1"; }

# init_pg: an empty PostgreSQL in the folder pg.
init_pg() {
  if [ "$(id -u)" = 0 ]; then chown postgres "$work/pg"; fi
  ${as_pg[@]+"${as_pg[@]}"} "$pgbin/initdb" -D "$work/pg/data" -U postgres -A trust -E UTF8 --locale=C >/dev/null
}
# pg_server NAME PORT: starts the PostgreSQL in a folder, in the background.
pg_server() {
  ${as_pg[@]+"${as_pg[@]}"} "$pgbin/postgres" -D "$work/$1/data" -p "$2" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories= >"$work/$1.log" 2>&1 &
}
# pn_node NAME SQL_PORT RPC_PORT ADMIN_PORT FLAG...: starts a node on a folder, in the background.
pn_node() {
  local name=$1 sql_port=$2 rpc=$3 admin=$4
  shift 4
  "$pontoon" start --data-dir "$work/$name" --listen-sql "127.0.0.1:$sql_port" --insecure \
    --listen-rpc "127.0.0.1:$rpc" --listen-admin "127.0.0.1:$admin" "$@" >"$work/$name.log" 2>&1 &
}
# until_answer pg|pn: waits for the first answer to a query.
until_answer() {
  on "$1"
  local tries=0
  until sql 'SELECT 1' >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -gt 2000 ]; then
      echo "no answer from $1:" >&2
      tail -5 "$work/$1.log" >&2
      exit 1
    fi
  done
}

# Processor ticks used so far by servers: their processes and the children they have waited for.
ticks() {
  local total=0 server pid stat
  for server in "$@"; do
    for pid in "$server" $(ps -o pid= --ppid "$server"); do
      read -ra stat < <(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null)
      total=$((total + ${stat[11]:-0} + ${stat[12]:-0}))
      [ "$pid" != "$server" ] || total=$((total + ${stat[13]:-0} + ${stat[14]:-0}))
    done
  done
  echo "$total"
}
pids_of() { if [ "$1" = pg ]; then echo "$pg_pid $pg_more"; else echo "$pn_pid $pn_more"; fi; }

# idle_share BEFORE AFTER SECONDS: percent of one core.
idle_share() {
  awk -v t=$(($2 - $1)) -v s="$3" -v hz="$(getconf CLK_TCK)" 'BEGIN{printf "%.2f", t / hz * 100 / s}'
}
rss_mb() {
  local pid kb=0
  for pid in "$1" $(ps -o pid= --ppid "$1"); do
    kb=$((kb + $(awk '/^VmRSS/{print $2}' "/proc/$pid/status" 2>/dev/null || echo 0)))
  done
  awk -v kb="$kb" 'BEGIN{printf "%.0f", kb / 1024}'
}

cat >"$work/select.sql" <<'SQL'
\set id random(1, 100000)
SELECT v FROM points WHERE id = :id;
SQL
cat >"$work/insert.sql" <<'SQL'
\set id random(1, 4611686018427387903)
\set a random(1, 1000000)
INSERT INTO inserts VALUES (:id, :a, 'a text of a hundred characters and more, so that a row is about as long as rows are in the real world');
SQL
cat >"$work/scan.sql" <<'SQL'
SELECT count(*), sum(x) FROM big;
SQL
cat >"$work/tpcb.sql" <<'SQL'
\set aid random(1, 100000)
\set bid random(1, 10)
\set delta random(-5000, 5000)
BEGIN;
UPDATE accounts SET balance = balance + :delta WHERE id = :aid;
SELECT balance FROM accounts WHERE id = :aid;
UPDATE branches SET balance = balance + :delta WHERE id = :bid;
INSERT INTO history (aid, bid, delta, at) VALUES (:aid, :bid, :delta, CURRENT_TIMESTAMP);
COMMIT;
SQL

load() {
  on "$1"
  sql 'CREATE TABLE points (id int PRIMARY KEY, v text NOT NULL)'
  seq 1 100000 | awk '{print $1 "\tvalue of the row number " $1}' | sql 'COPY points FROM STDIN'
  sql 'CREATE TABLE inserts (id bigint NOT NULL PRIMARY KEY, a int, v text)'
  sql 'CREATE TABLE big (id bigint PRIMARY KEY, x bigint NOT NULL, y int, z text)'
  seq 1 1000000 | awk '{print $1 "\t" ($1 * 7919) % 1000003 "\t" $1 % 100 "\tz" $1 % 1000}' |
    sql 'COPY big FROM STDIN'
  sql 'CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL)'
  seq 1 100000 | awk '{print $1 "\t0"}' | sql 'COPY accounts FROM STDIN'
  sql 'CREATE TABLE branches (id int PRIMARY KEY, balance int NOT NULL)'
  seq 1 10 | awk '{print $1 "\t0"}' | sql 'COPY branches FROM STDIN'
  sql 'CREATE TABLE history (aid int, bid int, delta int, at timestamptz)'
  local table
  for table in points big accounts branches; do
    psql -Xqc "VACUUM ANALYZE $table" >/dev/null 2>&1 || true
  done
}

# measure pg|pn NAME CLIENTS SCRIPT: appends "tps cpu_us" to the results of that workload.
measure() {
  local who=$1 name=$2 clients=$3 script=$4 threads=2 before after tps
  [ "$clients" -gt 1 ] || threads=1
  on "$who"
  before=$(ticks $(pids_of "$who"))
  if pgbench -n -M prepared -c "$clients" -j "$threads" -T "$seconds" --max-tries=50 \
    -f "$work/$script.sql" >"$work/out" 2>"$work/err"; then
    tps=$(awk '/^tps = /{print $3}' "$work/out")
  else
    echo "  $who $name: $(tail -n 1 "$work/err")" >&2
    tps=0
  fi
  after=$(ticks $(pids_of "$who"))
  awk -v tps="$tps" -v t=$((after - before)) -v s="$seconds" -v hz="$(getconf CLK_TCK)" \
    'BEGIN{printf "%s %.1f\n", tps, (tps > 0 ? t / hz * 1e6 / (tps * s) : 0)}' >>"$work/results/$name.$who"
}

# stat FILE COLUMN min|median|max
stat_of() {
  awk -v c="$2" '{print $c}' "$1" | sort -n | awk -v w="$3" \
    '{a[NR]=$1} END{if (w=="min") print a[1]; else if (w=="max") print a[NR]; else print a[int((NR+1)/2)]}'
}

# report NAME TARGET
report() {
  local base=$work/results/$1
  paste -d' ' "$base.pn" "$base.pg" | awk '{print ($3 > 0 ? $1 / $3 : 0)}' >"$base.ratio"
  awk -v name="$1" -v target="$2" \
    -v pn="$(stat_of "$base.pn" 1 median)" -v pg="$(stat_of "$base.pg" 1 median)" \
    -v pnc="$(stat_of "$base.pn" 2 median)" -v pgc="$(stat_of "$base.pg" 2 median)" \
    -v lo="$(stat_of "$base.ratio" 1 min)" -v mid="$(stat_of "$base.ratio" 1 median)" \
    -v hi="$(stat_of "$base.ratio" 1 max)" 'BEGIN{
      verdict = target == "-" ? "" : (mid + 0 >= target + 0 ? "reached" : "BELOW")
      printf "%-22s %10.1f %10.1f   %5.2f (%.2f-%.2f)   %6s %-8s %9.1f %9.1f\n",
        name, pn, pg, mid, lo, hi, target, verdict, pnc, pgc }'
}

# load_both: the same tables on both servers.
load_both() {
  local who began
  for who in pg pn; do
    began=$(now_ms)
    load "$who"
    echo "  $who loaded in $((($(now_ms) - began))) ms"
  done
}

# run_rounds: measures the workloads of the variable `workloads`, a line for each: name, clients,
# script, target. Prints a table.
run_rounds() {
  local round order who name clients script target
  [ -z "$only" ] || workloads=$(printf '%s\n' "$workloads" | grep -- "$only" || true)
  [ -n "$workloads" ] || return 0

  say "$rounds rounds of $seconds s, load average $(cut -d' ' -f1 /proc/loadavg)"
  for round in $(seq 1 "$rounds"); do
    order='pg pn'
    [ $((round % 2)) = 1 ] || order='pn pg'
    while read -r name clients script _; do
      for who in $order; do measure "$who" "$name" "$clients" "$script"; done
    done <<<"$workloads"
  done

  printf '\n%-22s %10s %10s   %-18s   %6s %-8s %9s %9s\n' \
    workload pontoon/s postgres/s 'ratio (min-max)' target '' 'cpu us' 'pg cpu us'
  while read -r name _ _ target; do report "$name" "$target"; done <<<"$workloads"
}
