//! Data directories that must be refused, and a disk that fills up under a running node.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pontoon_sqllogictest::server::PontoonNode;
use pontoon_sqllogictest::wire::{Client, WireError};

#[test]
fn a_directory_in_use_is_refused_and_its_owner_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = PontoonNode::start_in(&data).unwrap();
    let mut client = Client::connect(&node.address()).unwrap();
    client.query("CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    let (code, output) = PontoonNode::expect_refusal(&data).unwrap();
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains(&data.display().to_string()), "{output}");
    assert!(output.contains("another pontoon process"), "{output}");
    client.query("INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(
        client.scalar("SELECT count(*) FROM t").unwrap().as_deref(),
        Some("1")
    );
}

#[test]
fn a_directory_of_another_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut node = PontoonNode::start_in(&data).unwrap();
    let mut client = Client::connect(&node.address()).unwrap();
    client.query("CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    client.query("INSERT INTO t VALUES (1)").unwrap();
    node.kill9().unwrap();
    let format = fs::read_to_string(data.join("FORMAT")).unwrap();
    fs::write(data.join("FORMAT"), "pontoon data format 99\n").unwrap();
    let (code, output) = PontoonNode::expect_refusal(&data).unwrap();
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("another version"), "{output}");
    assert!(output.contains("format 99"), "{output}");
    // With the right version everything is still there.
    fs::write(data.join("FORMAT"), format).unwrap();
    node.start_again().unwrap();
    let mut client = Client::connect(&node.address()).unwrap();
    assert_eq!(
        client.scalar("SELECT count(*) FROM t").unwrap().as_deref(),
        Some("1")
    );
}

#[test]
fn a_directory_of_somebody_else_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("letter.txt"), "dear").unwrap();
    let (code, output) = PontoonNode::expect_refusal(&data).unwrap();
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("data directory"), "{output}");
    let names: Vec<_> = fs::read_dir(&data)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["letter.txt"]);
    // A file where the directory should be.
    let (code, output) = PontoonNode::expect_refusal(&data.join("letter.txt")).unwrap();
    assert_eq!(code, Some(1), "{output}");
}

/// A small file system in memory, gone with its handle; `None` where we may not mount.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={megabytes}m");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .output();
        status
            .is_ok_and(|output| output.status.success())
            .then(|| Self(at.to_owned()))
    }

    /// Writes until nothing fits any more.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![b'x'; size];
            while file.write_all(&block).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy: the node may still hold files when a test fails.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// How long the disk stays full.
const FULL_FOR: Duration = Duration::from_secs(20);
/// Within this after there is room again, writes must be accepted.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

fn count(client: &mut Client) -> u32 {
    let counted = client.scalar("SELECT count(*) FROM t").unwrap();
    counted.unwrap().parse().unwrap()
}

/// Inserts rows until one is refused, which must be told as PostgreSQL tells it. Returns how many
/// rows have been acknowledged by then, of which there were `rows` before.
fn insert_until_full(client: &mut Client, mut rows: u32) -> u32 {
    let wide = "y".repeat(100_000);
    let refusal = loop {
        match client.query(&format!("INSERT INTO t VALUES ({rows}, '{wide}')")) {
            Ok(_) => rows += 1,
            Err(error) => break error,
        }
        assert!(rows < 8_000, "800 MB fit on a disk of 400 MB");
    };
    let WireError::Server(refusal) = refusal else {
        panic!("no answer but {refusal}")
    };
    assert_eq!(refusal.code, "53100", "{refusal}");
    assert!(
        refusal.message.ends_with("no space left on device"),
        "{refusal}"
    );
    let detail = refusal.detail.as_deref().unwrap_or_default();
    assert!(detail.contains("bytes are free"), "{detail}");
    assert!(refusal.hint.is_some());
    rows
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), 400) else {
        println!("left out: mounting a small file system needs root");
        return;
    };
    let mut node = PontoonNode::start_in(&disk.0.join("data")).unwrap();
    let mut client = Client::connect(&node.address()).unwrap();
    client
        .query("CREATE TABLE t (id int PRIMARY KEY, v text)")
        .unwrap();
    client.query("INSERT INTO t VALUES (0, 'before')").unwrap();

    // Somebody else takes every byte.
    let ballast = disk.fill();
    let mut rows = insert_until_full(&mut client, 1);
    let full_since = Instant::now();
    let mut looks = 0;
    while full_since.elapsed() < FULL_FOR {
        assert_eq!(count(&mut client), rows);
        let mut other = Client::connect(&node.address()).unwrap();
        assert_eq!(count(&mut other), rows);
        let refused = other.query("INSERT INTO t VALUES (-1, 'z')").unwrap_err();
        assert_eq!(refused.code(), Some("53100"), "{refused}");
        looks += 1;
    }
    println!("{looks} looks while the disk was full");
    let health = node.admin_page("/health").unwrap();
    assert!(health.contains("writes are refused"), "{health}");
    let health = node.admin_page("/health?scope=read").unwrap();
    assert!(health.starts_with("ok"), "{health}");
    let health = node.admin_page("/health?scope=write").unwrap();
    assert!(health.starts_with("writes are refused"), "{health}");

    fs::remove_file(ballast).unwrap();
    let room_since = Instant::now();
    let insert = format!("INSERT INTO t VALUES ({rows}, 'after')");
    while let Err(error) = client.query(&insert) {
        assert_eq!(error.code(), Some("53100"), "{error}");
        assert!(room_since.elapsed() < RECOVERY_MAX, "{error}");
    }
    println!("writes after {} ms", room_since.elapsed().as_millis());
    rows += 1;
    let health = node.admin_page("/health").unwrap();
    assert!(!health.contains("refused"), "{health}");
    let health = node.admin_page("/health?scope=write").unwrap();
    assert!(health.starts_with("ok"), "{health}");
    node.kill9().unwrap();
    node.start_again().unwrap();
    let mut client = Client::connect(&node.address()).unwrap();
    assert_eq!(count(&mut client), rows, "after a restart");

    // The node itself takes what there is.
    let before = rows;
    rows = insert_until_full(&mut client, rows);
    println!("{} rows of 100 kB fit", rows - before);
    assert!(rows - before > 300, "only {} rows fit", rows - before);
    assert_eq!(count(&mut client), rows);
    node.kill9().unwrap();
    // And somebody else the reserve, while the node is down.
    disk.fill();
    node.start_again().unwrap();
    let mut client = Client::connect(&node.address()).unwrap();
    assert_eq!(count(&mut client), rows, "after a restart on a full disk");
    drop(node);
    drop(disk);
}
