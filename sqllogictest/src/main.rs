//! `slt`: runs SQL suites against a server and prints how much of each passes.
//!
//! Without a choice of suites it runs our own cases and a sample of the SQLite files. It starts a
//! server of its own unless `--connect` names one. It ends with 1 when a suite falls below what is
//! asked of it, with 2 when it cannot run at all.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;

use pontoon_sqllogictest::cases::{rewrite, run_cases};
use pontoon_sqllogictest::corpus::{Dialect, Exclusions, Suite, list_files};
use pontoon_sqllogictest::introspection::replay;
use pontoon_sqllogictest::server::Engine;
use pontoon_sqllogictest::tally::{FileResult, Tally, shortened};
use pontoon_sqllogictest::target::Target;
use pontoon_sqllogictest::wire::Address;

/// Queries in the sample of the SQLite files; sized for three minutes on two cores.
const SQLITE_SAMPLE_QUERIES: usize = 4000;
/// The families of sqllogictest-rs style.
const FAMILIES: [&str; 5] = [
    "cockroach",
    "datafusion",
    "duckdb",
    "risingwave",
    "pgregress",
];

type Failed = Box<dyn std::error::Error>;

#[derive(Debug, Parser)]
#[command(about = "Runs SQL suites against Pontoon or PostgreSQL")]
struct Options {
    /// Which database: pontoon or postgres.
    #[arg(long, default_value = "pontoon")]
    engine: Engine,
    /// Use the server at HOST:PORT instead of starting one.
    #[arg(long)]
    connect: Option<String>,
    /// Run our own cases.
    #[arg(long)]
    cases: bool,
    /// Run a sample of the SQLite files.
    #[arg(long)]
    sqlite: bool,
    /// Run the SQLite files whole.
    #[arg(long)]
    all: bool,
    /// Run a family: cockroach, datafusion, duckdb, risingwave, pgregress, or "every".
    #[arg(long)]
    family: Vec<String>,
    /// Replay the recorded introspection queries of drivers and tools.
    #[arg(long)]
    introspection: bool,
    /// Only files whose name contains this.
    #[arg(long, default_value = "")]
    file: String,
    /// Folder of the foreign suites.
    #[arg(long, env = "PONTOON_CORPUS", default_value = "../shared/corpus")]
    corpus: PathBuf,
    /// Folder of our own cases. Not built in: a checkout may be built in one place and run in
    /// another.
    #[arg(long, default_value = "sqllogictest/cases")]
    case_dir: PathBuf,
    /// Seconds that one statement may take.
    #[arg(long, default_value_t = 20)]
    timeout_s: u64,
    /// How many causes of failure to print.
    #[arg(long, default_value_t = 25)]
    causes: usize,
    /// Write every failure to this file.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Fail when less than this percentage of a foreign suite passes.
    #[arg(long)]
    min_rate: Option<f64>,
    /// Run this shell command with PGHOST, PGPORT, PGUSER and PGDATABASE set, instead of suites.
    #[arg(long)]
    with: Option<String>,
    /// Print a line for every file, not only for those with failures.
    #[arg(long, short)]
    verbose: bool,
    /// Rewrite the expectations of our own cases from the server's answers (PostgreSQL).
    #[arg(long)]
    rewrite: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("slt: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<bool, Failed> {
    let mut target = open(options)?;
    if options.rewrite {
        for file in case_files(options)? {
            let path = options.case_dir.join(file);
            rewrite(&path, &mut target).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        return Ok(true);
    }
    if let Some(command) = &options.with {
        return run_with(command, &target);
    }
    let chosen = options.cases
        || options.sqlite
        || options.all
        || options.introspection
        || !options.family.is_empty();
    let mut report = String::new();
    let mut good = true;
    if options.cases || !chosen {
        good &= own_cases(options, &mut target, &mut report)?;
    }
    if options.sqlite || options.all || !chosen {
        good &= sqlite(options, &mut target, &mut report)?;
    }
    let every: Vec<String> = FAMILIES.iter().map(|name| (*name).to_owned()).collect();
    let families = if options.family.iter().any(|name| name == "every") {
        &every
    } else {
        &options.family
    };
    for family in families {
        good &= self::family(options, family, &mut target, &mut report)?;
    }
    if options.introspection {
        good &= introspection(options, &mut target, &mut report)?;
    }
    if target.deaths() > 0 {
        println!("the server died {} times", target.deaths());
        good = false;
    }
    if let Some(path) = &options.report {
        std::fs::write(path, report)?;
    }
    Ok(good)
}

/// Runs a command that finds the server through libpq's environment variables.
fn run_with(command: &str, target: &Target) -> Result<bool, Failed> {
    let address = target.address();
    let status = Command::new("sh")
        .args(["-c", command])
        .env("PGHOST", &address.host)
        .env("PGPORT", address.port.to_string())
        .env("PGUSER", &address.user)
        .env("PGDATABASE", &address.database)
        .status()?;
    Ok(status.success())
}

fn open(options: &Options) -> Result<Target, Failed> {
    let patience = Duration::from_secs(options.timeout_s);
    let Some(place) = &options.connect else {
        return Ok(Target::start(options.engine, patience)?);
    };
    let (host, port) = place.rsplit_once(':').ok_or("--connect wants HOST:PORT")?;
    let address = Address {
        host: host.to_owned(),
        patience,
        ..Address::local(port.parse()?)
    };
    Ok(Target::existing(options.engine, address))
}

fn case_files(options: &Options) -> Result<Vec<PathBuf>, Failed> {
    let files = chosen_files(&options.case_dir, "slt", &options.file);
    if files.is_empty() {
        let folder = options.case_dir.display();
        return Err(format!("no case in {folder} has {:?} in its name", options.file).into());
    }
    Ok(files)
}

fn chosen_files(folder: &Path, extension: &str, filter: &str) -> Vec<PathBuf> {
    let mut files = list_files(folder, extension);
    files.retain(|file| file.display().to_string().contains(filter));
    files
}

fn own_cases(options: &Options, target: &mut Target, report: &mut String) -> Result<bool, Failed> {
    let files = case_files(options)?;
    let tally = run_cases(&options.case_dir, &files, target, &mut progress(options))?;
    for failure in tally.files.iter().flat_map(|file| &file.failures) {
        println!("  {}  {}", failure.place, shortened(&failure.sql, 100));
        println!("    {}", failure.detail.trim_end().replace('\n', "\n    "));
    }
    finish("own cases", &tally, 0, report);
    Ok(tally.passed() == tally.counted())
}

fn sqlite(options: &Options, target: &mut Target, report: &mut String) -> Result<bool, Failed> {
    let Some(folder) = corpus_folder(options, "sqlite") else {
        return Ok(true);
    };
    let suite = Suite {
        files: chosen_files(&folder, "test", &options.file),
        folder,
        dialect: Dialect::Values,
        label: "postgresql".to_owned(),
        exclusions: Exclusions::read(&options.corpus.join("sqlite-exclude.tsv"))?,
        query_budget: (!options.all).then_some(SQLITE_SAMPLE_QUERIES),
    };
    let tally = suite.run(target, &mut progress(options))?;
    let name = if options.all {
        "SQLite, all"
    } else {
        "SQLite, sample"
    };
    finish(name, &tally, options.causes, report);
    Ok(enough(options, &tally))
}

fn family(
    options: &Options,
    name: &str,
    target: &mut Target,
    report: &mut String,
) -> Result<bool, Failed> {
    if !FAMILIES.contains(&name) {
        return Err(format!("no family {name:?}; there are {FAMILIES:?}").into());
    }
    let Some(folder) = corpus_folder(options, name) else {
        return Ok(true);
    };
    let mut files = chosen_files(&folder, "slt", &options.file);
    files.retain(|file| !file.starts_with("prelude"));
    let suite = Suite {
        files,
        folder,
        dialect: Dialect::Rows,
        label: target.engine().label().to_owned(),
        exclusions: Exclusions::default(),
        query_budget: None,
    };
    let tally = suite.run(target, &mut progress(options))?;
    finish(name, &tally, options.causes, report);
    Ok(enough(options, &tally))
}

fn introspection(
    options: &Options,
    target: &mut Target,
    report: &mut String,
) -> Result<bool, Failed> {
    let Some(folder) = corpus_folder(options, "introspection") else {
        return Ok(true);
    };
    let tally = replay(&folder, &options.file, target, &mut progress(options))?;
    finish("introspection", &tally, options.causes, report);
    Ok(enough(options, &tally))
}

/// The folder of a foreign suite; says so and returns nothing where it is absent.
fn corpus_folder(options: &Options, name: &str) -> Option<PathBuf> {
    let folder = options.corpus.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("{name}: left out, there is no {}", folder.display());
    None
}

fn enough(options: &Options, tally: &Tally) -> bool {
    options.min_rate.is_none_or(|rate| tally.rate() >= rate)
}

fn progress(options: &Options) -> impl FnMut(&FileResult) {
    let verbose = options.verbose;
    move |file| {
        if verbose || file.broken.is_some() {
            let note = file.broken.as_deref().unwrap_or_default();
            println!(
                "  {:>5} of {:>5}  {:>7.1} s  {}  {note}",
                file.passed,
                file.counted,
                file.elapsed_ms as f64 / 1000.0,
                file.name
            );
        }
    }
}

fn finish(name: &str, tally: &Tally, causes: usize, report: &mut String) {
    if causes > 0 && tally.passed() < tally.counted() {
        println!("{name}: most frequent causes of failure");
        print!("{}", tally.causes(causes));
    }
    println!(
        "{name}: {} of {} records pass ({:.2} %), {} files",
        tally.passed(),
        tally.counted(),
        tally.rate(),
        tally.files.len()
    );
    report.push_str(&format!(
        "# {name}\n{}\n{}\n",
        tally.file_table(),
        tally.causes(200)
    ));
    for failure in tally.files.iter().flat_map(|file| &file.failures) {
        report.push_str(&format!(
            "{}\n{}\n    {}\n\n",
            failure.place, failure.sql, failure.detail
        ));
    }
}
