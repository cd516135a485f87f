//! From a query string to its statements: cut at semicolons, checked for depth, parsed; errors of
//! the parser become PostgreSQL's, with positions counted in the whole string.

use std::sync::Arc;

use sqlparser::ast::{Expr, Query};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::cursor::{Cursor, Parse, raised};
use super::depth::{self, with_stack};
use super::lexer::{Lexed, lex};
use super::statement::{ObjectKind, Parsed, Prepare, Statement};
use super::{dml, object, table, utility};
use crate::error::{SqlError, SqlState};

/// Statements of one query string, at most.
const STATEMENTS_MAX: usize = 1_000_000;

/// Parses a query string. Empty statements are dropped; of an empty string nothing is left.
pub fn split(sql: &str) -> Result<Vec<Parsed>, SqlError> {
    if sql.contains('\0') {
        return Err(SqlError::new(
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\": 0x00",
        ));
    }
    let tokens = lex(sql)?;
    let mut out = Vec::new();
    for part in tokens.split(|l| matches!(l.token.token, Token::SemiColon)) {
        let (Some(first), Some(last)) = (part.first(), part.last()) else {
            continue;
        };
        if out.len() == STATEMENTS_MAX {
            return Err(SqlError::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                "too many statements in one query string",
            ));
        }
        depth::check(part)?;
        let statement = run(sql, part, statement)?;
        out.push(Parsed {
            text: Arc::from(sql.get(first.start..last.end).unwrap_or("")),
            statement,
            offset: (first.token.span.start.line as usize).saturating_sub(1),
        });
    }
    Ok(out)
}

/// Parses an expression that stands alone (a stored default, a check).
pub fn expression(sql: &str) -> Result<Expr, SqlError> {
    let tokens = lex(sql)?;
    depth::check(&tokens)?;
    run(sql, &tokens, |p, _| super::expr::expr(p))
}

/// Parses a query that stands alone (a view's).
pub fn query_text(sql: &str) -> Result<Box<Query>, SqlError> {
    let tokens = lex(sql)?;
    depth::check(&tokens)?;
    run(sql, &tokens, |p, _| super::query::query(p))
}

/// Parses the name of a type that stands alone (`regtype` input and the like).
pub fn type_text(sql: &str) -> Result<sqlparser::ast::DataType, SqlError> {
    let tokens = lex(sql)?;
    run(sql, &tokens, |p, _| super::type_name::type_name(p))
}

type TextOf<'a> = dyn Fn(usize, usize) -> String + 'a;

/// Runs a parser over all tokens of one statement.
fn run<T>(
    sql: &str,
    tokens: &[Lexed],
    f: impl FnOnce(&mut Parser<'_>, &TextOf<'_>) -> Parse<T>,
) -> Result<T, SqlError> {
    let dialect = PostgreSqlDialect {};
    let stream: Vec<TokenWithSpan> = tokens.iter().map(|l| l.token.clone()).collect();
    let text = |from: usize, to: usize| match (
        tokens.get(from),
        to.checked_sub(1).and_then(|i| tokens.get(i)),
    ) {
        (Some(a), Some(b)) => sql.get(a.start..b.end).unwrap_or("").to_owned(),
        _ => String::new(),
    };
    let mut p = Parser::new(&dialect).with_tokens_with_locations(stream);
    let parsed = with_stack(|| {
        let out = f(&mut p, &text)?;
        if p.finished() {
            Ok(out)
        } else {
            p.unexpected()
        }
    });
    parsed.map_err(|e| translate(sql, tokens, &e))
}

/// PostgreSQL's error for the parser's.
fn translate(sql: &str, tokens: &[Lexed], e: &ParserError) -> SqlError {
    let text = match e {
        ParserError::RecursionLimitExceeded => return depth::too_deep(),
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
    };
    if let Some(e) = raised(text) {
        return e;
    }
    let position: Option<usize> = text
        .rsplit_once(" at Line: ")
        .and_then(|(_, rest)| rest.split(',').next())
        .and_then(|n| n.trim().parse().ok());
    let found = position.and_then(|p| {
        tokens
            .iter()
            .find(|l| l.token.span.start.line as usize == p)
    });
    match found {
        Some(l) => SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!(
                "syntax error at or near \"{}\"",
                sql.get(l.start..l.end).unwrap_or("")
            ),
        )
        .at(l.token.span.start.line as usize),
        None => {
            let last = tokens.last().map_or(0, |l| l.end);
            match sql
                .get(last..)
                .and_then(|rest| rest.trim_start().chars().next())
            {
                Some(';') => {
                    let gap = sql
                        .get(last..)
                        .map_or(0, |r| r.chars().take_while(|c| *c != ';').count());
                    let chars = sql.get(..last).map_or(0, |s| s.chars().count());
                    SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \";\"")
                        .at(chars + gap + 1)
                }
                _ => SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at end of input")
                    .at(sql.chars().count() + 1),
            }
        }
    }
}

/// Takes all that is left.
fn rest(p: &mut Parser<'_>, what: &'static str) -> Statement {
    while !p.finished() {
        p.advance_token();
    }
    Statement::Unsupported(what)
}

fn statement(p: &mut Parser<'_>, text: &TextOf<'_>) -> Parse<Statement> {
    if matches!(p.peek_token_ref().token, Token::LParen) {
        return table::top_query(p);
    }
    let Some(word) = p.word().map(str::to_owned) else {
        return p.unexpected();
    };
    if let Some(done) = session_statement(p, &word)? {
        return Ok(done);
    }
    match word.as_str() {
        "select" | "values" | "with" | "table" => table::top_query(p),
        "insert" => dml::insert(p, None),
        "update" => dml::update(p, None),
        "delete" => dml::delete(p, None),
        "create" => create(p, text),
        "drop" => drop_statement(p),
        "alter" => alter(p),
        "truncate" => object::truncate(p),
        "comment" => object::comment(p),
        "copy" => {
            p.advance_token();
            utility::copy(p)
        }
        "explain" => {
            p.advance_token();
            let options = utility::explain_options(p)?;
            let inner = statement(p, text)?;
            match inner {
                Statement::Query(_)
                | Statement::Insert(_)
                | Statement::Update(_)
                | Statement::Delete(_)
                | Statement::CreateTableAs(_)
                | Statement::Declare(_)
                | Statement::Execute(_)
                | Statement::Unsupported(_) => Ok(utility::explain(options, inner)),
                _ => {
                    p.prev_token();
                    p.unexpected()
                }
            }
        }
        "prepare" => {
            p.advance_token();
            if p.at(&["transaction"]) {
                return Ok(rest(p, "PREPARE TRANSACTION"));
            }
            let name = p.column_id()?.value;
            let types = match p.peek_token_ref().token {
                Token::LParen => p.parens(|p| p.commas(super::type_name::type_name))?,
                _ => Vec::new(),
            };
            p.need(&["as"])?;
            let start = p.index();
            let inner = statement(p, text)?;
            let text = text(start, p.index());
            Ok(Statement::Prepare(Box::new(Prepare {
                name,
                types,
                statement: inner,
                text,
            })))
        }
        "declare" => {
            p.advance_token();
            utility::declare(p, text)
        }
        "merge" => Ok(rest(p, "MERGE")),
        "grant" => Ok(rest(p, "GRANT")),
        "revoke" => Ok(rest(p, "REVOKE")),
        "do" => Ok(rest(p, "DO")),
        "call" => Ok(rest(p, "CALL")),
        "reindex" => Ok(rest(p, "REINDEX")),
        "cluster" => Ok(rest(p, "CLUSTER")),
        "refresh" => Ok(rest(p, "REFRESH MATERIALIZED VIEW")),
        "reassign" => Ok(rest(p, "REASSIGN OWNED")),
        "security" => Ok(rest(p, "SECURITY LABEL")),
        "import" => Ok(rest(p, "IMPORT FOREIGN SCHEMA")),
        "load" => Ok(rest(p, "LOAD")),
        _ => p.unexpected(),
    }
}

/// Statements about transactions, variables, cursors and the session.
fn session_statement(p: &mut Parser<'_>, word: &str) -> Parse<Option<Statement>> {
    let known = matches!(
        word,
        "begin"
            | "start"
            | "commit"
            | "end"
            | "rollback"
            | "abort"
            | "savepoint"
            | "release"
            | "set"
            | "reset"
            | "show"
            | "execute"
            | "deallocate"
            | "fetch"
            | "move"
            | "close"
            | "vacuum"
            | "analyze"
            | "analyse"
            | "discard"
            | "lock"
            | "listen"
            | "notify"
            | "unlisten"
            | "checkpoint"
    );
    if !known {
        return Ok(None);
    }
    p.advance_token();
    Ok(Some(match word {
        "begin" => {
            utility::work(p);
            Statement::Begin(utility::modes(p)?)
        }
        "start" => {
            p.need(&["transaction"])?;
            Statement::Begin(utility::modes(p)?)
        }
        "commit" | "end" => {
            if p.at(&["prepared"]) {
                return Ok(Some(rest(p, "COMMIT PREPARED")));
            }
            utility::work(p);
            Statement::Commit {
                chain: utility::chain(p)?,
            }
        }
        "rollback" | "abort" => {
            let out = utility::rollback(p)?;
            if matches!(out, Statement::Unsupported(_)) {
                rest(p, "ROLLBACK PREPARED")
            } else {
                out
            }
        }
        "savepoint" => Statement::Savepoint(p.column_id()?.value),
        "release" => {
            p.eat(&["savepoint"]);
            Statement::Release(p.column_id()?.value)
        }
        "set" => {
            let out = utility::set(p)?;
            if matches!(out, Statement::Unsupported(_)) {
                rest(p, "SET TRANSACTION SNAPSHOT")
            } else {
                out
            }
        }
        "reset" => utility::reset(p)?,
        "show" => utility::show(p)?,
        "execute" => utility::execute(p)?,
        "deallocate" => {
            if p.at(&["prepare"]) && matches!(p.ahead(1), Token::Word(_)) {
                p.advance_token();
            }
            Statement::Deallocate(if p.eat(&["all"]) {
                None
            } else {
                Some(p.column_id()?.value)
            })
        }
        "fetch" => utility::fetch(p, false)?,
        "move" => utility::fetch(p, true)?,
        "close" => Statement::Close(if p.eat(&["all"]) {
            None
        } else {
            Some(p.column_id()?.value)
        }),
        "vacuum" => Statement::Vacuum(utility::maintenance(p)?),
        "analyze" | "analyse" => Statement::Analyze(utility::maintenance(p)?),
        "discard" => Statement::Discard(if p.eat(&["all"]) {
            super::statement::DiscardWhat::All
        } else if p.eat(&["plans"]) {
            super::statement::DiscardWhat::Plans
        } else if p.eat(&["sequences"]) {
            super::statement::DiscardWhat::Sequences
        } else if p.eat(&["temp"]) || p.eat(&["temporary"]) {
            super::statement::DiscardWhat::Temp
        } else {
            return p.unexpected();
        }),
        "lock" => utility::lock_table(p)?,
        "listen" => Statement::Listen(p.column_id()?.value),
        "notify" => {
            let channel = p.column_id()?.value;
            let payload = if p.consume_token(&Token::Comma) {
                p.string()?
            } else {
                String::new()
            };
            Statement::Notify(channel, payload)
        }
        "unlisten" => Statement::Unlisten(if p.consume_token(&Token::Mul) {
            None
        } else {
            Some(p.column_id()?.value)
        }),
        _ => Statement::Checkpoint,
    }))
}

fn create(p: &mut Parser<'_>, text: &TextOf<'_>) -> Parse<Statement> {
    p.need(&["create"])?;
    let replace = p.eat(&["or", "replace"]);
    let temporary = (p.eat(&["global"]) || p.eat(&["local"])) & true
        | (p.eat(&["temporary"]) || p.eat(&["temp"]));
    let unlogged = !temporary && p.eat(&["unlogged"]);
    let unique = p.eat(&["unique"]);
    let word = p.word().unwrap_or("").to_owned();
    let unsupported = match word.as_str() {
        "table" if temporary => Some("CREATE TEMPORARY TABLE"),
        "view" if temporary => Some("CREATE TEMPORARY VIEW"),
        "sequence" if temporary => Some("CREATE TEMPORARY SEQUENCE"),
        "materialized" => Some("CREATE MATERIALIZED VIEW"),
        "recursive" => Some("CREATE RECURSIVE VIEW"),
        "function" => Some("CREATE FUNCTION"),
        "procedure" => Some("CREATE PROCEDURE"),
        "trigger" | "constraint" => Some("CREATE TRIGGER"),
        "event" => Some("CREATE EVENT TRIGGER"),
        "type" => Some("CREATE TYPE"),
        "domain" => Some("CREATE DOMAIN"),
        "database" => Some("CREATE DATABASE"),
        "role" | "user" | "group" => Some("CREATE ROLE"),
        "extension" => Some("CREATE EXTENSION"),
        "aggregate" => Some("CREATE AGGREGATE"),
        "operator" => Some("CREATE OPERATOR"),
        "rule" => Some("CREATE RULE"),
        "policy" => Some("CREATE POLICY"),
        "statistics" => Some("CREATE STATISTICS"),
        "collation" => Some("CREATE COLLATION"),
        "cast" => Some("CREATE CAST"),
        "conversion" | "default" => Some("CREATE CONVERSION"),
        "foreign" => Some("CREATE FOREIGN TABLE"),
        "server" => Some("CREATE SERVER"),
        "publication" => Some("CREATE PUBLICATION"),
        "subscription" => Some("CREATE SUBSCRIPTION"),
        "tablespace" => Some("CREATE TABLESPACE"),
        "text" => Some("CREATE TEXT SEARCH"),
        "access" => Some("CREATE ACCESS METHOD"),
        "language" | "trusted" | "procedural" => Some("CREATE LANGUAGE"),
        "transform" => Some("CREATE TRANSFORM"),
        _ => None,
    };
    if let Some(what) = unsupported {
        return Ok(rest(p, what));
    }
    p.advance_token();
    match word.as_str() {
        "index" if !temporary && !unlogged => table::create_index(p, unique),
        _ if unique => {
            p.prev_token();
            p.unexpected()
        }
        "table" => table::create_table(p),
        "sequence" => object::create_sequence(p),
        "view" => object::create_view(p, replace, text),
        "schema" => object::create_schema(p),
        _ => {
            p.prev_token();
            p.unexpected()
        }
    }
}

fn drop_statement(p: &mut Parser<'_>) -> Parse<Statement> {
    p.need(&["drop"])?;
    if let Some(kind) = object::object_kind(p) {
        return object::drop_objects(p, kind);
    }
    let what = match p.word().unwrap_or("") {
        "function" | "routine" => "DROP FUNCTION",
        "procedure" => "DROP PROCEDURE",
        "trigger" => "DROP TRIGGER",
        "type" => "DROP TYPE",
        "domain" => "DROP DOMAIN",
        "database" => "DROP DATABASE",
        "role" | "user" | "group" => "DROP ROLE",
        "extension" => "DROP EXTENSION",
        "aggregate" => "DROP AGGREGATE",
        "operator" => "DROP OPERATOR",
        "rule" => "DROP RULE",
        "policy" => "DROP POLICY",
        "statistics" => "DROP STATISTICS",
        "materialized" => "DROP MATERIALIZED VIEW",
        "collation" => "DROP COLLATION",
        "cast" => "DROP CAST",
        "owned" => "DROP OWNED",
        "publication" => "DROP PUBLICATION",
        "subscription" => "DROP SUBSCRIPTION",
        "foreign" | "server" => "DROP FOREIGN TABLE",
        "tablespace" => "DROP TABLESPACE",
        "event" => "DROP EVENT TRIGGER",
        "language" | "conversion" | "access" | "text" | "transform" => {
            "DROP of this kind of object"
        }
        _ => return p.unexpected(),
    };
    Ok(rest(p, what))
}

fn alter(p: &mut Parser<'_>) -> Parse<Statement> {
    p.need(&["alter"])?;
    let what = match p.word().unwrap_or("") {
        "table" => {
            p.advance_token();
            if p.at(&["all"]) {
                return Ok(rest(p, "ALTER TABLE ALL"));
            }
            return table::alter_table(p, ObjectKind::Table);
        }
        "view" => {
            p.advance_token();
            return table::alter_table(p, ObjectKind::View);
        }
        "index" => {
            p.advance_token();
            return table::alter_table(p, ObjectKind::Index);
        }
        "sequence" => {
            p.advance_token();
            return object::alter_sequence(p);
        }
        "schema" => {
            p.advance_token();
            let name = p.column_id()?;
            if p.at(&["owner"]) {
                return Ok(rest(p, "ALTER SCHEMA OWNER"));
            }
            p.need(&["rename", "to"])?;
            return Ok(Statement::RenameSchema {
                name,
                to: p.column_id()?,
            });
        }
        "function" | "procedure" | "routine" => "ALTER FUNCTION",
        "type" => "ALTER TYPE",
        "domain" => "ALTER DOMAIN",
        "database" => "ALTER DATABASE",
        "role" | "user" | "group" => "ALTER ROLE",
        "extension" => "ALTER EXTENSION",
        "system" => "ALTER SYSTEM",
        "default" => "ALTER DEFAULT PRIVILEGES",
        "trigger" | "event" => "ALTER TRIGGER",
        "materialized" => "ALTER MATERIALIZED VIEW",
        "aggregate" | "operator" | "collation" | "conversion" | "foreign" | "language"
        | "large" | "policy" | "publication" | "rule" | "server" | "statistics"
        | "subscription" | "tablespace" | "text" => "ALTER of this kind of object",
        _ => return p.unexpected(),
    };
    Ok(rest(p, what))
}

#[cfg(test)]
mod tests;
