//! The text of an expression with the parentheses left out that PostgreSQL leaves out when it is
//! asked for pretty printing (`\d` in psql asks for it).
//!
//! Works on the canonical text, in which every operator stands in parentheses: each pair around an
//! operator is kept or dropped by what is in it and what it stands in, after `isSimpleNode` in
//! PostgreSQL's `ruleutils.c`.

/// A piece of canonical text.
#[derive(Debug)]
enum Token<'a> {
    Word(&'a str),
    /// Digits, strings, quoted identifiers, commas, colons: whatever matters to nobody here.
    Other(&'a str),
    Operator(&'a str),
    Space,
    Group {
        open: char,
        inside: Vec<Token<'a>>,
    },
}

/// What stands in a pair of parentheses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    And,
    Or,
    Not,
    /// `IS NULL`, `IS DISTINCT FROM` ...
    Test,
    /// An operator with two operands: its first letter if it is arithmetic of one letter.
    Binary(Option<char>),
    /// An operator with one operand.
    Unary,
    /// An operator with ANY or ALL; AT TIME ZONE.
    Other,
    /// No operator: a column, a constant, a call, a cast.
    Plain,
}

/// What a pair of parentheses stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Nothing that binds: the whole expression, arguments, elements, parts of CASE.
    Free,
    /// Before `::`.
    Cast,
    /// Beside an operator; on its left, if it has two operands and this is the first.
    Operand { of: Kind, left: bool },
}

/// The pretty form of a canonical expression.
pub(super) fn pretty(expr: &str) -> String {
    crate::parse::depth::with_stack(|| {
        let mut rest = expr;
        let tokens = tokens(&mut rest);
        let mut out = String::with_capacity(expr.len());
        print(&tokens, &mut out);
        out
    })
}

fn is_operator(c: char) -> bool {
    "+-*/<>=~!@#%^&|`?".contains(c)
}

/// Reads up to the closing bracket or the end.
fn tokens<'a>(rest: &mut &'a str) -> Vec<Token<'a>> {
    let mut found = Vec::new();
    while let Some(c) = rest.chars().next() {
        match c {
            ')' | ']' => break,
            '(' | '[' => {
                *rest = rest.get(1..).unwrap_or_default();
                let inside = tokens(rest);
                *rest = rest.get(1..).unwrap_or_default();
                found.push(Token::Group { open: c, inside });
                continue;
            }
            _ => {}
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let length = match c {
            '\'' | '"' => quoted(rest, c),
            c if is_operator(c) => run(rest, is_operator),
            c if c.is_alphabetic() || c == '_' => run(rest, is_word),
            c if c.is_ascii_digit() => run(rest, |c| is_word(c) || c == '.'),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        *rest = after;
        found.push(match c {
            ' ' => Token::Space,
            c if is_operator(c) => Token::Operator(token),
            c if c.is_alphabetic() || c == '_' => Token::Word(token),
            _ => Token::Other(token),
        });
    }
    found
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// The length of a quoted text; a doubled quote is two texts side by side.
fn quoted(text: &str, quote: char) -> usize {
    let inside = text.get(1..).unwrap_or_default();
    inside.find(quote).map_or(text.len(), |at| at + 2)
}

fn kind(tokens: &[Token<'_>]) -> Kind {
    if let [Token::Group { open: '(', inside }] = tokens {
        return kind(inside);
    }
    let words = || {
        tokens.iter().filter_map(|token| match token {
            Token::Word(word) => Some(*word),
            _ => None,
        })
    };
    if words().next() == Some("CASE") {
        return Kind::Plain;
    }
    if words().any(|word| word == "OR") {
        return Kind::Or;
    }
    if words().any(|word| word == "AND") {
        return Kind::And;
    }
    if matches!(tokens.first(), Some(Token::Word("NOT"))) {
        return Kind::Not;
    }
    if words().any(|word| word == "IS") {
        return Kind::Test;
    }
    if words().any(|word| word == "AT") {
        return Kind::Other;
    }
    let at = tokens
        .iter()
        .position(|token| matches!(token, Token::Operator(_)));
    match at.and_then(|at| tokens.get(at)) {
        Some(Token::Operator(name)) => {
            if words().any(|word| word == "ANY" || word == "ALL") {
                return Kind::Other;
            }
            if at == Some(0) {
                return Kind::Unary;
            }
            let mut letters = name.chars();
            let arithmetic = letters.next().filter(|c| "+-*/%".contains(*c));
            Kind::Binary(arithmetic.filter(|_| letters.next().is_none()))
        }
        _ => Kind::Plain,
    }
}

/// Whether parentheses around `kind` can be left out at `place`.
fn is_simple(kind: Kind, place: Place) -> bool {
    let Place::Operand { of, left } = place else {
        return kind == Kind::Plain || place == Place::Free;
    };
    match (kind, of) {
        (Kind::Plain, _) => true,
        (Kind::And | Kind::Not, Kind::And | Kind::Or) | (Kind::Or, Kind::Or) => true,
        (Kind::Binary(_) | Kind::Test, Kind::And | Kind::Or | Kind::Not) => true,
        (Kind::Binary(Some(child)), Kind::Binary(Some(parent))) => {
            let low = |c| matches!(c, '+' | '-');
            match (low(child), low(parent)) {
                (false, true) => true,
                (true, false) => false,
                _ => left,
            }
        }
        (Kind::Unary, Kind::And | Kind::Or | Kind::Not) => true,
        _ => false,
    }
}

/// Whether an operation is cast to text here: by its output function, which makes PostgreSQL take
/// the cast for no simpler than the operation.
fn casts_to_text(rest: &[Token<'_>], kind: Kind) -> bool {
    matches!(kind, Kind::Binary(_) | Kind::Unary)
        && matches!(
            rest,
            [
                Token::Other(":"),
                Token::Other(":"),
                Token::Word("text"),
                ..
            ]
        )
}

/// How many tokens the `::` and the name of a type take at the start of `tokens`.
fn cast_length(tokens: &[Token<'_>]) -> usize {
    let mut length = 0;
    let mut named = false;
    while let Some(token) = tokens.get(length) {
        let next = tokens.get(length + 1);
        match token {
            Token::Other(_) if !named => {}
            Token::Group { .. } => {}
            Token::Word(_) => named = true,
            Token::Space if matches!(next, Some(Token::Word(word)) if TYPE_WORDS.contains(word)) => {
            }
            _ => break,
        }
        length += 1;
    }
    length
}

/// How the names of types go on that have more words than one.
const TYPE_WORDS: &[&str] = &["varying", "precision", "with", "without", "time", "zone"];

/// Whether parentheses behind this token are no more than that: not those of a call, a type, ANY.
fn groups_after(before: Option<&Token<'_>>) -> bool {
    match before {
        None | Some(Token::Operator(_)) => true,
        Some(Token::Word(word)) => matches!(
            *word,
            "AND" | "OR" | "NOT" | "WHEN" | "THEN" | "ELSE" | "CASE" | "FROM"
        ),
        Some(Token::Other(text)) => *text == ",",
        Some(Token::Space | Token::Group { .. }) => false,
    }
}

fn print(tokens: &[Token<'_>], out: &mut String) {
    let whole = kind(tokens);
    let is_operation = whole != Kind::Plain && !matches!(tokens, [Token::Group { .. }]);
    let mut seen_operator = false;
    // Where a cast ends that has to stand in parentheses.
    let mut cast_end = None;
    for (at, token) in tokens.iter().enumerate() {
        if cast_end == Some(at) {
            out.push(')');
        }
        match token {
            Token::Word(text) => {
                seen_operator |= is_operation && *text == "IS";
                out.push_str(text);
            }
            Token::Operator(text) => {
                seen_operator = true;
                out.push_str(text);
            }
            Token::Other(text) => out.push_str(text),
            Token::Space => out.push(' '),
            Token::Group { open: '[', inside } => {
                out.push('[');
                print(inside, out);
                out.push(']');
            }
            Token::Group { inside, .. } => {
                let earlier = tokens.get(..at).unwrap_or_default();
                let before = earlier.iter().rev().find(|t| !matches!(t, Token::Space));
                let is_cast = matches!(tokens.get(at + 1), Some(Token::Other(":")));
                let place = match (is_cast, is_operation) {
                    (true, _) => Place::Cast,
                    (false, true) => Place::Operand {
                        of: whole,
                        left: !seen_operator,
                    },
                    (false, false) => Place::Free,
                };
                if groups_after(before) && is_simple(kind(inside), place) {
                    print(inside, out);
                    continue;
                }
                let rest = tokens.get(at + 1..).unwrap_or_default();
                if is_operation && groups_after(before) && casts_to_text(rest, kind(inside)) {
                    out.push('(');
                    cast_end = Some(at + 1 + cast_length(rest));
                }
                out.push('(');
                print(inside, out);
                out.push(')');
            }
        }
    }
    if cast_end == Some(tokens.len()) {
        out.push(')');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both forms as PostgreSQL 15 prints them.
    #[test]
    fn as_postgresql() {
        for (canonical, expected) in [
            ("(quantity >= 0)", "quantity >= 0"),
            ("((a > 0) AND (b < 10))", "a > 0 AND b < 10"),
            (
                "((a > 0) OR ((b > 0) AND (c > 0)))",
                "a > 0 OR b > 0 AND c > 0",
            ),
            (
                "(((a > 0) OR (b > 0)) AND (c > 0))",
                "(a > 0 OR b > 0) AND c > 0",
            ),
            ("(NOT ((a > 0) AND (b > 0)))", "NOT (a > 0 AND b > 0)"),
            ("((a + (b * c)) > 0)", "(a + b * c) > 0"),
            (
                "(((a - b) - c) > (a - (b - c)))",
                "(a - b - c) > (a - (b - c))",
            ),
            ("((a > 0) IS TRUE)", "(a > 0) IS TRUE"),
            ("((a IS NULL) = (b IS NULL))", "(a IS NULL) = (b IS NULL)"),
            (
                "(((v)::text = 'it''s (a) OR'::text) AND (a > 0))",
                "v::text = 'it''s (a) OR'::text AND a > 0",
            ),
            (
                "((a = ANY (ARRAY[1, 2, 3])) OR (b > 0))",
                "(a = ANY (ARRAY[1, 2, 3])) OR b > 0",
            ),
            (
                "(length((t || 'x'::text)) > (a + 1))",
                "length(t || 'x'::text) > (a + 1)",
            ),
            ("(((a + b))::text = t)", "((a + b)::text) = t"),
            (
                "(((a + b))::double precision > (1.5)::double precision)",
                "(a + b)::double precision > 1.5::double precision",
            ),
            (
                "((n)::numeric(10,2) > (1)::numeric)",
                "n::numeric(10,2) > 1::numeric",
            ),
            ("(\"Weird (col)\" > 0)", "\"Weird (col)\" > 0"),
            ("nextval('s'::regclass)", "nextval('s'::regclass)"),
            ("((arr[(a + 1)])::text = t)", "arr[a + 1]::text = t"),
        ] {
            assert_eq!(pretty(canonical), expected, "{canonical}");
        }
    }

    #[test]
    fn any_text_is_survived() {
        for text in [
            "", "(", ")", "((", "'", "\"a", "a)b", "[(])", "::", "(é + 1)", "NOT",
        ] {
            let _ = pretty(text);
        }
    }
}
