//! Transactions, variables, prepared statements, cursors, COPY, EXPLAIN and maintenance.

use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, Parse};
use super::expr::expr;
use super::statement::{
    Copy, CopyOption, CopySubject, DeclareCursor, Execute, Explain, Fetch, FetchDirection,
    Isolation, LockTable, Name, Set, SetValue, Statement, TransactionModes,
};
use super::type_name::interval_fields;

/// BEGIN, START TRANSACTION behind their words.
pub(crate) fn modes(p: &mut Parser<'_>) -> Parse<TransactionModes> {
    let mut out = TransactionModes::default();
    loop {
        if p.eat(&["isolation", "level"]) {
            out.isolation = Some(if p.eat(&["read", "uncommitted"]) {
                Isolation::ReadUncommitted
            } else if p.eat(&["read", "committed"]) {
                Isolation::ReadCommitted
            } else if p.eat(&["repeatable", "read"]) {
                Isolation::RepeatableRead
            } else {
                p.need(&["serializable"])?;
                Isolation::Serializable
            });
        } else if p.eat(&["read", "only"]) {
            out.read_only = Some(true);
        } else if p.eat(&["read", "write"]) {
            out.read_only = Some(false);
        } else if p.eat(&["deferrable"]) {
            out.deferrable = Some(true);
        } else if p.eat(&["not", "deferrable"]) {
            out.deferrable = Some(false);
        } else {
            return Ok(out);
        }
        if p.consume_token(&Token::Comma) && p.finished() {
            return p.unexpected();
        }
    }
}

/// WORK or TRANSACTION.
pub(crate) fn work(p: &mut Parser<'_>) {
    if !p.eat(&["work"]) {
        p.eat(&["transaction"]);
    }
}

/// `AND [NO] CHAIN`
pub(crate) fn chain(p: &mut Parser<'_>) -> Parse<bool> {
    if !p.eat(&["and"]) {
        return Ok(false);
    }
    let no = p.eat(&["no"]);
    p.need(&["chain"])?;
    Ok(!no)
}

/// ROLLBACK behind the word.
pub(crate) fn rollback(p: &mut Parser<'_>) -> Parse<Statement> {
    if p.at(&["prepared"]) {
        return Ok(Statement::Unsupported("ROLLBACK PREPARED"));
    }
    work(p);
    if p.eat(&["to"]) {
        p.eat(&["savepoint"]);
        return Ok(Statement::RollbackTo(p.column_id()?.value));
    }
    Ok(Statement::Rollback { chain: chain(p)? })
}

/// The name of a variable, of one or two parts.
fn variable(p: &mut Parser<'_>) -> Parse<String> {
    let mut name = p.column_id()?.value;
    while p.consume_token(&Token::Period) {
        name = format!("{name}.{}", p.label()?.value);
    }
    Ok(name)
}

fn one(name: &str, local: bool, value: Option<SetValue>) -> Statement {
    Statement::Set(Set {
        name: name.to_owned(),
        local,
        values: value.map(|v| vec![v]),
    })
}

/// SET behind the word.
pub(crate) fn set(p: &mut Parser<'_>) -> Parse<Statement> {
    if p.eat(&["transaction"]) {
        if p.at(&["snapshot"]) {
            return Ok(Statement::Unsupported("SET TRANSACTION SNAPSHOT"));
        }
        return Ok(Statement::SetTransaction {
            session: false,
            modes: modes(p)?,
        });
    }
    if p.eat(&["session", "characteristics", "as", "transaction"]) {
        return Ok(Statement::SetTransaction {
            session: true,
            modes: modes(p)?,
        });
    }
    if p.eat(&["constraints"]) {
        while !p.finished() {
            p.advance_token();
        }
        return Ok(Statement::SetConstraints);
    }
    let local = p.eat(&["local"]);
    if !local && !p.at(&["session", "authorization"]) {
        p.eat(&["session"]);
    }
    if p.eat(&["session", "authorization"]) {
        let value = if p.eat(&["default"]) {
            None
        } else {
            Some(set_value(p)?)
        };
        return Ok(one("session_authorization", local, value));
    }
    if p.eat(&["time", "zone"]) {
        let value = if p.eat(&["default"]) || p.eat(&["local"]) {
            None
        } else if p.eat(&["interval"]) {
            let text = p.string()?;
            let fields = interval_fields(p)?;
            Some(SetValue::Interval(match fields {
                Some(f) => format!("{text} {f}"),
                None => text,
            }))
        } else {
            Some(set_value(p)?)
        };
        return Ok(one("timezone", local, value));
    }
    if p.eat(&["names"]) {
        let value = if p.finished() || p.eat(&["default"]) {
            None
        } else {
            Some(set_value(p)?)
        };
        return Ok(one("client_encoding", local, value));
    }
    if p.eat(&["schema"]) {
        let value = SetValue::String(p.string()?);
        return Ok(one("search_path", local, Some(value)));
    }
    if p.eat(&["role"]) {
        return Ok(one("role", local, Some(set_value(p)?)));
    }
    let name = variable(p)?;
    if !p.consume_token(&Token::Eq) {
        p.need(&["to"])?;
    }
    if p.eat(&["default"]) {
        return Ok(Statement::Set(Set {
            name,
            local,
            values: None,
        }));
    }
    let values = p.commas(set_value)?;
    Ok(Statement::Set(Set {
        name,
        local,
        values: Some(values),
    }))
}

fn set_value(p: &mut Parser<'_>) -> Parse<SetValue> {
    let token = p.next_token();
    Ok(match token.token {
        Token::SingleQuotedString(s) => SetValue::String(s),
        Token::Word(w) => SetValue::Word(w.value),
        Token::Number(n, _) => SetValue::Number(n),
        Token::Minus | Token::Plus => {
            let negative = matches!(token.token, Token::Minus);
            match p.eat_number() {
                Some(n) if negative => SetValue::Number(format!("-{n}")),
                Some(n) => SetValue::Number(n),
                None => return p.unexpected(),
            }
        }
        _ => {
            p.prev_token();
            return p.unexpected();
        }
    })
}

/// RESET behind the word.
pub(crate) fn reset(p: &mut Parser<'_>) -> Parse<Statement> {
    if p.eat(&["all"]) {
        return Ok(Statement::Reset(None));
    }
    if p.eat(&["time", "zone"]) {
        return Ok(Statement::Reset(Some("timezone".into())));
    }
    if p.eat(&["transaction", "isolation", "level"]) {
        return Ok(Statement::Reset(Some("transaction_isolation".into())));
    }
    if p.eat(&["session", "authorization"]) {
        return Ok(Statement::Reset(Some("session_authorization".into())));
    }
    Ok(Statement::Reset(Some(variable(p)?)))
}

/// SHOW behind the word.
pub(crate) fn show(p: &mut Parser<'_>) -> Parse<Statement> {
    if p.eat(&["all"]) {
        return Ok(Statement::Show("all".into()));
    }
    if p.eat(&["time", "zone"]) {
        return Ok(Statement::Show("timezone".into()));
    }
    if p.eat(&["transaction", "isolation", "level"]) {
        return Ok(Statement::Show("transaction_isolation".into()));
    }
    if p.eat(&["session", "authorization"]) {
        return Ok(Statement::Show("session_authorization".into()));
    }
    Ok(Statement::Show(variable(p)?))
}

/// EXECUTE behind the word.
pub(crate) fn execute(p: &mut Parser<'_>) -> Parse<Statement> {
    let name = p.column_id()?.value;
    let args = match p.peek_token_ref().token {
        Token::LParen => p.parens(|p| p.commas(expr))?,
        _ => Vec::new(),
    };
    Ok(Statement::Execute(Execute { name, args }))
}

/// DECLARE behind the word; the caller cuts out the text of the query.
pub(crate) fn declare(
    p: &mut Parser<'_>,
    text: &dyn Fn(usize, usize) -> String,
) -> Parse<Statement> {
    let name = p.column_id()?.value;
    let (mut binary, mut scroll) = (false, None);
    loop {
        if p.eat(&["binary"]) {
            binary = true;
        } else if p.eat(&["no", "scroll"]) {
            scroll = Some(false);
        } else if p.eat(&["scroll"]) {
            scroll = Some(true);
        } else if !p.eat(&["insensitive"]) && !p.eat(&["asensitive"]) {
            break;
        }
    }
    p.need(&["cursor"])?;
    let hold = if p.eat(&["with", "hold"]) {
        true
    } else {
        p.eat(&["without", "hold"]);
        false
    };
    p.need(&["for"])?;
    let start = p.index();
    let query = super::query::query(p)?;
    let text = text(start, p.index());
    Ok(Statement::Declare(Box::new(DeclareCursor {
        name,
        binary,
        scroll,
        hold,
        query,
        text,
    })))
}

/// FETCH, MOVE behind the word.
pub(crate) fn fetch(p: &mut Parser<'_>, moves: bool) -> Parse<Statement> {
    let from = |p: &mut Parser<'_>| {
        if !p.eat(&["from"]) {
            p.eat(&["in"]);
        }
    };
    let direction = match p.word() {
        Some("next") => {
            p.advance_token();
            FetchDirection::Relative(1)
        }
        Some("prior") => {
            p.advance_token();
            FetchDirection::Relative(-1)
        }
        Some("first") => {
            p.advance_token();
            FetchDirection::Absolute(1)
        }
        Some("last") => {
            p.advance_token();
            FetchDirection::Absolute(-1)
        }
        Some("absolute") => {
            p.advance_token();
            FetchDirection::Absolute(p.integer()?)
        }
        Some("relative") => {
            p.advance_token();
            FetchDirection::RelativeOne(p.integer()?)
        }
        Some("all") => {
            p.advance_token();
            FetchDirection::Relative(i64::MAX)
        }
        Some(word @ ("forward" | "backward")) => {
            let back = word == "backward";
            p.advance_token();
            if p.eat(&["all"]) {
                FetchDirection::Relative(if back { i64::MIN } else { i64::MAX })
            } else if matches!(
                p.peek_token_ref().token,
                Token::Number(..) | Token::Minus | Token::Plus
            ) {
                let n = p.integer()?;
                FetchDirection::Relative(if back { n.saturating_neg() } else { n })
            } else {
                FetchDirection::Relative(if back { -1 } else { 1 })
            }
        }
        None if matches!(
            p.peek_token_ref().token,
            Token::Number(..) | Token::Minus | Token::Plus
        ) =>
        {
            FetchDirection::Relative(p.integer()?)
        }
        _ => FetchDirection::Relative(1),
    };
    from(p);
    let cursor = p.column_id()?.value;
    Ok(Statement::Fetch(Fetch {
        cursor,
        direction,
        moves,
    }))
}

/// COPY behind the word.
pub(crate) fn copy(p: &mut Parser<'_>) -> Parse<Statement> {
    let mut options = Vec::new();
    if p.eat(&["binary"]) {
        options.push(("format".to_owned(), CopyOption::Text("binary".to_owned())));
    }
    let subject = if matches!(p.peek_token_ref().token, Token::LParen) {
        let statement = p.parens(super::table::top_query)?;
        CopySubject::Query(Box::new(statement))
    } else {
        let name = p.qualified()?;
        let columns = match p.peek_token_ref().token {
            Token::LParen => p.column_list()?,
            _ => Vec::new(),
        };
        CopySubject::Table(name, columns)
    };
    let from = p.eat(&["from"]);
    if !from {
        p.need(&["to"])?;
    }
    let file = if p.eat(&["stdin"]) || p.eat(&["stdout"]) {
        None
    } else {
        p.eat(&["program"]);
        Some(p.string()?)
    };
    let with = p.eat(&["with"]);
    if matches!(p.peek_token_ref().token, Token::LParen) {
        options.extend(p.parens(|p| p.commas(copy_option))?);
    } else if with || !p.finished() {
        copy_options_old(p, &mut options)?;
    }
    let filter = if p.eat(&["where"]) {
        Some(expr(p)?)
    } else {
        None
    };
    Ok(Statement::Copy(Box::new(Copy {
        subject,
        from,
        file,
        options,
        filter,
    })))
}

fn copy_option(p: &mut Parser<'_>) -> Parse<(String, CopyOption)> {
    let name = p.label()?.value;
    let value = match &p.peek_token_ref().token {
        Token::Comma | Token::RParen => CopyOption::On,
        Token::Mul => {
            p.advance_token();
            CopyOption::All
        }
        Token::LParen => {
            CopyOption::Columns(p.column_list()?.into_iter().map(|i| i.value).collect())
        }
        _ => CopyOption::Text(set_value(p)?.text().to_owned()),
    };
    Ok((name, value))
}

/// The options of COPY as they were before 9.0.
fn copy_options_old(p: &mut Parser<'_>, options: &mut Vec<(String, CopyOption)>) -> Parse<()> {
    let text = |s: &str| CopyOption::Text(s.to_owned());
    loop {
        let (name, value) = match p.word() {
            Some("binary") => ("format", text("binary")),
            Some("csv") => ("format", text("csv")),
            Some("header") => ("header", CopyOption::On),
            Some("freeze") => ("freeze", CopyOption::On),
            Some(word @ ("delimiter" | "null" | "quote" | "escape" | "encoding")) => {
                let name = match word {
                    "delimiter" => "delimiter",
                    "null" => "null",
                    "quote" => "quote",
                    "escape" => "escape",
                    _ => "encoding",
                };
                p.advance_token();
                p.eat(&["as"]);
                options.push((name.to_owned(), CopyOption::Text(p.string()?)));
                continue;
            }
            Some("force") => {
                p.advance_token();
                let name = if p.eat(&["quote"]) {
                    "force_quote"
                } else if p.eat(&["not", "null"]) {
                    "force_not_null"
                } else {
                    p.need(&["null"])?;
                    "force_null"
                };
                let value = if p.consume_token(&Token::Mul) {
                    CopyOption::All
                } else {
                    let columns = p.commas(Cursor::column_id)?;
                    CopyOption::Columns(columns.into_iter().map(|i| i.value).collect())
                };
                options.push((name.to_owned(), value));
                continue;
            }
            _ => return Ok(()),
        };
        p.advance_token();
        options.push((name.to_owned(), value));
    }
}

/// EXPLAIN behind the word, but for the statement.
pub(crate) fn explain_options(p: &mut Parser<'_>) -> Parse<Vec<(String, Option<String>)>> {
    let mut options = Vec::new();
    if matches!(p.peek_token_ref().token, Token::LParen) && !super::query::paren_is_query(p) {
        return p.parens(|p| {
            p.commas(|p| {
                let name = p.label()?.value;
                let value = match p.peek_token_ref().token {
                    Token::Comma | Token::RParen => None,
                    _ => Some(set_value(p)?.text().to_owned()),
                };
                Ok((name, value))
            })
        });
    }
    if p.eat(&["analyze"]) || p.eat(&["analyse"]) {
        options.push(("analyze".to_owned(), None));
    }
    if p.eat(&["verbose"]) {
        options.push(("verbose".to_owned(), None));
    }
    Ok(options)
}

/// An EXPLAIN.
pub(crate) fn explain(options: Vec<(String, Option<String>)>, statement: Statement) -> Statement {
    Statement::Explain(Box::new(Explain { options, statement }))
}

/// Tables behind VACUUM or ANALYZE and their options.
pub(crate) fn maintenance(p: &mut Parser<'_>) -> Parse<Vec<Name>> {
    if matches!(p.peek_token_ref().token, Token::LParen) {
        p.parens(|p| p.commas(copy_option))?;
    }
    while p.eat(&["full"])
        || p.eat(&["freeze"])
        || p.eat(&["verbose"])
        || p.eat(&["analyze"])
        || p.eat(&["analyse"])
    {}
    if p.finished() {
        return Ok(Vec::new());
    }
    p.commas(|p| {
        let name = p.qualified()?;
        if matches!(p.peek_token_ref().token, Token::LParen) {
            p.column_list()?;
        }
        Ok(name)
    })
}

/// LOCK behind the word.
pub(crate) fn lock_table(p: &mut Parser<'_>) -> Parse<Statement> {
    p.eat(&["table"]);
    let tables = p.commas(|p| {
        p.eat(&["only"]);
        p.qualified()
    })?;
    let mut mode = String::from("access exclusive");
    if p.eat(&["in"]) {
        let mut words = Vec::new();
        while !p.at(&["mode"]) {
            words.push(p.label()?.value);
        }
        p.need(&["mode"])?;
        mode = words.join(" ");
    }
    let nowait = p.eat(&["nowait"]);
    Ok(Statement::Lock(LockTable {
        tables,
        mode,
        nowait,
    }))
}
