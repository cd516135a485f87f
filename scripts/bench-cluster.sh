# scripts/bench --cluster: three nodes beside PostgreSQL with one synchronous standby (ANY 1), all on
# this machine. Sourced by scripts/bench, never run.
#
# All servers and the clients share the cores, and three nodes do three times the work of one, so a
# ratio says what the machine does, not what three machines would. Clients of Pontoon are all on
# node 1, whichever nodes lead.

nodes=3
sql_ports=("$pn_port") rpc_ports=("$rpc_port") admin_ports=("$admin_port")
for _ in $(seq 2 $nodes); do
  sql_ports+=("$(free_port)") rpc_ports+=("$(free_port)") admin_ports+=("$(free_port)")
done
standby_port=$(free_port)

# page NODE: what the node (from 0) tells of the cluster.
page() {
  python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' \
    "http://127.0.0.1:${admin_ports[$1]}/cluster" 2>/dev/null || true
}
# range_lines: the ranges that some node leads: number, from, to, leader, members, behind, bytes.
range_lines() {
  local node
  for node in $(seq 0 $((nodes - 1))); do page "$node" | awk '/^Ranges that/{on=1} on && /^[0-9]/'; done
}
# until_replicated: waits until every range has three members that vote.
until_replicated() {
  local tries=0
  until range_lines | awk '{n++} gsub(/, n/, "&") < 2 || /learns/ {bad=1} END{exit bad || n < 2}'; do
    tries=$((tries + 1))
    if [ $tries -gt 600 ]; then
      echo "the ranges do not get their replicas:" >&2
      range_lines >&2
      exit 1
    fi
    sleep 0.2
  done
}

say "starting PostgreSQL with a standby, and $nodes nodes"
init_pg
pg_server pg "$pg_port"
pg_pid=$!
until_answer pg
mkdir "$work/standby"
if [ "$(id -u)" = 0 ]; then chown postgres "$work/standby"; fi
${as_pg[@]+"${as_pg[@]}"} "$pgbin/pg_basebackup" -h 127.0.0.1 -p "$pg_port" -U postgres -D "$work/standby/data" -R -X stream
pg_server standby "$standby_port"
pg_more=$!
sql "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'"
sql 'SELECT pg_reload_conf()' >/dev/null
until [ "$(sql "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'")" = 1 ]; do sleep 0.1; done

pn_node pn "$pn_port" "$rpc_port" "$admin_port"
pn_pid=$!
until_answer pn
for node in $(seq 1 $((nodes - 1))); do
  pn_node "pn$node" "${sql_ports[$node]}" "${rpc_ports[$node]}" "${admin_ports[$node]}" --join "127.0.0.1:$rpc_port"
  pn_more+=" $!"
done
until_replicated
load_both
until_replicated

# name clients script target
workloads='insert-1 1 insert -
insert-32 32 insert 0.7
select-1 1 select -
select-8 8 select -
tpcb-8 8 tpcb -'
run_rounds

if [ -z "$only" ] || [[ scan-1M == *$only* ]]; then
  say "scan of a million rows through each node"
  range_lines | awk '{printf "  range %s is led by %s\n", $1, $4}'
  on pn
  for round in $(seq 1 "$rounds"); do
    for node in $(seq 0 $((nodes - 1))); do
      PGPORT=${sql_ports[$node]} pgbench -n -M prepared -c 1 -T "$seconds" -f "$work/scan.sql" 2>/dev/null |
        awk '/^tps = /{print $3}' >>"$work/results/scan.$node"
    done
  done
  for node in $(seq 0 $((nodes - 1))); do
    printf '  n%d: %8.1f a second\n' $((node + 1)) "$(stat_of "$work/results/scan.$node" 1 median)"
  done
  for node in $(seq 0 $((nodes - 1))); do stat_of "$work/results/scan.$node" 1 median; done | sort -n |
    awk '{a[NR]=$1} END{printf "slowest through fastest: %.2f (target 0.5)\n", a[1] / a[NR]}'
fi

if [ -z "$only" ] || [[ idle == *$only* ]]; then
  say "200 tables, 100 ranges, nothing to do"
  on pn
  for table in $(seq 1 200); do echo "CREATE TABLE idle_$table (id int PRIMARY KEY, v text);"; done | psql -Xq -v ON_ERROR_STOP=1
  for table in $(seq 1 98); do echo "ALTER TABLE idle_$table SPLIT AT VALUES (0);"; done | psql -Xq -v ON_ERROR_STOP=1
  until_replicated
  # Ranges that nobody uses fall silent after ten seconds.
  sleep 20
  before=$(ticks $pn_pid $pn_more)
  sleep $((idle_s * 4))
  echo "idle: $(idle_share "$before" "$(ticks $pn_pid $pn_more)" $((idle_s * 4))) % of a core, all nodes, $(range_lines | wc -l) ranges (target 3)"
  for node in $pn_pid $pn_more; do echo "resident memory of a node: $(rss_mb "$node") MB"; done
fi
echo "load average at the end: $(cut -d' ' -f1 /proc/loadavg)"
