//! Flags over configuration file over defaults.

use std::path::PathBuf;

use pontoon_kv::cluster::Roles;
use serde::Deserialize;

use super::args::{LogFormat, NodeArguments, Role};
use crate::certs::JoinToken;

/// The configuration file. A name that does not exist is an error, so that a typing mistake is
/// seen.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    listen_sql: Option<String>,
    listen_rpc: Option<String>,
    listen_admin: Option<String>,
    advertise_rpc: Option<String>,
    join: Option<Vec<String>>,
    join_token: Option<String>,
    locality: Option<Vec<String>>,
    role: Option<Vec<Role>>,
    insecure: Option<bool>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    max_connections: Option<usize>,
    disk_reserve_bytes: Option<u64>,
    column_cache_bytes: Option<usize>,
    log_format: Option<LogFormat>,
}

/// How a node stands to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PeerMode {
    /// It listens to none.
    Alone,
    /// Everybody shows a certificate, and connections are encrypted.
    Secure,
    /// Nobody does, and none is.
    Insecure,
}

/// What a node is started with.
#[derive(Clone, Debug)]
pub(crate) struct NodeConfig {
    /// Where the data lies.
    pub(crate) data_dir: Option<PathBuf>,
    /// What it does.
    pub(crate) roles: Roles,
    /// Address for SQL clients, and whether the user chose it; `None`: it answers none.
    pub(crate) listen_sql: Option<(String, bool)>,
    /// Address for other nodes, and whether the user chose it.
    pub(crate) listen_rpc: (String, bool),
    /// Address by which others reach this node, where it is another one.
    pub(crate) advertise_rpc: Option<String>,
    /// Nodes of the cluster that a new node joins.
    pub(crate) join: Vec<String>,
    /// Where the node stands, from the widest place to the narrowest.
    pub(crate) locality: Vec<(String, String)>,
    /// Address of the admin pages, and whether the user chose it.
    pub(crate) listen_admin: (String, bool),
    /// Other machines may connect without a password.
    pub(crate) insecure: bool,
    /// How it stands to other nodes.
    pub(crate) peers: PeerMode,
    /// What lets a new node into the cluster that it joins.
    pub(crate) join_token: Option<JoinToken>,
    /// Certificate and key.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Sessions at one time.
    pub(crate) sessions_max: usize,
    /// Bytes of the disk that writes leave free; `None`: by the size of the file system.
    pub(crate) disk_reserve_bytes: Option<u64>,
    /// Memory for the columns of tables that were scanned; `None`: the default.
    pub(crate) column_cache_bytes: Option<usize>,
    /// How log lines look.
    pub(crate) log_format: LogFormat,
}

const SESSIONS_MAX_DEFAULT: usize = 20_000;

impl NodeConfig {
    /// From the arguments and the file they name. The error is a sentence for the user.
    pub(crate) fn new(args: &NodeArguments) -> Result<Self, String> {
        let file = match &args.config {
            None => File::default(),
            Some(path) => {
                let shown = path.display();
                let text = std::fs::read_to_string(path)
                    .map_err(|e| format!("cannot read the configuration file {shown}: {e}"))?;
                toml::from_str(&text)
                    .map_err(|e| format!("the configuration file {shown} is not valid: {e}"))?
            }
        };
        let or = |flag: &Option<String>, file: Option<String>, default: &str| {
            let chosen = flag.clone().or(file);
            let by_user = chosen.is_some();
            (chosen.unwrap_or_else(|| default.to_owned()), by_user)
        };
        let cert = args.tls_cert.clone().or(file.tls_cert);
        let key = args.tls_key.clone().or(file.tls_key);
        let tls = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err("TLS needs both tls_cert and tls_key".to_owned()),
        };
        let roles = match args.role.as_slice() {
            [] => file
                .role
                .map_or(Ok(Roles::default()), |role| roles(&role))?,
            role => roles(role)?,
        };
        let listen_sql = or(&args.listen_sql, file.listen_sql, "127.0.0.1:5432");
        if listen_sql.1 && !roles.query {
            return Err(
                "a node with the role data alone answers no SQL clients: leave out --listen-sql, \
                 or start it with --role data,query"
                    .to_owned(),
            );
        }
        let or_file = |flag: &Vec<String>, file: Option<Vec<String>>| {
            if flag.is_empty() {
                file.unwrap_or_default()
            } else {
                flag.clone()
            }
        };
        let join = or_file(&args.join, file.join);
        let insecure = args.insecure || file.insecure.unwrap_or(false);
        let join_token = args.join_token.clone().or(file.join_token);
        let join_token = join_token.map(|text| text.parse()).transpose()?;
        if join_token.is_some() && insecure {
            return Err(
                "a join token is for nodes without --insecure: leave out one of the two".to_owned(),
            );
        }
        let locality = or_file(&args.locality, file.locality);
        let locality = locality.iter().map(|place| match place.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                Ok((key.to_owned(), value.to_owned()))
            }
            _ => Err(format!(
                "the locality {place:?} is not of the form key=value, as in region=eu,zone=a"
            )),
        });
        let locality: Vec<_> = locality.collect::<Result<_, _>>()?;
        Ok(Self {
            data_dir: args.data_dir.clone().or(file.data_dir),
            roles,
            listen_sql: roles.query.then_some(listen_sql),
            listen_rpc: or(&args.listen_rpc, file.listen_rpc, "127.0.0.1:26257"),
            advertise_rpc: args.advertise_rpc.clone().or(file.advertise_rpc),
            join,
            locality,
            listen_admin: or(&args.listen_admin, file.listen_admin, "127.0.0.1:8080"),
            insecure,
            peers: if insecure {
                PeerMode::Insecure
            } else {
                PeerMode::Secure
            },
            join_token,
            tls,
            sessions_max: args
                .max_connections
                .or(file.max_connections)
                .unwrap_or(SESSIONS_MAX_DEFAULT),
            disk_reserve_bytes: args.disk_reserve_bytes.or(file.disk_reserve_bytes),
            column_cache_bytes: args.column_cache_bytes.or(file.column_cache_bytes),
            log_format: args.log_format.or(file.log_format).unwrap_or_default(),
        })
    }
}

/// What a node does that was given these roles.
fn roles(given: &[Role]) -> Result<Roles, String> {
    if given.is_empty() {
        return Err("a node needs a role: data, query, or both".to_owned());
    }
    Ok(Roles {
        data: given.contains(&Role::Data),
        query: given.contains(&Role::Query),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pontoon.toml");
        std::fs::write(
            &path,
            "listen_sql = \"a:1\"\nlisten_admin = \"b:2\"\ninsecure = true\n",
        )
        .unwrap();
        let args = NodeArguments {
            listen_sql: Some("c:3".to_owned()),
            config: Some(path.clone()),
            ..NodeArguments::default()
        };
        let config = NodeConfig::new(&args).unwrap();
        assert_eq!(config.listen_sql, Some(("c:3".to_owned(), true)));
        assert_eq!(config.roles, Roles::default());
        assert_eq!(config.listen_admin, ("b:2".to_owned(), true));
        assert!(config.insecure);
        std::fs::write(&path, "listen_sqll = \"a:1\"\n").unwrap();
        assert!(NodeConfig::new(&args).unwrap_err().contains("listen_sqll"));
    }

    #[test]
    fn who_answers_no_clients_does_not_listen_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pontoon.toml");
        let read = |text: &str, args: NodeArguments| {
            std::fs::write(&path, text).unwrap();
            let config = Some(path.clone());
            NodeConfig::new(&NodeArguments { config, ..args })
        };
        let data = || NodeArguments {
            role: vec![Role::Data],
            ..NodeArguments::default()
        };
        let config = read("role = [\"query\"]", data()).unwrap();
        assert!(config.roles.data && !config.roles.query);
        assert_eq!(config.listen_sql, None);
        let error = read("listen_sql = \"a:1\"", data()).unwrap_err();
        assert!(error.contains("leave out --listen-sql"), "{error}");
        let config = read("role = [\"query\"]", NodeArguments::default()).unwrap();
        assert!(!config.roles.data && config.listen_sql.is_some());
        let error = read("role = []", NodeArguments::default()).unwrap_err();
        assert!(error.contains("needs a role"), "{error}");
    }
}
