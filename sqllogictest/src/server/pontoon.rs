//! A Pontoon node as a process of its own: start, kill -9, start again on the same directory.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::engine::{ServerFailure, free_port, tail, wait_until, wait_until_ready};
use crate::wire::{Address, Client};

/// The binary under test: `PONTOON_BIN`, else beside this program, else in `CARGO_TARGET_DIR`.
pub fn pontoon_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PONTOON_BIN") {
        return PathBuf::from(path);
    }
    let beside = std::env::current_exe().ok().and_then(|exe| {
        // target/debug/slt or target/debug/deps/some_test
        exe.ancestors()
            .skip(1)
            .take(2)
            .map(|folder| folder.join("pontoon"))
            .find(|path| path.is_file())
    });
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    beside.unwrap_or_else(|| PathBuf::from(target).join("debug/pontoon"))
}

/// How long a node may take to end.
const END_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether it has.
const END_POLL: Duration = Duration::from_millis(5);
/// How long a page may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Where a node runs.
#[derive(Debug, Clone)]
pub struct Home {
    /// The address it listens on.
    pub host: String,
    /// The command that runs it, as `ip netns exec NAME`, which must give its process to it; empty
    /// for none.
    pub wrapper: Vec<String>,
}

impl Home {
    /// On the loopback.
    pub fn local() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            wrapper: Vec::new(),
        }
    }
}

/// A node and the directory it works in.
#[derive(Debug)]
pub struct PontoonNode {
    child: Child,
    home: Home,
    data_dir: PathBuf,
    log: PathBuf,
    ports: Ports,
    flags: Vec<String>,
    owned: Option<TempDir>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    sql: u16,
    rpc: u16,
    admin: u16,
}

impl Ports {
    fn free() -> Result<Self, ServerFailure> {
        Ok(Self {
            sql: free_port()?,
            rpc: free_port()?,
            admin: free_port()?,
        })
    }

    /// The body of an admin page.
    fn admin_page(self, host: &str, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((host, self.admin))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        write!(stream, "GET {path} HTTP/1.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
        Ok(body.unwrap_or_default().to_owned())
    }
}

/// Whether a node with these flags answers no SQL clients.
fn is_data_only(flags: &[String]) -> bool {
    flags.windows(2).any(|pair| pair == ["--role", "data"])
}

impl PontoonNode {
    /// Starts a node on an empty temporary directory that is removed with the handle.
    ///
    /// # Errors
    /// When the binary is missing or the node does not answer.
    pub fn start_fresh() -> Result<Self, ServerFailure> {
        let folder = tempfile::Builder::new()
            .prefix("pontoon-node-")
            .tempdir()
            .map_err(ServerFailure::io("make a directory"))?;
        let mut node = Self::start_in(&folder.path().join("data"))?;
        node.owned = Some(folder);
        Ok(node)
    }

    /// Starts a node on the given data directory, which stays.
    ///
    /// # Errors
    /// As [`PontoonNode::start_fresh`].
    pub fn start_in(data_dir: &Path) -> Result<Self, ServerFailure> {
        Self::start_with(data_dir, &[])
    }

    /// Starts a node on the given data directory with further flags.
    ///
    /// # Errors
    /// As [`PontoonNode::start_fresh`].
    pub fn start_with(data_dir: &Path, flags: &[&str]) -> Result<Self, ServerFailure> {
        Self::start_secure(data_dir, &[&["--insecure"], flags].concat())
    }

    /// Starts a node that talks to others by certificates: without `--insecure`.
    ///
    /// # Errors
    /// As [`PontoonNode::start_fresh`].
    pub fn start_secure(data_dir: &Path, flags: &[&str]) -> Result<Self, ServerFailure> {
        Self::start_at(Home::local(), data_dir, flags)
    }

    /// Starts a node elsewhere than on the loopback, with no flags but these.
    ///
    /// # Errors
    /// As [`PontoonNode::start_fresh`].
    pub fn start_at(home: Home, data_dir: &Path, flags: &[&str]) -> Result<Self, ServerFailure> {
        let log = data_dir.with_extension("log");
        let ports = Ports::free()?;
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let child = spawn(&home, data_dir, &log, ports, &flags)?;
        let mut node = Self {
            child,
            home,
            data_dir: data_dir.to_owned(),
            log,
            ports,
            flags,
            owned: None,
        };
        node.wait()?;
        Ok(node)
    }

    /// Runs `pontoon start` on the directory and waits for it to end by itself: for directories
    /// that must be refused. Returns the exit code and everything it printed.
    ///
    /// # Errors
    /// When the binary is missing, or the node starts after all.
    pub fn expect_refusal(data_dir: &Path) -> Result<(Option<i32>, String), ServerFailure> {
        Self::expect_refusal_with(data_dir, &["--insecure"])
    }

    /// [`PontoonNode::expect_refusal`] with other flags than `--insecure`.
    ///
    /// # Errors
    /// As there.
    pub fn expect_refusal_with(
        data_dir: &Path,
        flags: &[&str],
    ) -> Result<(Option<i32>, String), ServerFailure> {
        let log = data_dir.with_extension("refusal.log");
        let ports = Ports::free()?;
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut child = spawn(&Home::local(), data_dir, &log, ports, &flags)?;
        let address = Address::local(ports.sql);
        match wait_until_ready(&mut child, &address, || tail(&log)) {
            Err(ServerFailure::Ended { .. }) => {
                let status = child
                    .wait()
                    .map_err(ServerFailure::io("wait for the node"))?;
                Ok((status.code(), tail(&log)))
            }
            other => {
                let _ = child.kill();
                let _ = child.wait();
                other?;
                Err(ServerFailure::Tool {
                    what: "refusing the directory".to_owned(),
                    output: "the node started".to_owned(),
                })
            }
        }
    }

    /// Kills the process with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill9(&mut self) -> Result<(), ServerFailure> {
        self.child
            .kill()
            .map_err(ServerFailure::io("kill the node"))?;
        self.child
            .wait()
            .map_err(ServerFailure::io("wait for the node"))?;
        Ok(())
    }

    /// Asks the process to end in good order.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn terminate(&self) -> Result<(), ServerFailure> {
        let sent = Command::new("kill")
            .args(["-TERM", &self.pid().to_string()])
            .status();
        sent.map_err(ServerFailure::io("send SIGTERM"))?;
        Ok(())
    }

    /// Waits for the end of the process; its exit code, `None` after a signal.
    ///
    /// # Errors
    /// When it cannot be waited for, or does not end.
    pub fn wait_for_end(&mut self) -> Result<Option<i32>, ServerFailure> {
        let since = Instant::now();
        while since.elapsed() < END_MAX {
            let status = self.child.try_wait();
            if let Some(status) = status.map_err(ServerFailure::io("wait for the node"))? {
                return Ok(status.code());
            }
            std::thread::sleep(END_POLL);
        }
        Err(ServerFailure::Silent(END_MAX))
    }

    /// All of its log.
    pub fn whole_log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Starts the node again on the same directory and the same ports.
    ///
    /// # Errors
    /// As [`PontoonNode::start_fresh`].
    pub fn start_again(&mut self) -> Result<(), ServerFailure> {
        self.child = spawn(
            &self.home,
            &self.data_dir,
            &self.log,
            self.ports,
            &self.flags,
        )?;
        self.wait()
    }

    /// Uses these flags from the next start on.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Starts the node again on the same directory and other ports.
    ///
    /// # Errors
    /// As [`PontoonNode::start_fresh`].
    pub fn start_elsewhere(&mut self) -> Result<(), ServerFailure> {
        self.ports = Ports::free()?;
        self.start_again()
    }

    /// Where it listens for SQL.
    pub fn address(&self) -> Address {
        Address {
            host: self.home.host.clone(),
            ..Address::local(self.ports.sql)
        }
    }

    /// Where it listens for other nodes, `host:port`.
    pub fn rpc_address(&self) -> String {
        format!("{}:{}", self.home.host, self.ports.rpc)
    }

    /// The body of one of the admin pages.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn admin_page(&self, path: &str) -> Result<String, ServerFailure> {
        let page = self.ports.admin_page(&self.home.host, path);
        page.map_err(ServerFailure::io("read an admin page"))
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The operating system's number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    fn wait(&mut self) -> Result<(), ServerFailure> {
        let (ports, log) = (self.ports, self.log.clone());
        let (host, address) = (self.home.host.clone(), self.address());
        let holds_data_only = is_data_only(&self.flags);
        // Its pages are there when others answer clients.
        let is_ready = || match holds_data_only {
            true => ports.admin_page(&host, "/health").is_ok(),
            false => Client::connect(&address).is_ok(),
        };
        let ready = wait_until(&mut self.child, is_ready, || tail(&log));
        if ready.is_err() {
            // Reported by the caller; the process must not outlive the failure.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        ready
    }
}

impl Drop for PontoonNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(
    home: &Home,
    data_dir: &Path,
    log: &Path,
    ports: Ports,
    flags: &[String],
) -> Result<Child, ServerFailure> {
    let binary = pontoon_binary();
    let output = File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(ServerFailure::io(format!("open {}", log.display())))?;
    let errors = output
        .try_clone()
        .map_err(ServerFailure::io("share the log"))?;
    let mut command = match home.wrapper.as_slice() {
        [] => Command::new(&binary),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&binary);
            command
        }
    };
    let listen = |port: u16| format!("{}:{port}", home.host);
    command
        .arg("start")
        .arg("--data-dir")
        .arg(data_dir)
        .args(match is_data_only(flags) {
            true => Vec::new(),
            false => vec!["--listen-sql".to_owned(), listen(ports.sql)],
        })
        .args(["--listen-rpc", &listen(ports.rpc)])
        .args(["--listen-admin", &listen(ports.admin)])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(ServerFailure::io(format!("start {}", binary.display())))
}
