//! Sequences, views, schemas, DROP, TRUNCATE, COMMENT.

use sqlparser::ast::Ident;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, Parse, raise};
use super::query::query;
use super::statement::{
    AlterAction, AlterSequence, AlterTable, Comment, CommentTarget, CreateSchema, CreateSequence,
    CreateView, Drop, ObjectKind, SequenceOptions, Statement, Truncate,
};
use super::type_name::type_name;
use crate::error::SqlError;

/// One option of a sequence, if one comes.
pub(crate) fn sequence_option(p: &mut Parser<'_>, out: &mut SequenceOptions) -> Parse<bool> {
    match p.word() {
        Some("as") => {
            p.advance_token();
            out.ty = Some(type_name(p)?);
        }
        Some("start") => {
            p.advance_token();
            p.eat(&["with"]);
            out.start = Some(p.integer()?);
        }
        Some("restart") => {
            p.advance_token();
            let with = p.eat(&["with"]);
            let number = matches!(
                p.peek_token_ref().token,
                Token::Number(..) | Token::Minus | Token::Plus
            );
            out.restart = Some(if with || number {
                Some(p.integer()?)
            } else {
                None
            });
        }
        Some("increment") => {
            p.advance_token();
            p.eat(&["by"]);
            out.increment = Some(p.integer()?);
        }
        Some("minvalue") => {
            p.advance_token();
            out.min = Some(Some(p.integer()?));
        }
        Some("maxvalue") => {
            p.advance_token();
            out.max = Some(Some(p.integer()?));
        }
        Some("no") => {
            p.advance_token();
            if p.eat(&["minvalue"]) {
                out.min = Some(None);
            } else if p.eat(&["maxvalue"]) {
                out.max = Some(None);
            } else {
                p.need(&["cycle"])?;
                out.cycle = Some(false);
            }
        }
        Some("cache") => {
            p.advance_token();
            out.cache = Some(p.integer()?);
        }
        Some("cycle") => {
            p.advance_token();
            out.cycle = Some(true);
        }
        Some("owned") => {
            p.need(&["owned", "by"])?;
            let name = p.qualified()?;
            let parts = super::query::parts(&name);
            let none = parts.len() == 1 && parts.first().is_some_and(|i| i.value == "none");
            out.owned_by = Some(if none { None } else { Some(name) });
        }
        Some("sequence") => {
            p.need(&["sequence", "name"])?;
            out.name = Some(p.qualified()?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// All options of a sequence that come.
pub(crate) fn sequence_options(p: &mut Parser<'_>) -> Parse<SequenceOptions> {
    let mut out = SequenceOptions::default();
    while sequence_option(p, &mut out)? {}
    Ok(out)
}

/// CREATE SEQUENCE behind SEQUENCE.
pub(crate) fn create_sequence(p: &mut Parser<'_>) -> Parse<Statement> {
    let if_not_exists = p.eat(&["if", "not", "exists"]);
    let name = p.qualified()?;
    let options = sequence_options(p)?;
    Ok(Statement::CreateSequence(Box::new(CreateSequence {
        name,
        if_not_exists,
        options,
    })))
}

/// ALTER SEQUENCE behind SEQUENCE.
pub(crate) fn alter_sequence(p: &mut Parser<'_>) -> Parse<Statement> {
    let if_exists = p.eat(&["if", "exists"]);
    let name = p.qualified()?;
    let action = if p.eat(&["rename", "to"]) {
        Some(AlterAction::Rename(p.column_id()?))
    } else if p.eat(&["set", "schema"]) {
        Some(AlterAction::SetSchema(p.column_id()?))
    } else if p.eat(&["owner", "to"]) {
        Some(AlterAction::Owner(p.label()?.value))
    } else if p.eat(&["set", "logged"]) || p.eat(&["set", "unlogged"]) {
        Some(AlterAction::Storage)
    } else {
        None
    };
    if let Some(action) = action {
        return Ok(Statement::AlterTable(Box::new(AlterTable {
            kind: ObjectKind::Sequence,
            name,
            if_exists,
            actions: vec![action],
        })));
    }
    let options = sequence_options(p)?;
    Ok(Statement::AlterSequence(Box::new(AlterSequence {
        name,
        if_exists,
        options,
    })))
}

/// CREATE VIEW behind VIEW; the caller cuts out the text of the query.
pub(crate) fn create_view(
    p: &mut Parser<'_>,
    replace: bool,
    text: &dyn Fn(usize, usize) -> String,
) -> Parse<Statement> {
    let name = p.qualified()?;
    let columns = match p.peek_token_ref().token {
        Token::LParen => p.column_list()?,
        _ => Vec::new(),
    };
    if p.at(&["with"]) && matches!(p.ahead(1), Token::LParen) {
        return Err(raise(
            &SqlError::unsupported("an option of a view").at(p.position()),
        ));
    }
    p.need(&["as"])?;
    let start = p.index();
    let query = query(p)?;
    let query_text = text(start, p.index());
    if p.at(&["with"]) {
        return Err(raise(
            &SqlError::unsupported("WITH CHECK OPTION").at(p.position()),
        ));
    }
    Ok(Statement::CreateView(Box::new(CreateView {
        name,
        replace,
        columns,
        query,
        query_text,
    })))
}

/// CREATE SCHEMA behind SCHEMA.
pub(crate) fn create_schema(p: &mut Parser<'_>) -> Parse<Statement> {
    let if_not_exists = p.eat(&["if", "not", "exists"]);
    let mut name = None;
    if !p.at(&["authorization"]) {
        name = Some(p.column_id()?.value);
    }
    let owner = if p.eat(&["authorization"]) {
        Some(p.label()?.value)
    } else {
        None
    };
    if !p.finished() {
        return Err(raise(
            &SqlError::unsupported("an object within CREATE SCHEMA").at(p.position()),
        ));
    }
    match name.or_else(|| owner.clone()) {
        Some(name) => Ok(Statement::CreateSchema(CreateSchema {
            name,
            if_not_exists,
            owner,
        })),
        None => p.unexpected(),
    }
}

/// The kind of object that the next word names.
pub(crate) fn object_kind(p: &mut Parser<'_>) -> Option<ObjectKind> {
    let kind = match p.word() {
        Some("table") => ObjectKind::Table,
        Some("view") => ObjectKind::View,
        Some("index") => ObjectKind::Index,
        Some("sequence") => ObjectKind::Sequence,
        Some("schema") => ObjectKind::Schema,
        _ => return None,
    };
    p.advance_token();
    Some(kind)
}

/// DROP behind the kind of object.
pub(crate) fn drop_objects(p: &mut Parser<'_>, kind: ObjectKind) -> Parse<Statement> {
    if kind == ObjectKind::Index {
        p.eat(&["concurrently"]);
    }
    let if_exists = p.eat(&["if", "exists"]);
    let names = p.commas(Cursor::qualified)?;
    let cascade = p.eat(&["cascade"]);
    if !cascade {
        p.eat(&["restrict"]);
    }
    Ok(Statement::Drop(Drop {
        kind,
        names,
        if_exists,
        cascade,
    }))
}

/// TRUNCATE.
pub(crate) fn truncate(p: &mut Parser<'_>) -> Parse<Statement> {
    p.need(&["truncate"])?;
    p.eat(&["table"]);
    let tables = p.commas(|p| {
        p.eat(&["only"]);
        let name = p.qualified()?;
        let _ = p.consume_token(&Token::Mul);
        Ok(name)
    })?;
    let restart_identity = p.eat(&["restart", "identity"]);
    if !restart_identity {
        p.eat(&["continue", "identity"]);
    }
    let cascade = p.eat(&["cascade"]);
    if !cascade {
        p.eat(&["restrict"]);
    }
    Ok(Statement::Truncate(Truncate {
        tables,
        restart_identity,
        cascade,
    }))
}

/// COMMENT ON.
pub(crate) fn comment(p: &mut Parser<'_>) -> Parse<Statement> {
    p.need(&["comment", "on"])?;
    let target = if p.eat(&["column"]) {
        CommentTarget::Column(p.qualified()?)
    } else if p.eat(&["constraint"]) {
        let name: Ident = p.column_id()?;
        p.need(&["on"])?;
        if p.eat(&["domain"]) {
            while !p.finished() {
                p.advance_token();
            }
            return Ok(Statement::Unsupported("COMMENT on this kind of object"));
        }
        CommentTarget::Constraint(name, p.qualified()?)
    } else if p.eat(&["database"]) {
        CommentTarget::Database(p.column_id()?.value)
    } else {
        match object_kind(p) {
            Some(kind) => CommentTarget::Object(kind, p.qualified()?),
            None => {
                while !p.finished() {
                    p.advance_token();
                }
                return Ok(Statement::Unsupported("COMMENT on this kind of object"));
            }
        }
    };
    p.need(&["is"])?;
    let text = if p.eat(&["null"]) {
        None
    } else {
        Some(p.string()?)
    };
    Ok(Statement::Comment(Comment { target, text }))
}
