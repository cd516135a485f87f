//! One flipped bit somewhere in a data directory: the node refuses it, or gives an error, or answers
//! rightly. It never answers wrongly.
//!
//! `PONTOON_FLIPS=n` sets how many bits are flipped, each in a copy of its own; `PONTOON_SEED=n`
//! where they are.
//!
//! What was written last is not looked at: a frame of the log that is damaged with nothing valid
//! behind it is one that was being written when the power failed, of which nobody was told.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pontoon_sqllogictest::server::{PontoonNode, ServerFailure};
use pontoon_sqllogictest::wire::{Client, WireError};

fn number(name: &str, usual: u64) -> u64 {
    let given = std::env::var(name).ok().and_then(|n| n.parse().ok());
    given.unwrap_or(usual)
}

/// Numbers that look random, from a seed. Algorithm: splitmix64 (Steele, Lea, Flood 2014).
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Flips one bit of a file that is in use; of which, and where, is drawn. Each file is as likely as
/// any other, half of the time one of the log.
fn flip(store: &Path, draws: &mut Draws) -> String {
    let folder = ["raftlog", "data"][draws.below(2) as usize];
    let mut files = Vec::new();
    files_below(&store.join(folder), &mut files);
    files.sort();
    // Files may be longer than what is used of them; the rest is zeros.
    let used = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        let last = bytes.iter().rposition(|byte| *byte != 0)?;
        Some((path, last as u64 + 1))
    };
    let used: Vec<(PathBuf, u64)> = files.into_iter().filter_map(used).collect();
    let (path, length) = &used[draws.below(used.len() as u64) as usize];
    let at = draws.below(*length);
    let bit = draws.below(8);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    byte[0] ^= 1 << bit;
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&byte).unwrap();
    let shown = path.strip_prefix(store).unwrap().display();
    format!("bit {bit} of byte {at} of {shown}")
}

/// What a node with a damaged directory did.
#[derive(Debug)]
enum Reaction {
    /// It does not start, and says why.
    Refused(String),
    /// It starts, and some query fails.
    Failed(String),
    /// It answers as if nothing had happened.
    Unharmed,
}

type Rows = Vec<Vec<Option<String>>>;

const QUERIES: [&str; 3] = [
    "SELECT id, v, n FROM kept ORDER BY id",
    "SELECT id FROM kept WHERE n BETWEEN 100 AND 200 ORDER BY n, id",
    "SELECT count(*), sum(n) FROM kept",
];

fn answers(client: &mut Client) -> Result<Vec<Rows>, WireError> {
    QUERIES
        .iter()
        .map(|query| client.query(query).map(|outcome| outcome.rows))
        .collect()
}

fn react(data: &Path, expected: &[Rows]) -> Reaction {
    let node = match PontoonNode::start_in(data) {
        Ok(node) => node,
        Err(ServerFailure::Ended { output, .. }) => return Reaction::Refused(output),
        Err(other) => panic!("the node neither starts nor ends: {other}"),
    };
    let found = Client::connect(&node.address()).and_then(|mut client| {
        let found = answers(&mut client)?;
        client.query("INSERT INTO kept VALUES (-1, 'new', 0)")?;
        client.query("DELETE FROM kept WHERE id = -1")?;
        Ok(found)
    });
    match found {
        Ok(found) => {
            assert!(found == expected, "a wrong answer\n{}", node.log_tail());
            Reaction::Unharmed
        }
        Err(error) => Reaction::Failed(format!("{error}\n{}", node.log_tail())),
    }
}

#[test]
fn a_flipped_bit_never_makes_an_answer_wrong() {
    let flips = number("PONTOON_FLIPS", 12);
    let mut draws = Draws(number("PONTOON_SEED", 1));
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    let mut node = PontoonNode::start_in(&original).unwrap();
    let mut client = Client::connect(&node.address()).unwrap();
    client
        .query("CREATE TABLE kept (id int PRIMARY KEY, v text NOT NULL, n int NOT NULL)")
        .unwrap();
    client.query("CREATE INDEX ON kept (n)").unwrap();
    client
        .query(
            "INSERT INTO kept SELECT i, md5(i::text), i * 7 % 1000 FROM generate_series(1, 5000) i",
        )
        .unwrap();
    // Some of it is in tables of the store, some in its journal, some in the log only.
    node.terminate().unwrap();
    node.wait_for_end().unwrap();
    node.start_again().unwrap();
    let mut client = Client::connect(&node.address()).unwrap();
    client
        .query("UPDATE kept SET v = v || v WHERE id % 5 = 0")
        .unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    client.query("DELETE FROM kept WHERE id % 11 = 0").unwrap();
    client
        .query("INSERT INTO kept SELECT i, 'late', 150 FROM generate_series(9001, 9100) i")
        .unwrap();
    let expected = answers(&mut client).unwrap();
    client
        .query("CREATE TABLE last (id int PRIMARY KEY)")
        .unwrap();
    for id in 0..20 {
        client
            .query(&format!("INSERT INTO last VALUES ({id})"))
            .unwrap();
    }
    node.kill9().unwrap();
    let (mut refused, mut failed, mut unharmed) = (0, 0, 0);
    for _ in 0..flips {
        let data = folder.path().join("damaged");
        copy(&original, &data);
        let what = flip(&data.join("store"), &mut draws);
        // Seen when the assertion in it fails.
        println!("{what}");
        match react(&data, &expected) {
            Reaction::Refused(why) => {
                refused += 1;
                let reason = why.lines().find(|line| line.starts_with("pontoon: "));
                println!("  {}", reason.unwrap_or_else(|| panic!("no reason: {why}")));
            }
            Reaction::Failed(why) => {
                failed += 1;
                println!("  {why}");
            }
            Reaction::Unharmed => unharmed += 1,
        }
        fs::remove_dir_all(&data).unwrap();
        let _ = fs::remove_file(data.with_extension("log"));
    }
    println!("{flips} flips: {refused} refused, {failed} with errors, {unharmed} without harm");
}

#[test]
fn an_undamaged_copy_is_unharmed() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original");
    let mut node = PontoonNode::start_in(&original).unwrap();
    let mut client = Client::connect(&node.address()).unwrap();
    client
        .query("CREATE TABLE kept (id int PRIMARY KEY, v text NOT NULL, n int NOT NULL)")
        .unwrap();
    client
        .query("INSERT INTO kept VALUES (1, 'one', 150)")
        .unwrap();
    let expected = answers(&mut client).unwrap();
    node.kill9().unwrap();
    let data = folder.path().join("copy");
    copy(&original, &data);
    assert!(matches!(react(&data, &expected), Reaction::Unharmed));
}
