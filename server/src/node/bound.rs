//! What a node takes before it opens anything: its directory and its ports, so that a taken one is
//! known before any recovery, and others can be told where it is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pontoon_kv::cluster::NodeRow;
use tokio::net::TcpListener;

use super::Failure;
use super::data_dir::DataDir;
use super::peers::Peers;
use crate::cli::{NodeConfig, PeerMode, VERSION};

/// A node that has taken its directory and its ports.
pub(crate) struct Bound {
    pub(super) config: NodeConfig,
    pub(super) data_dir: PathBuf,
    pub(super) taken: DataDir,
    pub(super) sql: Option<TcpListener>,
    pub(super) admin: TcpListener,
    pub(super) peers: Option<Peers>,
    pub(super) rpc_address: Option<SocketAddr>,
}

impl Bound {
    /// Takes directory and ports. With `other_ports` a port that is taken and was not asked for is
    /// replaced by a free one.
    pub(crate) async fn take(
        config: NodeConfig,
        data_dir: &Path,
        other_ports: bool,
    ) -> Result<Self, Failure> {
        let taken = DataDir::take(data_dir)?;
        let (admin, admin_by_user) = &config.listen_admin;
        let (rpc, rpc_by_user) = &config.listen_rpc;
        let sql = match &config.listen_sql {
            Some((sql, by_user)) => {
                Some(listen(sql, "--listen-sql", other_ports && !by_user).await?)
            }
            None => None,
        };
        let admin = listen(admin, "--listen-admin", other_ports && !admin_by_user).await?;
        let (mut peers, mut rpc_address) = (None, None);
        if config.peers != PeerMode::Alone {
            let rpc = listen(rpc, "--listen-rpc", other_ports && !rpc_by_user).await?;
            let own = *rpc_address.insert(address(&rpc)?);
            let row = NodeRow {
                rpc: config.advertise_rpc.clone().unwrap_or(own.to_string()),
                sql: match &sql {
                    Some(sql) => address(sql)?.to_string(),
                    None => String::new(),
                },
                admin: address(&admin)?.to_string(),
                locality: config.locality.clone(),
                roles: config.roles,
                version: VERSION.to_owned(),
                ..NodeRow::default()
            };
            peers = Some(Peers::new(&config, data_dir, rpc, row)?);
        }
        Ok(Self {
            config,
            data_dir: data_dir.to_path_buf(),
            taken,
            sql,
            admin,
            peers,
            rpc_address,
        })
    }

    /// Where other nodes will reach it, if they do.
    pub(crate) fn rpc_address(&self) -> Option<SocketAddr> {
        self.rpc_address
    }
}

pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener
        .local_addr()
        .map_err(|e| Failure::Usage(format!("cannot tell the own address: {e}")))
}

async fn listen(wanted: &str, flag: &str, or_free: bool) -> Result<TcpListener, Failure> {
    let error = match TcpListener::bind(wanted).await {
        Ok(listener) => return Ok(listener),
        Err(e) => e,
    };
    if or_free
        && error.kind() == std::io::ErrorKind::AddrInUse
        && let Some((host, _)) = wanted.rsplit_once(':')
        && let Ok(listener) = TcpListener::bind(format!("{host}:0")).await
    {
        return Ok(listener);
    }
    let (reason, advice) = match error.kind() {
        std::io::ErrorKind::AddrInUse => (
            "another program uses this port".to_owned(),
            format!("Stop that program, or choose another port with {flag} HOST:PORT."),
        ),
        std::io::ErrorKind::PermissionDenied => (
            "no permission".to_owned(),
            format!("Ports below 1024 are for root; choose another with {flag} HOST:PORT."),
        ),
        std::io::ErrorKind::InvalidInput => (
            "this is not an address".to_owned(),
            format!("Write host and port, as in {flag} 127.0.0.1:5432."),
        ),
        _ => (
            error.to_string(),
            format!("Choose an address of this machine with {flag} HOST:PORT."),
        ),
    };
    Err(Failure::Listen {
        address: wanted.to_owned(),
        reason,
        advice,
    })
}
