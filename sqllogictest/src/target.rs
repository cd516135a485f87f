//! The database that a suite runs against: hands out sessions, and an empty database per file.
//!
//! Against PostgreSQL every file gets a database of its own. Against Pontoon, which has one
//! database, everything the last file left is dropped; where that fails, or the server died, a
//! server that we started is replaced by a fresh one.

use std::time::Duration;

use crate::server::{Engine, Server, ServerFailure};
use crate::wire::{Address, Client, WireError};

/// A database under test.
#[derive(Debug)]
pub struct Target {
    engine: Engine,
    server: Option<Server>,
    address: Address,
    patience: Duration,
    files: u64,
    deaths: u64,
}

/// The database cannot be reached at all.
#[derive(Debug, thiserror::Error)]
pub enum TargetFailure {
    /// No server could be started.
    #[error(transparent)]
    Server(#[from] ServerFailure),
    /// A server that we did not start does not answer.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// What the last file left cannot be removed.
    #[error("cannot empty the database: {0}")]
    Dirty(String),
}

impl Target {
    /// Starts a server of this engine for the life of the target.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(engine: Engine, patience: Duration) -> Result<Self, TargetFailure> {
        let server = Server::start(engine)?;
        let address = Address {
            patience,
            ..server.address()
        };
        Ok(Self {
            engine,
            server: Some(server),
            address,
            patience,
            files: 0,
            deaths: 0,
        })
    }

    /// Uses a server that somebody else started.
    pub fn existing(engine: Engine, address: Address) -> Self {
        let patience = address.patience;
        Self {
            engine,
            server: None,
            address,
            patience,
            files: 0,
            deaths: 0,
        }
    }

    /// Which engine answers.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// How often the server had to be replaced because it died.
    pub fn deaths(&self) -> u64 {
        self.deaths
    }

    /// Where sessions connect to now.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// A session on an empty database.
    ///
    /// # Errors
    /// When there is no way to an empty database.
    pub fn fresh(&mut self) -> Result<Client, TargetFailure> {
        self.files += 1;
        match self.engine {
            Engine::Postgres => self.fresh_database(),
            Engine::Pontoon => {
                if self.files > 1 && self.alive() {
                    match empty(&self.address) {
                        Ok(()) => return Ok(Client::connect(&self.address)?),
                        Err(error) if self.server.is_none() => return Err(error),
                        Err(_) => {}
                    }
                } else if self.files == 1 {
                    return Ok(Client::connect(&self.address)?);
                }
                self.replace()?;
                Ok(Client::connect(&self.address)?)
            }
        }
    }

    /// A further session on the same database, after one was lost; `None` when the server died.
    pub fn reconnect(&mut self) -> Option<Client> {
        if !self.alive() {
            return None;
        }
        Client::connect(&self.address).ok()
    }

    /// The server's process runs, as far as we can know.
    pub fn alive(&mut self) -> bool {
        self.server.as_mut().is_none_or(Server::is_alive)
    }

    /// The end of the server's log, if we started it.
    pub fn log_tail(&self) -> String {
        self.server
            .as_ref()
            .map(Server::log_tail)
            .unwrap_or_default()
    }

    fn replace(&mut self) -> Result<(), TargetFailure> {
        if self.server.is_none() {
            return Err(TargetFailure::Dirty(
                "the server is not ours to replace".to_owned(),
            ));
        }
        if !self.alive() {
            self.deaths += 1;
        }
        self.server = None;
        let server = Server::start(self.engine)?;
        self.address = Address {
            patience: self.patience,
            ..server.address()
        };
        self.server = Some(server);
        Ok(())
    }

    fn fresh_database(&mut self) -> Result<Client, TargetFailure> {
        let admin = Address {
            database: "postgres".to_owned(),
            ..self.address.clone()
        };
        let mut client = Client::connect(&admin)?;
        if self.address.database.starts_with("slt_") {
            let old = format!(
                "DROP DATABASE IF EXISTS {} WITH (FORCE)",
                self.address.database
            );
            client.query(&old)?;
        }
        let name = format!("slt_{}_{}", std::process::id(), self.files);
        client.query(&format!("CREATE DATABASE {name} TEMPLATE template0"))?;
        self.address.database = name;
        Ok(Client::connect(&self.address)?)
    }
}

/// Drops every schema, relation and type that a user made.
fn empty(address: &Address) -> Result<(), TargetFailure> {
    let mut client = Client::connect(address)?;
    let left = leftovers(&mut client)?;
    for (kind, name) in &left {
        // What depends on something dropped earlier is gone already: only what remains counts.
        let _ = client.query(&format!("DROP {kind} IF EXISTS {name} CASCADE"));
    }
    if left.is_empty() {
        return Ok(());
    }
    let rest = leftovers(&mut client)?;
    if rest.is_empty() {
        Ok(())
    } else {
        Err(TargetFailure::Dirty(format!("{rest:?}")))
    }
}

/// User objects as (kind for DROP, quoted name), in an order in which they can be dropped.
fn leftovers(client: &mut Client) -> Result<Vec<(&'static str, String)>, WireError> {
    let relations = client.query(
        "SELECT n.nspname, c.relname, c.relkind::text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid >= 16384 AND n.nspname <> 'information_schema' \
         AND c.relkind IN ('r', 'v', 'm', 'S', 'p')",
    )?;
    let schemas = client.query(
        "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname NOT IN \
         ('public', 'information_schema') AND nspname !~ '^pg_'",
    );
    let mut found = Vec::new();
    for (letter, kind) in [
        ("v", "VIEW"),
        ("m", "MATERIALIZED VIEW"),
        ("r", "TABLE"),
        ("p", "TABLE"),
        ("S", "SEQUENCE"),
    ] {
        for row in &relations.rows {
            if let [Some(schema), Some(name), Some(relkind)] = row.as_slice()
                && relkind == letter
            {
                found.push((kind, format!("{}.{}", quoted(schema), quoted(name))));
            }
        }
    }
    for row in schemas.map(|outcome| outcome.rows).unwrap_or_default() {
        if let [Some(schema)] = row.as_slice() {
            found.push(("SCHEMA", quoted(schema)));
        }
    }
    Ok(found)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
