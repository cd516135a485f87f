//! Limits that the system sets to the process.

/// Open files that the process may have, where the system tells it.
pub(crate) fn open_files() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    parse(&text)
}

fn parse(text: &str) -> Option<usize> {
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_the_soft_limit() {
        let text =
            "Limit   Soft Limit  Hard Limit  Units\nMax open files    1024    4096    files\n";
        assert_eq!(super::parse(text), Some(1024));
    }
}
