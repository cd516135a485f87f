//! A network of namespaces on this machine, and disks that can be made slow.
//!
//! Each node has a namespace with one interface, all of which meet at a bridge in a namespace of its
//! own, where no packet filter of the machine sees what passes. The machine itself is at the bridge
//! too, for clients.
//!
//! A way from one node to another is cut by giving the other one a hardware address there that
//! nobody has: what is sent is lost without a word, in this direction only. It takes no module of
//! the kernel and no packet filter.
//!
//! A disk is a file system of its own in a file, which is frozen again and again: every write and
//! sync waits meanwhile, by whichever call it was asked for, and the process goes on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{io, process};

use pontoon_sqllogictest::server::Home;

/// What names of namespaces begin with; the process that made them follows.
const PREFIX: &str = "pontoon-";
/// A hardware address that nobody has.
const NOWHERE: &str = "02:00:00:00:de:ad";
/// Addresses that are set aside for trials of networks (RFC 2544), of which a lab takes 256.
const NETWORK: &str = "198.18";
/// The size of a disk, of which what is not written takes no room.
const DISK_BYTES: u64 = 4 << 30;
/// Freezes the file system `$1` for most of the time, until it is told to end or process `$2` has.
/// Whoever syncs waits for 0.2 s on average.
const FREEZE: &str = r#"
trap 'exit' TERM
while kill -0 "$2" 2>/dev/null; do
    fsfreeze -f "$1"; sleep 0.3; fsfreeze -u "$1"; sleep 0.03
done"#;

/// Namespaces with a network between them. Dropped, they are gone.
pub(super) struct Lab {
    /// The namespace of the bridge, and those of the nodes.
    spaces: Vec<String>,
    /// The network, without the last number of its addresses.
    network: String,
    /// The machine's own interface.
    link: String,
}

impl Lab {
    /// Why no namespaces can be made here; `None` where they can.
    pub(super) fn why_not() -> Option<String> {
        if tool("id", &["-u"]).is_ok_and(|user| user.trim() != "0") {
            return Some("only root can make network namespaces".to_owned());
        }
        let probe = format!("{PREFIX}{}-probe", process::id());
        let made = ip(&["netns", "add", &probe]);
        let removed = made.and_then(|_| ip(&["netns", "del", &probe]));
        removed.err()
    }

    /// Makes a network for so many nodes.
    pub(super) fn make(nodes: usize) -> Self {
        remove_left();
        let run = process::id();
        let taken = ip(&["-o", "-4", "addr"]).unwrap();
        let network = (0..256).map(|n| format!("{NETWORK}.{}", (run + n) % 256));
        let mut free = network.filter(|network| !taken.contains(&format!("{network}.")));
        let mut lab = Self {
            spaces: Vec::new(),
            network: free.next().unwrap(),
            link: format!("pt{run}"),
        };
        let hub = format!("{PREFIX}{run}-hub");
        lab.add_space(&hub);
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"]).unwrap();
        ip(&["-n", &hub, "link", "set", "bridge", "up"]).unwrap();
        for node in 0..nodes {
            let space = format!("{PREFIX}{run}-{node}");
            lab.add_space(&space);
            let port = format!("port{node}");
            let pair = ["link", "add", "eth0", "type", "veth", "peer", "name", &port];
            ip(&[&["-n", &space][..], &pair, &["netns", &hub]].concat()).unwrap();
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge", "up"]).unwrap();
            let address = format!("{}/24", lab.address(node));
            ip(&["-n", &space, "addr", "add", &address, "dev", "eth0"]).unwrap();
            ip(&["-n", &space, "link", "set", "eth0", "up"]).unwrap();
        }
        lab.join_machine(&hub);
        lab
    }

    fn add_space(&mut self, name: &str) {
        ip(&["netns", "add", name]).unwrap();
        self.spaces.push(name.to_owned());
        ip(&["-n", name, "link", "set", "lo", "up"]).unwrap();
    }

    fn join_machine(&self, hub: &str) {
        let pair = ["type", "veth", "peer", "name", "machine", "netns", hub];
        ip(&[&["link", "add", &self.link][..], &pair].concat()).unwrap();
        ip(&[
            "-n", hub, "link", "set", "machine", "master", "bridge", "up",
        ])
        .unwrap();
        let address = format!("{}.254/24", self.network);
        ip(&["addr", "add", &address, "dev", &self.link]).unwrap();
        ip(&["link", "set", &self.link, "up"]).unwrap();
    }

    fn address(&self, node: usize) -> String {
        format!("{}.{}", self.network, node + 1)
    }

    fn space(&self, node: usize) -> &str {
        &self.spaces[node + 1]
    }

    /// Where a node is at home.
    pub(super) fn home(&self, node: usize) -> Home {
        let wrapper = ["ip", "netns", "exec", self.space(node)];
        Home {
            host: self.address(node),
            wrapper: wrapper.map(str::to_owned).to_vec(),
        }
    }

    /// Nothing that `from` sends reaches `to` any more.
    pub(super) fn cut(&self, from: usize, to: usize) {
        let (space, to) = (self.space(from), self.address(to));
        let neighbour = ["neigh", "replace", &to, "lladdr", NOWHERE, "dev", "eth0"];
        let cut = [&["-n", space][..], &neighbour, &["nud", "permanent"]].concat();
        ip(&cut).unwrap();
    }

    /// Everything reaches everybody.
    pub(super) fn heal(&self) {
        for space in self.spaces.iter().skip(1) {
            ip(&["-n", space, "neigh", "flush", "dev", "eth0", "nud", "all"]).unwrap();
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What is not there need not be removed. The other ends of links go with their namespaces.
        let _ = ip(&["link", "del", &self.link]);
        for space in &self.spaces {
            let _ = ip(&["netns", "del", space]);
        }
    }
}

/// Removes the namespaces of runs that were killed, with what runs in them.
fn remove_left() {
    for line in ip(&["netns", "list"]).unwrap_or_default().lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let run = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let Some(run) = run.filter(|run| !Path::new("/proc").join(run).exists()) else {
            continue;
        };
        for process in ip(&["netns", "pids", name]).unwrap_or_default().lines() {
            let _ = tool("kill", &["-KILL", process]);
        }
        let _ = ip(&["link", "del", &format!("pt{run}")]);
        let _ = ip(&["netns", "del", name]);
    }
}

/// A file system in a file. Dropped, it is gone; nobody may use it by then.
pub(super) struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Makes one that lies at `at`, in a file beside that. Fails where no file can be mounted.
    pub(super) fn make(at: &Path) -> Result<Self, String> {
        let image = at.with_extension("disk");
        let made = || -> io::Result<()> {
            fs::create_dir(at)?;
            File::create(&image)?.set_len(DISK_BYTES)
        };
        made().unwrap();
        let (path, image) = (at.to_str().unwrap(), image.to_str().unwrap());
        tool("mkfs.ext4", &["-q", "-F", image])?;
        tool("mount", &["-o", "loop", image, path])?;
        fs::remove_dir(at.join("lost+found")).unwrap();
        Ok(Self { at: at.to_owned() })
    }

    /// Makes it slow until the answer is dropped.
    pub(super) fn slow(&self) -> Slow {
        let mut command = Command::new("sh");
        command.args(["-c", FREEZE, "sh"]).arg(&self.at);
        command.arg(process::id().to_string()).stdin(Stdio::null());
        Slow {
            at: self.at.clone(),
            freezer: command.spawn().unwrap(),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = tool("umount", &["-l", &self.at.to_string_lossy()]);
    }
}

/// A disk that is slow.
pub(super) struct Slow {
    at: PathBuf,
    freezer: Child,
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = tool("kill", &["-TERM", &self.freezer.id().to_string()]);
        let _ = self.freezer.wait();
        // It may have ended in the midst of it.
        let _ = tool("fsfreeze", &["-u", &self.at.to_string_lossy()]);
    }
}

fn ip(args: &[&str]) -> Result<String, String> {
    tool("ip", args)
}

/// Runs a program of the system to its end, and returns what it prints.
pub(super) fn tool(program: &str, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    let done = command.args(args).stdin(Stdio::null()).output();
    let done = done.map_err(|error| format!("{program}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("{program} {}: {}", args.join(" "), said.trim()))
}
