//! From the command line to a running node, and to the exit code.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use futures::future::try_join_all;
use pontoon_kv::cluster::Roles;
use tracing_subscriber::EnvFilter;

use super::args::{Arguments, Command, LogFormat};
use super::config::{NodeConfig, PeerMode};
use super::{demo, nodes, ranges, watch};
use crate::node::{Bound, Failure, Node};

/// Runs the command of the process.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("pontoon: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<(), Failure> {
    let (args, demo_nodes) = match &command {
        Command::Start(args) => (args, None),
        Command::Demo(args) => (&args.node, Some(args.nodes)),
        Command::Node(command) => return nodes::run(command),
        Command::Range(command) => return ranges::run(command),
        Command::Watch(command) => return watch::run(command),
    };
    let is_demo = demo_nodes.is_some();
    let config = NodeConfig::new(args).map_err(Failure::Usage)?;
    if is_demo && config.roles != Roles::default() {
        return Err(Failure::Usage(
            "the nodes of the demo hold data and answer clients: leave out --role".to_owned(),
        ));
    }
    logging(config.log_format, is_demo);
    let data_dir = match (&config.data_dir, is_demo) {
        (Some(dir), _) => dir.clone(),
        (None, true) => demo_dir()?,
        (None, false) => {
            return Err(Failure::Usage(
                "say where the data shall lie: --data-dir DIR (the directory is made when it \
                 does not exist)"
                    .to_owned(),
            ));
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("pontoon")
        .build()
        .map_err(|e| Failure::Usage(format!("cannot start threads: {e}")))?;
    let done = runtime.block_on(serve(config, &data_dir, demo_nodes));
    // Nothing durable depends on tasks that are still there.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    done
}

async fn serve(
    mut config: NodeConfig,
    data_dir: &Path,
    demo_nodes: Option<u16>,
) -> Result<(), Failure> {
    let is_demo = demo_nodes.is_some();
    let nodes = demo_nodes.unwrap_or(1);
    if is_demo {
        // They are all here, and listen on this machine only unless told otherwise.
        config.peers = match nodes {
            1 if !config.insecure => PeerMode::Alone,
            _ => PeerMode::Insecure,
        };
    }
    let first = Bound::take(config.clone(), data_dir, is_demo).await?;
    let mut all = Vec::new();
    for number in 2..=nodes {
        let config = demo::joining(&config, first.rpc_address());
        let data_dir = data_dir.join(format!("node{number}"));
        all.push(Bound::take(config, &data_dir, true).await?);
    }
    all.insert(0, first);
    // Together: the first does not come up alone when it has had others before.
    let mut others = try_join_all(all.into_iter().map(Node::start)).await?;
    let node = others.remove(0);
    if is_demo {
        demo::load(node.engine()).await.map_err(Failure::Demo)?;
        demo::greet(&node, &others, data_dir, &config);
    }
    tracing::info!(
        sql = node.sql_address().map(tracing::field::display),
        admin = %node.admin_address(),
        data_dir = %data_dir.display(),
        version = super::VERSION,
        "ready"
    );
    node.run_until_signal(others).await
}

fn logging(format: LogFormat, quiet: bool) {
    // The libraries tell at their INFO level what is of interest to their developers only, and
    // openraft warns of each message that did not reach a node which is down.
    let default = if quiet {
        "warn,openraft=error"
    } else {
        "info,openraft=error,fjall=warn,lsm_tree=warn"
    };
    let filter = EnvFilter::try_from_env("PONTOON_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            builder
                .with_target(false)
                .with_ansi(std::io::stderr().is_terminal())
                .init();
        }
        LogFormat::Json => builder.json().init(),
    }
}

/// The per-user directory of the demo.
fn demo_dir() -> Result<PathBuf, Failure> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/state"));
    state
        .or_else(home)
        .map(|dir| dir.join("pontoon/demo"))
        .ok_or_else(|| {
            Failure::Usage(
                "HOME is not set; say where the data shall lie: --data-dir DIR".to_owned(),
            )
        })
}
