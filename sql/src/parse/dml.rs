//! INSERT, UPDATE, DELETE.

use sqlparser::ast::{Expr, Ident, With};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, Parse, raise};
use super::expr::expr;
use super::from::table_list;
use super::keywords;
use super::query::{query, target_list};
use super::statement::{
    ConflictTarget, Delete, Insert, OnConflict, Overriding, SetClause, Statement, Update,
};
use crate::error::SqlError;

fn alias(p: &mut Parser<'_>, stop: &[&str]) -> Parse<Option<Ident>> {
    if p.eat(&["as"]) {
        return Ok(Some(p.column_id()?));
    }
    match &p.peek_token_ref().token {
        Token::Word(w)
            if w.quote_style.is_some()
                || (keywords::is_column_name(&w.value) && !stop.contains(&w.value.as_str())) =>
        {
            Ok(Some(p.label()?))
        }
        _ => Ok(None),
    }
}

fn returning(p: &mut Parser<'_>) -> Parse<Vec<sqlparser::ast::SelectItem>> {
    if p.eat(&["returning"]) {
        target_list(p)
    } else {
        Ok(Vec::new())
    }
}

/// A column that gets a value; parts of columns are refused.
fn target_column(p: &mut Parser<'_>) -> Parse<Ident> {
    let name = p.column_id()?;
    if matches!(p.peek_token_ref().token, Token::LBracket | Token::Period) {
        return Err(raise(
            &SqlError::unsupported("assignment to a part of a column").at(p.position()),
        ));
    }
    Ok(name)
}

/// INSERT behind its WITH.
pub(crate) fn insert(p: &mut Parser<'_>, with: Option<With>) -> Parse<Statement> {
    p.need(&["insert", "into"])?;
    let table = p.qualified()?;
    let alias = if p.eat(&["as"]) {
        Some(p.column_id()?)
    } else {
        None
    };
    let mut columns = Vec::new();
    if matches!(p.peek_token_ref().token, Token::LParen) && !super::query::paren_is_query(p) {
        columns = p.parens(|p| p.commas(target_column))?;
    }
    let overriding = if p.eat(&["overriding"]) {
        let which = if p.eat(&["system"]) {
            Overriding::System
        } else {
            p.need(&["user"])?;
            Overriding::User
        };
        p.need(&["value"])?;
        Some(which)
    } else {
        None
    };
    let source = if columns.is_empty() && overriding.is_none() && p.eat(&["default", "values"]) {
        None
    } else {
        Some(query(p)?)
    };
    let on_conflict = if p.at(&["on", "conflict"]) {
        Some(conflict(p)?)
    } else {
        None
    };
    let returning = returning(p)?;
    Ok(Statement::Insert(Box::new(Insert {
        with,
        table,
        alias,
        columns,
        overriding,
        source,
        on_conflict,
        returning,
    })))
}

fn conflict(p: &mut Parser<'_>) -> Parse<OnConflict> {
    let position = p.position();
    p.need(&["on", "conflict"])?;
    let target = if p.eat(&["on", "constraint"]) {
        Some(ConflictTarget::Constraint(p.column_id()?))
    } else if matches!(p.peek_token_ref().token, Token::LParen) {
        let columns = p.parens(|p| {
            p.commas(|p| {
                let e = expr(p)?;
                // An operator class: without meaning here.
                if matches!(p.peek_token_ref().token, Token::Word(_)) {
                    p.qualified()?;
                }
                Ok(match e {
                    Expr::Nested(inner) => *inner,
                    e => e,
                })
            })
        })?;
        let filter = if p.eat(&["where"]) {
            Some(expr(p)?)
        } else {
            None
        };
        Some(ConflictTarget::Columns(columns, filter))
    } else {
        None
    };
    p.need(&["do"])?;
    if p.eat(&["nothing"]) {
        return Ok(OnConflict {
            target,
            update: None,
            position,
        });
    }
    p.need(&["update", "set"])?;
    let set = p.commas(set_clause)?;
    let filter = if p.eat(&["where"]) {
        Some(expr(p)?)
    } else {
        None
    };
    Ok(OnConflict {
        target,
        update: Some((set, filter)),
        position,
    })
}

fn set_clause(p: &mut Parser<'_>) -> Parse<SetClause> {
    if matches!(p.peek_token_ref().token, Token::LParen) {
        let columns = p.parens(|p| p.commas(target_column))?;
        if !p.consume_token(&Token::Eq) {
            return p.unexpected();
        }
        return Ok(SetClause::Many(columns, expr(p)?));
    }
    let column = target_column(p)?;
    if !p.consume_token(&Token::Eq) {
        return p.unexpected();
    }
    Ok(SetClause::One(column, expr(p)?))
}

fn where_clause(p: &mut Parser<'_>) -> Parse<Option<Expr>> {
    if !p.eat(&["where"]) {
        return Ok(None);
    }
    if p.at(&["current", "of"]) {
        return Err(raise(
            &SqlError::unsupported("WHERE CURRENT OF").at(p.position()),
        ));
    }
    Ok(Some(expr(p)?))
}

/// UPDATE behind its WITH.
pub(crate) fn update(p: &mut Parser<'_>, with: Option<With>) -> Parse<Statement> {
    p.need(&["update"])?;
    p.eat(&["only"]);
    let table = p.qualified()?;
    let _ = p.consume_token(&Token::Mul);
    let alias = alias(p, &["set"])?;
    p.need(&["set"])?;
    let set = p.commas(set_clause)?;
    let from = if p.eat(&["from"]) {
        table_list(p)?
    } else {
        Vec::new()
    };
    let filter = where_clause(p)?;
    let returning = returning(p)?;
    Ok(Statement::Update(Box::new(Update {
        with,
        table,
        alias,
        set,
        from,
        filter,
        returning,
    })))
}

/// DELETE behind its WITH.
pub(crate) fn delete(p: &mut Parser<'_>, with: Option<With>) -> Parse<Statement> {
    p.need(&["delete", "from"])?;
    p.eat(&["only"]);
    let table = p.qualified()?;
    let _ = p.consume_token(&Token::Mul);
    let alias = alias(p, &[])?;
    let using = if p.eat(&["using"]) {
        table_list(p)?
    } else {
        Vec::new()
    };
    let filter = where_clause(p)?;
    let returning = returning(p)?;
    Ok(Statement::Delete(Box::new(Delete {
        with,
        table,
        alias,
        using,
        filter,
        returning,
    })))
}
