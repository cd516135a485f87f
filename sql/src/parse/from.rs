//! FROM: tables, functions, subqueries and joins, as sqlparser syntax.

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Join, JoinConstraint,
    JoinOperator, ObjectName, ObjectNamePart, TableAlias, TableFactor, TableWithJoins,
};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, Parse, raise};
use super::depth::with_stack;
use super::expr::expr;
use super::primary::call;
use super::query::{paren_is_query, query, table_alias};
use super::special;
use crate::error::SqlError;

/// A table by name.
pub(crate) fn plain_table(name: ObjectName, alias: Option<TableAlias>) -> TableWithJoins {
    TableWithJoins {
        relation: table(name, alias),
        joins: Vec::new(),
    }
}

fn table(name: ObjectName, alias: Option<TableAlias>) -> TableFactor {
    TableFactor::Table {
        name,
        alias,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// Things in FROM with commas between them.
pub(crate) fn table_list(p: &mut Parser<'_>) -> Parse<Vec<TableWithJoins>> {
    p.commas(joined)
}

fn joined(p: &mut Parser<'_>) -> Parse<TableWithJoins> {
    with_stack(|| {
        let relation = factor(p)?;
        let mut joins = Vec::new();
        while let Some(join) = join(p)? {
            joins.push(join);
        }
        Ok(TableWithJoins { relation, joins })
    })
}

fn join(p: &mut Parser<'_>) -> Parse<Option<Join>> {
    let plain = |relation, join_operator| Join {
        relation,
        global: false,
        join_operator,
    };
    if p.eat(&["cross", "join"]) {
        let relation = factor(p)?;
        return Ok(Some(plain(
            relation,
            JoinOperator::CrossJoin(JoinConstraint::None),
        )));
    }
    let natural = p.eat(&["natural"]);
    let make: fn(JoinConstraint) -> JoinOperator = match p.word() {
        Some("join") => JoinOperator::Inner,
        Some("inner") => {
            p.advance_token();
            JoinOperator::Inner
        }
        Some("left") => {
            p.advance_token();
            p.eat(&["outer"]);
            JoinOperator::LeftOuter
        }
        Some("right") => {
            p.advance_token();
            p.eat(&["outer"]);
            JoinOperator::RightOuter
        }
        Some("full") => {
            p.advance_token();
            p.eat(&["outer"]);
            JoinOperator::FullOuter
        }
        _ if natural => return p.unexpected(),
        _ => return Ok(None),
    };
    p.need(&["join"])?;
    let mut relation = factor(p)?;
    if natural {
        return Ok(Some(plain(relation, make(JoinConstraint::Natural))));
    }
    // `a JOIN b JOIN c ON .. ON ..`: what comes before the first ON nests to the right.
    let mut nested = Vec::new();
    while !p.at(&["on"]) && !p.at(&["using"]) {
        match join(p)? {
            Some(j) => nested.push(j),
            None => return p.unexpected(),
        }
    }
    if !nested.is_empty() {
        relation = TableFactor::NestedJoin {
            table_with_joins: Box::new(TableWithJoins {
                relation,
                joins: nested,
            }),
            alias: None,
        };
    }
    let constraint = if p.eat(&["on"]) {
        JoinConstraint::On(expr(p)?)
    } else {
        p.need(&["using"])?;
        let columns = p.column_list()?;
        if p.at(&["as"]) {
            return Err(raise(
                &SqlError::unsupported("an alias of JOIN USING").at(p.position()),
            ));
        }
        JoinConstraint::Using(
            columns
                .into_iter()
                .map(|c: Ident| ObjectName(vec![ObjectNamePart::Identifier(c)]))
                .collect(),
        )
    };
    Ok(Some(plain(relation, make(constraint))))
}

fn factor(p: &mut Parser<'_>) -> Parse<TableFactor> {
    let lateral = p.eat(&["lateral"]);
    if matches!(p.peek_token_ref().token, Token::LParen) {
        if paren_is_query(p) {
            let subquery = p.parens(query)?;
            let alias = table_alias(p, false)?;
            if alias.is_none() {
                let e = SqlError::new(
                    crate::error::SqlState::SYNTAX_ERROR,
                    "subquery in FROM must have an alias",
                )
                .with_hint("For example, FROM (SELECT ...) [AS] foo.");
                return Err(raise(&e.at(p.get_current_token().span.start.line as usize)));
            }
            return Ok(TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample: None,
            });
        }
        if lateral {
            return p.unexpected();
        }
        let inside = p.parens(joined)?;
        let alias = table_alias(p, false)?;
        if inside.joins.is_empty() && !matches!(inside.relation, TableFactor::NestedJoin { .. }) {
            return p.unexpected();
        }
        return Ok(TableFactor::NestedJoin {
            table_with_joins: Box::new(inside),
            alias,
        });
    }
    if p.at(&["rows", "from"]) {
        return Err(raise(&SqlError::unsupported("ROWS FROM").at(p.position())));
    }
    let only = p.eat(&["only"]);
    if only && matches!(p.peek_token_ref().token, Token::LParen) {
        let name = p.parens(Cursor::qualified)?;
        return Ok(table(name, table_alias(p, false)?));
    }
    let token = p.peek_token_ref().clone();
    if let Token::Word(w) = &token.token
        && w.quote_style.is_none()
        && !only
        && special_call(&w.value, matches!(p.ahead(1), Token::LParen))
    {
        let Some(e) = special::word(p, &w.value, token.span)? else {
            return p.unexpected();
        };
        return function(p, e, lateral);
    }
    let name = qualified_any(p)?;
    if !only && matches!(p.peek_token_ref().token, Token::LParen) {
        let f = call(p, name)?;
        return function(p, Expr::Function(f), lateral);
    }
    if lateral {
        return p.unexpected();
    }
    let _ = p.consume_token(&Token::Mul);
    let alias = table_alias(p, false)?;
    if p.at(&["tablesample"]) {
        return Err(raise(
            &SqlError::unsupported("TABLESAMPLE").at(p.position()),
        ));
    }
    Ok(table(name, alias))
}

fn special_call(word: &str, paren: bool) -> bool {
    match word {
        "current_date" | "current_user" | "session_user" | "user" | "current_role"
        | "current_catalog" | "current_timestamp" | "localtimestamp" => true,
        "current_schema" => !paren,
        "coalesce" | "nullif" | "greatest" | "least" | "extract" | "position" | "substring"
        | "overlay" | "trim" | "cast" => paren,
        _ => false,
    }
}

/// A table or function name; functions may have names that tables may not.
fn qualified_any(p: &mut Parser<'_>) -> Parse<ObjectName> {
    let calls = matches!(p.ahead(1), Token::LParen);
    let function_word = match &p.peek_token_ref().token {
        Token::Word(w) => {
            calls && w.quote_style.is_none() && super::keywords::is_function_name(&w.value)
        }
        _ => false,
    };
    if function_word {
        return Ok(ObjectName(vec![ObjectNamePart::Identifier(p.label()?)]));
    }
    p.qualified()
}

/// A function in FROM.
fn function(p: &mut Parser<'_>, e: Expr, lateral: bool) -> Parse<TableFactor> {
    let with_ordinality = p.eat(&["with", "ordinality"]);
    let alias = table_alias(p, true)?;
    match e {
        Expr::Function(f)
            if f.filter.is_none() && f.over.is_none() && f.within_group.is_empty() =>
        {
            let args = match f.args {
                FunctionArguments::List(list)
                    if list.duplicate_treatment.is_none() && list.clauses.is_empty() =>
                {
                    list.args
                }
                FunctionArguments::None => Vec::new(),
                FunctionArguments::Subquery(q) => {
                    vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Subquery(
                        q,
                    )))]
                }
                FunctionArguments::List(_) => return p.unexpected(),
            };
            Ok(TableFactor::Function {
                lateral,
                name: f.name,
                args,
                with_ordinality,
                alias,
            })
        }
        expr if !with_ordinality => Ok(TableFactor::TableFunction { expr, alias }),
        _ => p.unexpected(),
    }
}
