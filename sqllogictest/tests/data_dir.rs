//! Data directories that must be refused, and a disk that fills up under a running node.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    let ballast = disk.fill();

    // What was reserved beforehand may take some more; then it must end with 53100.
    let wide = "y".repeat(100_000);
    let mut acknowledged = 1;
    let refusal = loop {
        match client.query(&format!("INSERT INTO t VALUES ({acknowledged}, '{wide}')")) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 8000, "800 MB fit on a full disk of 400 MB");
    };
    // The refused statement may be told by an error or, as the node stops when its log cannot be
    // written, by the end of the connection: it was not acknowledged.
    if let WireError::Server(_) = refusal {
        assert_eq!(refusal.code(), Some("53100"), "{refusal}");
    }
    let count = |client: &mut Client| -> i32 {
        client
            .scalar("SELECT count(*) FROM t")
            .unwrap()
            .unwrap()
            .parse()
            .unwrap()
    };
    fs::remove_file(ballast).unwrap();
    node.kill9().unwrap();
    node.start_again().unwrap();
    let mut client = Client::connect(&node.address()).unwrap();
    let found = count(&mut client);
    // The one statement whose outcome nobody was told may be there.
    assert!(
        found == acknowledged || found == acknowledged + 1,
        "{acknowledged} rows were acknowledged, {found} are there after a restart"
    );
    drop(node);
    drop(disk);
}
