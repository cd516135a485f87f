//! CREATE TABLE, ALTER TABLE, CREATE INDEX.

use sqlparser::ast::{DataType, Expr, Ident, ObjectNamePart};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, Parse, raise};
use super::expr::{b_expr, expr};
use super::object::sequence_options;
use super::primary::call;
use super::query::{query, with_clause};
use super::statement::{
    AlterAction, AlterTable, ColumnDef, Constraint, ConstraintKind, CreateIndex, CreateTable,
    CreateTableAs, IdentityDef, IndexElement, LikeClause, ObjectKind, SequenceOptions, SplitAt,
    SplitPoints, Statement, TableElement,
};
use super::storage::{index_options, parenthesized, storage_options};
use super::type_name::type_name;
use crate::error::{SqlError, SqlState};

pub(super) fn refuse<T>(p: &Parser<'_>, what: &str) -> Parse<T> {
    Err(raise(&SqlError::unsupported(what).at(p.position())))
}

/// CREATE TABLE behind TABLE.
pub(crate) fn create_table(p: &mut Parser<'_>) -> Parse<Statement> {
    let if_not_exists = p.eat(&["if", "not", "exists"]);
    let name = p.qualified()?;
    if p.at(&["of"]) {
        return refuse(p, "CREATE TABLE OF");
    }
    if p.at(&["partition", "of"]) {
        return refuse(p, "PARTITION OF");
    }
    // `(a, b) AS SELECT` names columns only.
    let names_only = matches!(p.peek_token_ref().token, Token::LParen)
        && matches!(p.ahead(2), Token::Comma | Token::RParen)
        && matches!(p.ahead(1), Token::Word(_));
    if names_only || p.at(&["as"]) || p.at(&["with"]) || p.at(&["using"]) {
        let columns = if names_only {
            p.column_list()?
        } else {
            Vec::new()
        };
        let options = storage_options(p)?;
        p.need(&["as"])?;
        if p.at(&["execute"]) {
            return refuse(p, "CREATE TABLE AS EXECUTE");
        }
        let query = query(p)?;
        let with_data = if p.eat(&["with", "no", "data"]) {
            false
        } else {
            p.eat(&["with", "data"]);
            true
        };
        return Ok(Statement::CreateTableAs(Box::new(CreateTableAs {
            name,
            if_not_exists,
            columns,
            query,
            with_data,
            select_into: false,
            options,
        })));
    }
    let elements = p.parens(|p| {
        if matches!(p.peek_token_ref().token, Token::RParen) {
            return Ok(Vec::new());
        }
        p.commas(element)
    })?;
    if p.at(&["inherits"]) {
        return refuse(p, "INHERITS");
    }
    if p.at(&["partition", "by"]) {
        return refuse(p, "PARTITION BY");
    }
    let options = storage_options(p)?;
    Ok(Statement::CreateTable(Box::new(CreateTable {
        name,
        if_not_exists,
        elements,
        options,
    })))
}

fn element(p: &mut Parser<'_>) -> Parse<TableElement> {
    match p.word() {
        Some("like") => {
            p.advance_token();
            Ok(TableElement::Like(like(p)?))
        }
        Some("constraint" | "primary" | "unique" | "check" | "foreign" | "exclude")
            if !matches!(p.ahead(1), Token::Comma | Token::RParen) =>
        {
            Ok(TableElement::Constraint(table_constraint(p)?))
        }
        _ => Ok(TableElement::Column(column(p)?)),
    }
}

fn like(p: &mut Parser<'_>) -> Parse<LikeClause> {
    let mut out = LikeClause {
        source: p.qualified()?,
        defaults: false,
        constraints: false,
        indexes: false,
        identity: false,
        generated: false,
        comments: false,
    };
    loop {
        let on = if p.eat(&["including"]) {
            true
        } else if p.eat(&["excluding"]) {
            false
        } else {
            return Ok(out);
        };
        let what = p.label()?.value;
        let all = what == "all";
        match what.as_str() {
            "all" | "defaults" | "constraints" | "indexes" | "identity" | "generated"
            | "comments" | "statistics" | "storage" | "compression" => {}
            _ => {
                p.prev_token();
                return p.unexpected();
            }
        }
        for (name, flag) in [
            ("defaults", &mut out.defaults),
            ("constraints", &mut out.constraints),
            ("indexes", &mut out.indexes),
            ("identity", &mut out.identity),
            ("generated", &mut out.generated),
            ("comments", &mut out.comments),
        ] {
            if all || what == name {
                *flag = on;
            }
        }
    }
}

/// A serial type's integer type.
fn serial(ty: &DataType) -> Option<&'static str> {
    let DataType::Custom(name, modifiers) = ty else {
        return None;
    };
    let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else {
        return None;
    };
    if !modifiers.is_empty() || name.quote_style.is_some() {
        return None;
    }
    match name.value.as_str() {
        "serial" | "serial4" => Some("int4"),
        "bigserial" | "serial8" => Some("int8"),
        "smallserial" | "serial2" => Some("int2"),
        _ => None,
    }
}

fn column(p: &mut Parser<'_>) -> Parse<ColumnDef> {
    let name = p.column_id()?;
    let mut ty = type_name(p)?;
    let serial = serial(&ty);
    if let Some(integer) = serial {
        ty = DataType::Custom(
            sqlparser::ast::ObjectName(vec![ObjectNamePart::Identifier(Ident {
                value: integer.to_owned(),
                quote_style: None,
                span: name.span,
            })]),
            Vec::new(),
        );
    }
    let mut out = ColumnDef {
        name,
        ty,
        serial: serial.is_some(),
        collation: None,
        not_null: None,
        default: None,
        identity: None,
        generated: None,
        constraints: Vec::new(),
    };
    loop {
        if !column_constraint(p, &mut out)? {
            return Ok(out);
        }
    }
}

fn column_constraint(p: &mut Parser<'_>, out: &mut ColumnDef) -> Parse<bool> {
    let position = p.position();
    let conflict = |what: &str, name: &Ident| {
        raise(
            &SqlError::new(
                SqlState::SYNTAX_ERROR,
                format!("{what} specified for column \"{}\"", name.value),
            )
            .at(position),
        )
    };
    let name = if p.eat(&["constraint"]) {
        Some(p.column_id()?)
    } else {
        None
    };
    let columns = || vec![out.name.clone()];
    if p.eat(&["not", "null"]) {
        if out.not_null == Some(false) {
            return Err(conflict(
                "conflicting NULL/NOT NULL declarations",
                &out.name,
            ));
        }
        out.not_null = Some(true);
    } else if p.eat(&["null"]) {
        if out.not_null == Some(true) {
            return Err(conflict(
                "conflicting NULL/NOT NULL declarations",
                &out.name,
            ));
        }
        out.not_null = Some(false);
    } else if p.eat(&["default"]) {
        if out.default.is_some() {
            return Err(conflict("multiple default values", &out.name));
        }
        out.default = Some(b_expr(p)?);
    } else if p.eat(&["generated"]) {
        generated(p, out)?;
    } else if p.eat(&["primary", "key"]) {
        let kind = ConstraintKind::PrimaryKey {
            columns: columns(),
            include: Vec::new(),
        };
        let options = index_options(p)?;
        out.constraints.push(Constraint {
            name,
            kind,
            not_valid: false,
            options,
        });
    } else if p.eat(&["unique"]) {
        let nulls_not_distinct = nulls_distinct(p)?;
        let kind = ConstraintKind::Unique {
            columns: columns(),
            include: Vec::new(),
            nulls_not_distinct,
        };
        let options = index_options(p)?;
        out.constraints.push(Constraint {
            name,
            kind,
            not_valid: false,
            options,
        });
    } else if p.eat(&["check"]) {
        let e = p.parens(expr)?;
        p.eat(&["no", "inherit"]);
        out.constraints.push(Constraint {
            name,
            kind: ConstraintKind::Check(e),
            not_valid: false,
            options: Vec::new(),
        });
    } else if p.eat(&["references"]) {
        let kind = references(p, columns())?;
        out.constraints.push(Constraint {
            name,
            kind,
            not_valid: false,
            options: Vec::new(),
        });
    } else if p.eat(&["collate"]) {
        out.collation = Some(p.qualified()?);
    } else if name.is_some() {
        return p.unexpected();
    } else {
        return attributes(p);
    }
    Ok(true)
}

fn generated(p: &mut Parser<'_>, out: &mut ColumnDef) -> Parse<()> {
    let always = p.eat(&["always"]);
    if !always {
        p.need(&["by", "default"])?;
    }
    p.need(&["as"])?;
    if p.eat(&["identity"]) {
        let options = match p.peek_token_ref().token {
            Token::LParen => p.parens(sequence_options)?,
            _ => SequenceOptions::default(),
        };
        out.identity = Some(IdentityDef { always, options });
        return Ok(());
    }
    let e = p.parens(expr)?;
    if !always {
        return Err(raise(&SqlError::new(
            SqlState::SYNTAX_ERROR,
            "for a generated column, GENERATED ALWAYS must be specified",
        )));
    }
    p.need(&["stored"])?;
    out.generated = Some(e);
    Ok(())
}

/// DEFERRABLE and the like.
fn attributes(p: &mut Parser<'_>) -> Parse<bool> {
    if p.eat(&["not", "deferrable"]) || p.eat(&["initially", "immediate"]) {
        return Ok(true);
    }
    if p.at(&["deferrable"]) || p.at(&["initially", "deferred"]) {
        return refuse(p, "DEFERRABLE");
    }
    Ok(false)
}

fn nulls_distinct(p: &mut Parser<'_>) -> Parse<bool> {
    if p.eat(&["nulls", "not", "distinct"]) {
        return Ok(true);
    }
    p.eat(&["nulls", "distinct"]);
    Ok(false)
}

fn include(p: &mut Parser<'_>) -> Parse<Vec<Ident>> {
    if p.eat(&["include"]) {
        p.column_list()
    } else {
        Ok(Vec::new())
    }
}

fn references(p: &mut Parser<'_>, columns: Vec<Ident>) -> Parse<ConstraintKind> {
    let table = p.qualified()?;
    if matches!(p.peek_token_ref().token, Token::LParen) {
        p.column_list()?;
    }
    loop {
        if p.eat(&["match"]) {
            p.label()?;
        } else if p.eat(&["on"]) {
            if !p.eat(&["delete"]) {
                p.need(&["update"])?;
            }
            if p.eat(&["no"]) {
                p.need(&["action"])?;
            } else if p.eat(&["set"]) {
                p.label()?;
                if matches!(p.peek_token_ref().token, Token::LParen) {
                    p.column_list()?;
                }
            } else {
                p.label()?;
            }
        } else if p.eat(&["deferrable"])
            || p.eat(&["initially", "deferred"])
            || p.eat(&["not", "deferrable"])
            || p.eat(&["initially", "immediate"])
            || p.eat(&["not", "valid"])
        {
        } else {
            return Ok(ConstraintKind::ForeignKey { columns, table });
        }
    }
}

/// Keys have an index, which holds all rows or none.
fn cannot_be_not_valid(kind: &ConstraintKind, position: usize) -> Parse<()> {
    let what = match kind {
        ConstraintKind::PrimaryKey { .. } => "PRIMARY KEY",
        ConstraintKind::Unique { .. } => "UNIQUE",
        ConstraintKind::UsingIndex { primary: true, .. } => "PRIMARY KEY",
        ConstraintKind::UsingIndex { primary: false, .. } => "UNIQUE",
        _ => return Ok(()),
    };
    let message = format!("{what} constraints cannot be marked NOT VALID");
    Err(raise(
        &SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).at(position),
    ))
}

/// A table constraint, with its name.
pub(crate) fn table_constraint(p: &mut Parser<'_>) -> Parse<Constraint> {
    let name = if p.eat(&["constraint"]) {
        Some(p.column_id()?)
    } else {
        None
    };
    let primary = p.at(&["primary"]);
    let mut options = Vec::new();
    let kind = if p.eat(&["primary", "key"]) || p.eat(&["unique"]) {
        let nulls_not_distinct = !primary && nulls_distinct(p)?;
        if p.eat(&["using", "index"]) {
            ConstraintKind::UsingIndex {
                primary,
                index: p.column_id()?,
            }
        } else {
            let columns = p.column_list()?;
            let include = include(p)?;
            options = index_options(p)?;
            if primary {
                ConstraintKind::PrimaryKey { columns, include }
            } else {
                ConstraintKind::Unique {
                    columns,
                    include,
                    nulls_not_distinct,
                }
            }
        }
    } else if p.eat(&["check"]) {
        ConstraintKind::Check(p.parens(expr)?)
    } else if p.eat(&["foreign", "key"]) {
        let columns = p.column_list()?;
        p.need(&["references"])?;
        references(p, columns)?
    } else if p.at(&["exclude"]) {
        return refuse(p, "EXCLUDE");
    } else {
        return p.unexpected();
    };
    let mut not_valid = false;
    loop {
        let position = p.position();
        if p.eat(&["not", "valid"]) {
            cannot_be_not_valid(&kind, position)?;
            not_valid = true;
        } else if !attributes(p)? && !p.eat(&["no", "inherit"]) {
            break;
        }
    }
    Ok(Constraint {
        name,
        kind,
        not_valid,
        options,
    })
}

/// CREATE INDEX behind INDEX.
pub(crate) fn create_index(p: &mut Parser<'_>, unique: bool) -> Parse<Statement> {
    let concurrently = p.eat(&["concurrently"]);
    let if_not_exists = p.eat(&["if", "not", "exists"]);
    let name = if p.at(&["on"]) {
        None
    } else {
        Some(p.column_id()?)
    };
    p.need(&["on"])?;
    p.eat(&["only"]);
    let table = p.qualified()?;
    let method = if p.eat(&["using"]) {
        Some(p.column_id()?.value)
    } else {
        None
    };
    let columns = p.parens(|p| p.commas(index_element))?;
    let include = include(p)?;
    let nulls_not_distinct = nulls_distinct(p)?;
    let options = index_options(p)?;
    if p.at(&["tablespace"]) {
        return refuse(p, "TABLESPACE");
    }
    let filter = if p.eat(&["where"]) {
        Some(expr(p)?)
    } else {
        None
    };
    Ok(Statement::CreateIndex(Box::new(CreateIndex {
        unique,
        concurrently,
        if_not_exists,
        name,
        table,
        method,
        columns,
        include,
        nulls_not_distinct,
        options,
        filter,
    })))
}

fn index_element(p: &mut Parser<'_>) -> Parse<IndexElement> {
    let e = match p.peek_token_ref().token {
        Token::LParen => p.parens(expr)?,
        _ if matches!(p.ahead(1), Token::LParen) => {
            let name = p.label()?;
            let name = sqlparser::ast::ObjectName(vec![ObjectNamePart::Identifier(name)]);
            Expr::Function(call(p, name)?)
        }
        _ => Expr::Identifier(p.column_id()?),
    };
    let e = if p.eat(&["collate"]) {
        Expr::Collate {
            expr: Box::new(e),
            collation: p.qualified()?,
        }
    } else {
        e
    };
    let class = match p.word() {
        Some("asc" | "desc" | "nulls") | None => None,
        Some(_) => Some(p.qualified()?),
    };
    let descending = if p.eat(&["desc"]) {
        true
    } else {
        p.eat(&["asc"]);
        false
    };
    let nulls_first = if p.eat(&["nulls", "first"]) {
        Some(true)
    } else if p.eat(&["nulls", "last"]) {
        Some(false)
    } else {
        None
    };
    Ok(IndexElement {
        expr: e,
        class,
        descending,
        nulls_first,
    })
}

/// ALTER TABLE | VIEW | INDEX behind that word.
pub(crate) fn alter_table(p: &mut Parser<'_>, kind: ObjectKind) -> Parse<Statement> {
    let if_exists = p.eat(&["if", "exists"]);
    p.eat(&["only"]);
    let name = p.qualified()?;
    let _ = p.consume_token(&Token::Mul);
    if matches!(kind, ObjectKind::Table | ObjectKind::Index) {
        let points = if p.eat(&["split", "at"]) {
            Some(SplitPoints::Split(query(p)?))
        } else if p.eat(&["unsplit", "all"]) {
            Some(SplitPoints::UnsplitAll)
        } else if p.eat(&["unsplit", "at"]) {
            Some(SplitPoints::Unsplit(query(p)?))
        } else {
            None
        };
        if let Some(points) = points {
            return Ok(Statement::SplitAt(Box::new(SplitAt {
                kind,
                name,
                if_exists,
                points,
            })));
        }
    }
    let actions = p.commas(action)?;
    Ok(Statement::AlterTable(Box::new(AlterTable {
        kind,
        name,
        if_exists,
        actions,
    })))
}

fn cascade(p: &mut Parser<'_>) -> bool {
    let cascade = p.eat(&["cascade"]);
    if !cascade {
        p.eat(&["restrict"]);
    }
    cascade
}

fn action(p: &mut Parser<'_>) -> Parse<AlterAction> {
    match p.word() {
        Some("add") => {
            p.advance_token();
            match p.word() {
                Some("constraint" | "primary" | "unique" | "check" | "foreign" | "exclude") => {
                    Ok(AlterAction::AddConstraint(table_constraint(p)?))
                }
                _ => {
                    p.eat(&["column"]);
                    let if_not_exists = p.eat(&["if", "not", "exists"]);
                    Ok(AlterAction::AddColumn {
                        if_not_exists,
                        column: Box::new(column(p)?),
                    })
                }
            }
        }
        Some("drop") => {
            p.advance_token();
            let constraint = p.eat(&["constraint"]);
            if !constraint {
                p.eat(&["column"]);
            }
            let if_exists = p.eat(&["if", "exists"]);
            let name = p.column_id()?;
            let cascade = cascade(p);
            Ok(if constraint {
                AlterAction::DropConstraint {
                    name,
                    if_exists,
                    cascade,
                }
            } else {
                AlterAction::DropColumn {
                    name,
                    if_exists,
                    cascade,
                }
            })
        }
        Some("rename") => {
            p.advance_token();
            if p.eat(&["to"]) {
                return Ok(AlterAction::Rename(p.column_id()?));
            }
            if p.eat(&["constraint"]) {
                let old = p.column_id()?;
                p.need(&["to"])?;
                return Ok(AlterAction::RenameConstraint(old, p.column_id()?));
            }
            p.eat(&["column"]);
            let old = p.column_id()?;
            p.need(&["to"])?;
            Ok(AlterAction::RenameColumn(old, p.column_id()?))
        }
        Some("alter") => {
            p.advance_token();
            p.eat(&["column"]);
            let name = p.column_id()?;
            alter_column(p, name)
        }
        Some("owner") => {
            p.need(&["owner", "to"])?;
            Ok(AlterAction::Owner(p.label()?.value))
        }
        Some("validate") => {
            p.need(&["validate", "constraint"])?;
            Ok(AlterAction::ValidateConstraint(p.column_id()?))
        }
        Some("set") => {
            p.advance_token();
            if p.eat(&["schema"]) {
                return Ok(AlterAction::SetSchema(p.column_id()?));
            }
            if matches!(p.peek_token_ref().token, Token::LParen) {
                return Ok(AlterAction::SetOptions(parenthesized(p)?));
            }
            if p.eat(&["without", "cluster"]) || p.eat(&["without", "oids"]) || p.eat(&["logged"]) {
                return Ok(AlterAction::Storage);
            }
            refuse(p, "this form of ALTER TABLE")
        }
        Some("reset") => {
            p.advance_token();
            Ok(AlterAction::ResetOptions(parenthesized(p)?))
        }
        Some("cluster") => {
            p.need(&["cluster", "on"])?;
            p.column_id()?;
            Ok(AlterAction::Storage)
        }
        Some(
            "attach" | "detach" | "inherit" | "no" | "enable" | "disable" | "replica" | "force"
            | "of" | "not",
        ) => refuse(p, "this form of ALTER TABLE"),
        _ => p.unexpected(),
    }
}

fn alter_column(p: &mut Parser<'_>, name: Ident) -> Parse<AlterAction> {
    if p.eat(&["set", "default"]) {
        return Ok(AlterAction::SetDefault(name, expr(p)?));
    }
    if p.eat(&["drop", "default"]) {
        return Ok(AlterAction::DropDefault(name));
    }
    if p.eat(&["set", "not", "null"]) {
        return Ok(AlterAction::SetNotNull(name));
    }
    if p.eat(&["drop", "not", "null"]) {
        return Ok(AlterAction::DropNotNull(name));
    }
    if p.eat(&["drop", "identity"]) {
        return Ok(AlterAction::DropIdentity(name, p.eat(&["if", "exists"])));
    }
    if p.eat(&["drop", "expression"]) {
        return Ok(AlterAction::DropExpression(name, p.eat(&["if", "exists"])));
    }
    if p.eat(&["set", "data", "type"]) || p.eat(&["type"]) {
        let ty = type_name(p)?;
        if p.eat(&["collate"]) {
            p.qualified()?;
        }
        let using = if p.eat(&["using"]) {
            Some(expr(p)?)
        } else {
            None
        };
        return Ok(AlterAction::SetType { name, ty, using });
    }
    if p.eat(&["add", "generated"]) {
        let always = p.eat(&["always"]);
        if !always {
            p.need(&["by", "default"])?;
        }
        p.need(&["as", "identity"])?;
        let options = match p.peek_token_ref().token {
            Token::LParen => p.parens(sequence_options)?,
            _ => SequenceOptions::default(),
        };
        return Ok(AlterAction::AddIdentity(
            name,
            IdentityDef { always, options },
        ));
    }
    if p.at(&["set", "statistics"]) || p.at(&["set", "storage"]) || p.at(&["set", "compression"]) {
        p.advance_token();
        p.advance_token();
        p.next_token();
        return Ok(AlterAction::Storage);
    }
    if p.at(&["set"]) && matches!(p.ahead(1), Token::LParen) {
        p.advance_token();
        parenthesized(p)?;
        return Ok(AlterAction::Storage);
    }
    let mut always = None;
    let mut options = SequenceOptions::default();
    let mut any = false;
    loop {
        if p.eat(&["set", "generated"]) {
            let a = p.eat(&["always"]);
            if !a {
                p.need(&["by", "default"])?;
            }
            always = Some(a);
        } else if p.at(&["restart"]) {
            super::object::sequence_option(p, &mut options)?;
        } else if p.at(&["set"]) {
            p.advance_token();
            if !super::object::sequence_option(p, &mut options)? {
                return p.unexpected();
            }
        } else if any {
            return Ok(AlterAction::SetIdentity {
                name,
                always,
                options,
            });
        } else {
            return p.unexpected();
        }
        any = true;
    }
}

/// `SELECT ... INTO`, which is CREATE TABLE AS: takes INTO out of the query.
pub(crate) fn select_into(mut q: Box<sqlparser::ast::Query>) -> Parse<Statement> {
    fn leftmost(body: &mut sqlparser::ast::SetExpr) -> Option<sqlparser::ast::SelectInto> {
        use sqlparser::ast::SetExpr;
        match body {
            SetExpr::Select(s) => s.into.take(),
            SetExpr::SetOperation { left, .. } => leftmost(left),
            SetExpr::Query(q) => leftmost(&mut q.body),
            _ => None,
        }
    }
    match leftmost(&mut q.body) {
        None => Ok(Statement::Query(q)),
        Some(into) if into.temporary => Err(raise(&SqlError::unsupported("a temporary table"))),
        Some(into) => Ok(Statement::CreateTableAs(Box::new(CreateTableAs {
            name: into.name,
            if_not_exists: false,
            columns: Vec::new(),
            query: q,
            with_data: true,
            select_into: true,
            options: Vec::new(),
        }))),
    }
}

/// A query at the start of a statement.
pub(crate) fn top_query(p: &mut Parser<'_>) -> Parse<Statement> {
    let with = with_clause(p)?;
    match p.word() {
        Some("insert") => super::dml::insert(p, with),
        Some("update") => super::dml::update(p, with),
        Some("delete") => super::dml::delete(p, with),
        Some("merge") => Ok(Statement::Unsupported("MERGE")),
        _ => select_into(super::query::query_after_with(p, with)?),
    }
}
