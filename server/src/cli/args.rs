//! The arguments as clap reads them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pontoon_kv::cluster::Topic;

use super::range_args::RangeCommand;

/// A PostgreSQL-compatible distributed SQL database.
#[derive(Parser, Debug)]
#[command(name = "pontoon", version)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a node.
    Start(NodeArguments),
    /// Run a node, or a cluster, with two small tables to try: inventory and books.
    Demo(DemoArguments),
    /// Look at the nodes of a cluster, and tell them what to do.
    Node(NodeCommand),
    /// Look at the ranges of a cluster, and change them.
    Range(RangeCommand),
    /// Print what is known of nodes, ranges or settings, and then every change of it.
    Watch(WatchCommand),
}

/// Flags of the demo.
#[derive(Args, Clone, Debug)]
pub(crate) struct DemoArguments {
    /// Number of nodes, all in this process; they talk over real sockets.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(crate) nodes: u16,
    /// Those of the first node.
    #[command(flatten)]
    pub(crate) node: NodeArguments,
}

/// How a cluster is asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct ContactArguments {
    /// Any node of the cluster, by its --listen-rpc.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:26257",
        global = true
    )]
    pub(crate) host: String,
    /// Data directory of a node on this machine, whose certificate is shown to the one that is
    /// asked.
    #[arg(long, value_name = "DIR", global = true, conflicts_with = "insecure")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Or where a copy of its ca.crt, node.crt and node.key is.
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        conflicts_with_all = ["insecure", "data_dir"]
    )]
    pub(crate) certs: Option<PathBuf>,
    /// The nodes run with --insecure.
    #[arg(long, global = true)]
    pub(crate) insecure: bool,
}

/// What to do with the nodes of a cluster.
#[derive(Args, Debug)]
pub(crate) struct NodeCommand {
    /// How it is asked.
    #[command(flatten)]
    pub(crate) contact: ContactArguments,
    /// What to do.
    #[command(subcommand)]
    pub(crate) what: NodeAction,
}

/// What is to be watched of a cluster.
#[derive(Args, Debug)]
pub(crate) struct WatchCommand {
    /// How it is asked.
    #[command(flatten)]
    pub(crate) contact: ContactArguments,
    /// nodes, ranges, settings, splits or rules; more than one may be given.
    #[arg(
        value_name = "WHAT",
        required = true,
        value_parser = Topic::ALL.map(Topic::name)
    )]
    pub(crate) topics: Vec<String>,
    /// Tells what has changed since a revision that was told before, in place of what there is.
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    pub(crate) since: u64,
    /// Print one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with the nodes of a cluster.
#[derive(Subcommand, Debug)]
pub(crate) enum NodeAction {
    /// List the nodes.
    Ls,
    /// List nodes and ranges, and say what is stuck and why.
    Status,
    /// Print a join token, which lets one new node into the cluster (start it with --join and
    /// --join-token).
    Token {
        /// How long it may be used: a number with s, m, h or d.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = ttl)]
        ttl: Duration,
    },
    /// Have the node that is asked hand over what it leads, as before it is stopped.
    Drain,
    /// Have a node give up all that it holds, for good, and wait until it has.
    Decommission {
        /// The number of the node, as in `n2`.
        node: String,
    },
    /// Take back a decommission that is not complete.
    Recommission {
        /// The number of the node, as in `n2`.
        node: String,
    },
}

/// Reads `90s`, `30m`, `1h` or `7d`.
fn ttl(text: &str) -> Result<Duration, String> {
    let unit_secs = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 24 * 3_600,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
    let secs = number.parse::<u64>().ok();
    let secs = secs.and_then(|number| number.checked_mul(unit_secs));
    match secs {
        Some(secs) if (1..=TTL_SECS_MAX).contains(&secs) => Ok(Duration::from_secs(secs)),
        Some(TTL_SECS_MAX..) => Err("no token may be used for more than 30 days".to_owned()),
        _ => Err("write a number with s, m, h or d, as in 30m or 1h".to_owned()),
    }
}

/// The longest time that a token may be used.
const TTL_SECS_MAX: u64 = 30 * 24 * 3_600;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A part that a node takes in its cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// It holds replicas.
    Data,
    /// It answers SQL clients.
    Query,
}

/// Flags of a node. What is not given is taken from the configuration file, then from defaults.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct NodeArguments {
    /// Directory of the node's data; made when it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address for SQL clients [default: 127.0.0.1:5432].
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen_sql: Option<String>,
    /// Address for other nodes [default: 127.0.0.1:26257].
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen_rpc: Option<String>,
    /// Address by which other nodes reach this one, where that is not the one it listens on.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise_rpc: Option<String>,
    /// Makes a new node a part of the cluster to which this node belongs (its --listen-rpc); more
    /// than one may be given. A node that has joined ignores it.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub(crate) join: Vec<String>,
    /// What lets a new node into the cluster that it joins: what `pontoon node token` prints there. A
    /// node that has joined ignores it.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "PONTOON_JOIN_TOKEN",
        hide_env_values = true
    )]
    pub(crate) join_token: Option<String>,
    /// Where the node stands, from the widest place to the narrowest; replicas are spread over
    /// places.
    #[arg(long, value_name = "KEY=VALUE,...", value_delimiter = ',')]
    pub(crate) locality: Vec<String>,
    /// What the node does: it holds replicas (data), it answers SQL clients (query), or both. A node
    /// that loses the role data has its replicas moved to others [default: data,query].
    #[arg(
        long,
        value_enum,
        value_name = "ROLE,...",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub(crate) role: Vec<Role>,
    /// Address of the health, metrics and status pages [default: 127.0.0.1:8080].
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen_admin: Option<String>,
    /// Lets other machines connect without a password, and other nodes without certificates:
    /// connections between nodes are not encrypted then.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// TLS certificate chain for SQL clients (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Key of the TLS certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// SQL sessions at one time [default: 20000].
    #[arg(long, value_name = "N")]
    pub(crate) max_connections: Option<usize>,
    /// Bytes of the disk that writes leave free [default: 256 MiB or 1 % of the file system, the
    /// larger; at most a quarter of it].
    #[arg(long, value_name = "BYTES")]
    pub(crate) disk_reserve_bytes: Option<u64>,
    /// Memory for the columns of tables that were scanned; 0 keeps none [default: 512 MiB].
    #[arg(long, value_name = "BYTES")]
    pub(crate) column_cache_bytes: Option<usize>,
    /// How log lines look [default: text].
    #[arg(long, value_enum)]
    pub(crate) log_format: Option<LogFormat>,
    /// Configuration file (TOML) with the same names: data_dir, listen_sql ...
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        for (text, secs) in [
            ("90s", 90),
            ("30m", 1_800),
            ("1h", 3_600),
            ("30d", TTL_SECS_MAX),
        ] {
            assert_eq!(ttl(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for text in [
            "",
            "h",
            "0h",
            "1",
            "1w",
            "-1h",
            "1.5h",
            "31d",
            "é",
            "18446744073709551615d",
        ] {
            assert!(ttl(text).is_err(), "{text}");
        }
    }
}
