//! Rows into the bytes of COPY TO.

use super::options::CopyOptions;

/// Appends a value in text form, escaped.
pub(crate) fn text_field(value: &str, options: &CopyOptions, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        let letter = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            b if b == options.delimiter => b,
            b => {
                out.push(b);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}

/// Appends a value in CSV form, quoted where it must be.
pub(crate) fn csv_field(
    value: &str,
    options: &CopyOptions,
    force: bool,
    alone: bool,
    out: &mut Vec<u8>,
) {
    let special = |b: u8| b == options.delimiter || b == options.quote || b == b'\n' || b == b'\r';
    let quote =
        force || value == options.null || (alone && value == "\\.") || value.bytes().any(special);
    if !quote {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    out.push(options.quote);
    for byte in value.bytes() {
        if byte == options.quote || byte == options.escape {
            out.push(options.escape);
        }
        out.push(byte);
    }
    out.push(options.quote);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::statement::CopyOption;

    #[test]
    fn quotes_and_escapes() {
        let csv = CopyOptions::read(
            &[("format".to_owned(), CopyOption::Text("csv".to_owned()))],
            false,
        )
        .unwrap();
        let shown = |value: &str, force: bool| {
            let mut out = Vec::new();
            csv_field(value, &csv, force, false, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown("a", false), "a");
        assert_eq!(shown("a,\"b\"", false), "\"a,\"\"b\"\"\"");
        assert_eq!(shown("", false), "\"\"");
        assert_eq!(shown("a", true), "\"a\"");
        let text = CopyOptions::read(&[], false).unwrap();
        let mut out = Vec::new();
        text_field("a\tb\\\n", &text, &mut out);
        assert_eq!(out, b"a\\tb\\\\\\n");
    }
}
