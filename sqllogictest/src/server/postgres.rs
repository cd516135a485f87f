//! A throw-away PostgreSQL cluster: initdb, postgres, gone.
//!
//! PostgreSQL refuses to run as root, so as root the account `postgres` runs it. fsync is off:
//! this cluster is a judge of answers, never of speed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use super::engine::{ServerFailure, free_port, tail, wait_until_ready};
use crate::wire::Address;

/// A running cluster and its directory.
#[derive(Debug)]
pub struct PostgresCluster {
    child: Child,
    port: u16,
    log: PathBuf,
    folder: TempDir,
}

impl PostgresCluster {
    /// Makes and starts an empty cluster: UTF8, collation C, trust.
    ///
    /// # Errors
    /// When PostgreSQL's programs are missing or fail.
    pub fn start_fresh() -> Result<Self, ServerFailure> {
        let folder = tempfile::Builder::new()
            .prefix("pontoon-pg-")
            .tempdir()
            .map_err(ServerFailure::io("make a directory"))?;
        if runs_as_root() {
            run(Command::new("chown").arg("postgres").arg(folder.path()))?;
        }
        let data = folder.path().join("data");
        run(unprivileged("initdb")
            .arg("-D")
            .arg(&data)
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ])
            .args(["--no-sync", "--no-instructions"]))?;
        let port = free_port()?;
        let log = folder.path().join("log");
        let output = File::create(&log).map_err(ServerFailure::io("open the log"))?;
        let errors = output
            .try_clone()
            .map_err(ServerFailure::io("share the log"))?;
        let child = unprivileged("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off"])
            .args([
                "-c",
                "timezone=UTC",
                "-c",
                "log_timezone=UTC",
                "-c",
                "lc_messages=C",
            ])
            .args(["-c", "max_prepared_transactions=4"])
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(ServerFailure::io("start postgres"))?;
        let mut cluster = Self {
            child,
            port,
            log,
            folder,
        };
        let address = cluster.address();
        let log = cluster.log.clone();
        wait_until_ready(&mut cluster.child, &address, || tail(&log))?;
        Ok(cluster)
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        Address::local(self.port)
    }

    /// The process still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The directory that holds the cluster.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for PostgresCluster {
    fn drop(&mut self) {
        // SIGQUIT: immediate shutdown of the postmaster with all its children.
        let asked = Command::new("kill")
            .args(["-QUIT", &self.child.id().to_string()])
            .status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// One of PostgreSQL's programs: in `PGBINDIR`, else where Debian has those of version 15.
pub fn postgres_program(name: &str) -> PathBuf {
    std::env::var_os("PGBINDIR")
        .map_or_else(
            || PathBuf::from("/usr/lib/postgresql/15/bin"),
            PathBuf::from,
        )
        .join(name)
}

fn runs_as_root() -> bool {
    let uid = Command::new("id").arg("-u").output();
    uid.is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

/// A command that runs one of PostgreSQL's programs, as `postgres` where we are root.
fn unprivileged(name: &str) -> Command {
    if !runs_as_root() {
        return Command::new(postgres_program(name));
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=postgres",
        "--regid=postgres",
        "--init-groups",
        "--",
    ]);
    command.arg(postgres_program(name));
    command
}

fn run(command: &mut Command) -> Result<Output, ServerFailure> {
    let what = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(ServerFailure::io(what.clone()))?;
    if output.status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(ServerFailure::Tool { what, output: text })
}
