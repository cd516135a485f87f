//! Queries by PostgreSQL's grammar (select_no_parens and below), as sqlparser syntax. What the tree
//! cannot hold is refused here.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    AccessExpr, Cte, CteAsMaterialized, Distinct, Expr, Fetch, GroupByExpr, Ident, LimitClause,
    LockClause, LockType, NamedWindowDefinition, NamedWindowExpr, NonBlock, ObjectName,
    ObjectNamePart, Offset, OffsetRows, OrderBy, OrderByExpr, OrderByKind, OrderByOptions, Parens,
    Query, Select, SelectFlavor, SelectInto, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    SetOperator, SetQuantifier, TableAlias, TableAliasColumnDef, Values, WildcardAdditionalOptions,
    WindowFrame, WindowFrameBound, WindowFrameUnits, WindowSpec, WindowType, With,
};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, Parse, raise};
use super::depth::with_stack;
use super::expr::expr;
use super::from::table_list;
use super::{keywords, type_name};
use crate::error::SqlError;

/// Whether a query starts at the next token (in parentheses or not).
pub(crate) fn starts_query(p: &Parser<'_>) -> bool {
    match p.word() {
        Some("select" | "values" | "with") => true,
        Some("table") => !matches!(p.ahead(1), Token::LParen | Token::Comma | Token::RParen),
        _ => paren_query(p, true),
    }
}

/// Whether the parenthesis that comes next holds a query rather than an expression or a join.
pub(crate) fn paren_is_query(p: &Parser<'_>) -> bool {
    paren_query(p, false)
}

/// Looks through further parentheses to SELECT, then from the inside out at what follows each;
/// at what follows the first one too if `after`.
fn paren_query(p: &Parser<'_>, after: bool) -> bool {
    let start = p.index();
    let mut inner = start;
    while matches!(p.token_at(inner).token, Token::LParen) {
        inner += 1;
    }
    if inner == start {
        return false;
    }
    let Token::Word(w) = &p.token_at(inner).token else {
        return false;
    };
    let query_word = w.quote_style.is_none()
        && matches!(w.value.as_str(), "select" | "values" | "with" | "table");
    if !query_word {
        return false;
    }
    // `open` parentheses are left to close; the innermost one is the query's own.
    let mut open = inner - start;
    let mut depth = 0usize;
    let mut at = inner;
    loop {
        match &p.token_at(at).token {
            Token::LParen => depth += 1,
            Token::RParen if depth > 0 => depth -= 1,
            Token::RParen => {
                open -= 1;
                if open == 0 && !after {
                    return true;
                }
                let goes_on = match &p.token_at(at + 1).token {
                    Token::RParen | Token::EOF | Token::SemiColon => true,
                    Token::Word(w) if w.quote_style.is_none() => matches!(
                        w.value.as_str(),
                        "union"
                            | "except"
                            | "intersect"
                            | "order"
                            | "limit"
                            | "offset"
                            | "fetch"
                            | "for"
                    ),
                    _ => false,
                };
                if !goes_on || open == 0 {
                    return goes_on;
                }
            }
            Token::EOF | Token::SemiColon => return true,
            _ => {}
        }
        at += 1;
    }
}

fn empty_query(with: Option<With>, body: SetExpr) -> Query {
    Query {
        with,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

/// A query, with WITH and all that follows.
pub(crate) fn query(p: &mut Parser<'_>) -> Parse<Box<Query>> {
    with_stack(|| {
        let with = with_clause(p)?;
        query_after_with(p, with)
    })
}

/// WITH, if it comes.
pub(crate) fn with_clause(p: &mut Parser<'_>) -> Parse<Option<With>> {
    if !p.at(&["with"]) {
        return Ok(None);
    }
    let with_token = AttachedToken(p.next_token());
    let recursive = p.eat(&["recursive"]);
    let cte_tables = p.commas(cte)?;
    Ok(Some(With {
        with_token,
        recursive,
        cte_tables,
    }))
}

fn cte(p: &mut Parser<'_>) -> Parse<Cte> {
    let name = p.column_id()?;
    let columns = match p.peek_token_ref().token {
        Token::LParen => p.column_list()?,
        _ => Vec::new(),
    };
    p.need(&["as"])?;
    let materialized = if p.eat(&["materialized"]) {
        Some(CteAsMaterialized::Materialized)
    } else if p.eat(&["not", "materialized"]) {
        Some(CteAsMaterialized::NotMaterialized)
    } else {
        None
    };
    let query = p.parens(|p| match p.word() {
        Some("insert" | "update" | "delete") => Err(raise(
            &SqlError::unsupported("a data-modifying statement in WITH").at(p.position()),
        )),
        _ => query(p),
    })?;
    if matches!(p.word(), Some("search" | "cycle")) {
        return Err(raise(
            &SqlError::unsupported("SEARCH and CYCLE of recursive queries").at(p.position()),
        ));
    }
    let columns = columns
        .into_iter()
        .map(|name| TableAliasColumnDef {
            name,
            data_type: None,
        })
        .collect();
    Ok(Cte {
        alias: TableAlias {
            explicit: true,
            name,
            columns,
            at: None,
        },
        query,
        from: None,
        materialized,
        closing_paren_token: AttachedToken::empty(),
    })
}

/// The rest of a query whose WITH has been read.
pub(crate) fn query_after_with(p: &mut Parser<'_>, with: Option<With>) -> Parse<Box<Query>> {
    let body = set_operations(p, 0)?;
    let mut out = match body {
        // `(SELECT ...) ORDER BY` belongs to the query outside only if something follows.
        body => empty_query(with, body),
    };
    if p.eat(&["order", "by"]) {
        out.order_by = Some(OrderBy {
            kind: OrderByKind::Expressions(order_by_list(p)?),
            interpolate: None,
        });
    }
    let mut limit = None;
    let mut offset = None;
    loop {
        match p.word() {
            Some("limit") if limit.is_none() && out.fetch.is_none() => {
                p.advance_token();
                limit = Some(if p.eat(&["all"]) {
                    None
                } else {
                    Some(expr(p)?)
                });
                if matches!(p.peek_token_ref().token, Token::Comma) {
                    return Err(raise(
                        &SqlError::new(
                            crate::error::SqlState::SYNTAX_ERROR,
                            "LIMIT #,# syntax is not supported",
                        )
                        .with_hint("Use separate LIMIT and OFFSET clauses.")
                        .at(p.position()),
                    ));
                }
            }
            Some("offset") if offset.is_none() => {
                p.advance_token();
                let value = expr(p)?;
                let rows = match p.word() {
                    Some("row") => OffsetRows::Row,
                    Some("rows") => OffsetRows::Rows,
                    _ => OffsetRows::None,
                };
                if rows != OffsetRows::None {
                    p.advance_token();
                }
                offset = Some(Offset { value, rows });
            }
            Some("fetch") if limit.is_none() && out.fetch.is_none() => {
                p.advance_token();
                out.fetch = Some(fetch(p)?);
            }
            Some("for") => {
                p.advance_token();
                if p.eat(&["read", "only"]) {
                    continue;
                }
                lock(p, &mut out.locks)?;
            }
            _ => break,
        }
    }
    if offset.is_some() || matches!(limit, Some(Some(_))) {
        out.limit_clause = Some(LimitClause::LimitOffset {
            limit: limit.flatten(),
            offset,
            limit_by: Vec::new(),
        });
    }
    Ok(Box::new(out))
}

fn fetch(p: &mut Parser<'_>) -> Parse<Fetch> {
    if !p.eat(&["first"]) {
        p.need(&["next"])?;
    }
    let quantity = match p.word() {
        Some("row" | "rows") => None,
        _ => Some(super::expr::b_expr(p)?),
    };
    if !p.eat(&["rows"]) {
        p.need(&["row"])?;
    }
    let with_ties = if p.eat(&["with", "ties"]) {
        true
    } else {
        p.need(&["only"])?;
        false
    };
    Ok(Fetch {
        with_ties,
        percent: false,
        quantity,
    })
}

fn lock(p: &mut Parser<'_>, locks: &mut Vec<LockClause>) -> Parse<()> {
    // NO KEY UPDATE and KEY SHARE are taken as the stronger UPDATE and SHARE.
    let lock_type = if p.eat(&["update"]) || p.eat(&["no", "key", "update"]) {
        LockType::Update
    } else if p.eat(&["share"]) || p.eat(&["key", "share"]) {
        LockType::Share
    } else {
        return p.unexpected();
    };
    let of = if p.eat(&["of"]) {
        p.commas(Cursor::qualified)?
    } else {
        Vec::new()
    };
    let nonblock = if p.eat(&["nowait"]) {
        Some(NonBlock::Nowait)
    } else if p.eat(&["skip", "locked"]) {
        Some(NonBlock::SkipLocked)
    } else {
        None
    };
    if of.is_empty() {
        locks.push(LockClause {
            lock_type,
            of: None,
            nonblock,
        });
    } else {
        for name in of {
            locks.push(LockClause {
                lock_type,
                of: Some(name),
                nonblock,
            });
        }
    }
    Ok(())
}

/// UNION, INTERSECT, EXCEPT; INTERSECT binds tighter.
fn set_operations(p: &mut Parser<'_>, min: u8) -> Parse<SetExpr> {
    with_stack(|| {
        let mut left = simple_query(p)?;
        loop {
            let (op, power) = match p.word() {
                Some("union") => (SetOperator::Union, 1),
                Some("except") => (SetOperator::Except, 1),
                Some("intersect") => (SetOperator::Intersect, 2),
                _ => return Ok(left),
            };
            if power <= min {
                return Ok(left);
            }
            p.advance_token();
            let set_quantifier = if p.eat(&["all"]) {
                SetQuantifier::All
            } else if p.eat(&["distinct"]) {
                SetQuantifier::Distinct
            } else {
                SetQuantifier::None
            };
            let right = Box::new(set_operations(p, power)?);
            left = SetExpr::SetOperation {
                left: Box::new(left),
                op,
                set_quantifier,
                right,
            };
        }
    })
}

fn simple_query(p: &mut Parser<'_>) -> Parse<SetExpr> {
    match p.word() {
        Some("select") => Ok(SetExpr::Select(Box::new(select(p)?))),
        Some("values") => {
            p.advance_token();
            let rows = p.commas(|p| {
                let content = p.parens(|p| p.commas(expr))?;
                Ok(Parens::with_empty_span(content))
            })?;
            Ok(SetExpr::Values(Values {
                explicit_row: false,
                value_keyword: false,
                rows,
            }))
        }
        Some("table") => {
            p.advance_token();
            p.eat(&["only"]);
            let name = p.qualified()?;
            let mut out = bare_select(AttachedToken::empty());
            out.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
            out.from = vec![super::from::plain_table(name, None)];
            Ok(SetExpr::Select(Box::new(out)))
        }
        _ if matches!(p.peek_token_ref().token, Token::LParen) => {
            Ok(SetExpr::Query(p.parens(query)?))
        }
        _ => p.unexpected(),
    }
}

fn bare_select(select_token: AttachedToken) -> Select {
    Select {
        select_token,
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: Vec::new(),
        exclude: None,
        into: None,
        from: Vec::new(),
        lateral_views: Vec::new(),
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    }
}

fn select(p: &mut Parser<'_>) -> Parse<Select> {
    let mut out = bare_select(AttachedToken(p.next_token()));
    if p.eat(&["distinct"]) {
        out.distinct = Some(if p.eat(&["on"]) {
            Distinct::On(p.parens(|p| p.commas(expr))?)
        } else {
            Distinct::Distinct
        });
    } else {
        p.eat(&["all"]);
    }
    out.projection = match p.word() {
        Some(
            "from" | "where" | "group" | "having" | "window" | "union" | "except" | "intersect"
            | "order" | "limit" | "offset" | "fetch" | "for" | "into",
        ) => Vec::new(),
        _ if p.finished() || matches!(p.peek_token_ref().token, Token::RParen) => Vec::new(),
        _ => p.commas(target)?,
    };
    if p.eat(&["into"]) {
        let temporary = p.eat(&["temporary"]) || p.eat(&["temp"]);
        let unlogged = p.eat(&["unlogged"]);
        let table = p.eat(&["table"]);
        out.into = Some(SelectInto {
            temporary,
            unlogged,
            table,
            name: p.qualified()?,
        });
    }
    if p.eat(&["from"]) {
        out.from = table_list(p)?;
    }
    if p.eat(&["where"]) {
        out.selection = Some(expr(p)?);
    }
    if p.eat(&["group", "by"]) {
        p.eat(&["all"]);
        if p.at(&["distinct"]) {
            return Err(raise(
                &SqlError::unsupported("GROUP BY DISTINCT").at(p.position()),
            ));
        }
        out.group_by = GroupByExpr::Expressions(p.commas(group_item)?, Vec::new());
    }
    if p.eat(&["having"]) {
        out.having = Some(expr(p)?);
    }
    if p.eat(&["window"]) {
        out.named_window = p.commas(|p| {
            let name = p.column_id()?;
            p.need(&["as"])?;
            let spec = p.parens(window_body)?;
            Ok(NamedWindowDefinition(
                name,
                NamedWindowExpr::WindowSpec(spec),
            ))
        })?;
    }
    Ok(out)
}

/// The select list behind RETURNING.
pub(crate) fn target_list(p: &mut Parser<'_>) -> Parse<Vec<SelectItem>> {
    p.commas(target)
}

fn target(p: &mut Parser<'_>) -> Parse<SelectItem> {
    let star = |wildcard_token| WildcardAdditionalOptions {
        wildcard_token,
        ..WildcardAdditionalOptions::default()
    };
    if matches!(p.peek_token_ref().token, Token::Mul) {
        let token = AttachedToken(p.next_token());
        return Ok(SelectItem::Wildcard(star(token)));
    }
    let e = match expr(p)? {
        Expr::QualifiedWildcard(name, token) => {
            return Ok(SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                star(token),
            ));
        }
        Expr::CompoundFieldAccess {
            root,
            mut access_chain,
        } if matches!(
            access_chain.last(),
            Some(AccessExpr::Dot(Expr::Wildcard(_)))
        ) =>
        {
            access_chain.pop();
            let inner = if access_chain.is_empty() {
                *root
            } else {
                Expr::CompoundFieldAccess { root, access_chain }
            };
            return Ok(SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::Expr(inner),
                WildcardAdditionalOptions::default(),
            ));
        }
        e => e,
    };
    if p.eat(&["as"]) {
        return Ok(SelectItem::ExprWithAlias {
            expr: e,
            alias: p.label()?,
        });
    }
    let bare = match &p.peek_token_ref().token {
        Token::Word(w) => w.quote_style.is_some() || keywords::is_bare_label(&w.value),
        _ => false,
    };
    Ok(if bare {
        SelectItem::ExprWithAlias {
            expr: e,
            alias: p.label()?,
        }
    } else {
        SelectItem::UnnamedExpr(e)
    })
}

fn group_item(p: &mut Parser<'_>) -> Parse<Expr> {
    if matches!(p.peek_token_ref().token, Token::LParen) && matches!(p.ahead(1), Token::RParen) {
        p.advance_token();
        p.advance_token();
        return Ok(Expr::GroupingSets(vec![Vec::new()]));
    }
    let list = |p: &mut Parser<'_>| -> Parse<Vec<Vec<Expr>>> {
        p.parens(|p| {
            p.commas(|p| {
                Ok(match group_item(p)? {
                    Expr::Tuple(items) => items,
                    Expr::Nested(e) => vec![*e],
                    Expr::GroupingSets(sets) if sets == [Vec::new()] => Vec::new(),
                    e => vec![e],
                })
            })
        })
    };
    if p.at(&["rollup"]) && matches!(p.ahead(1), Token::LParen) {
        p.advance_token();
        return Ok(Expr::Rollup(list(p)?));
    }
    if p.at(&["cube"]) && matches!(p.ahead(1), Token::LParen) {
        p.advance_token();
        return Ok(Expr::Cube(list(p)?));
    }
    if p.eat(&["grouping", "sets"]) {
        return Ok(Expr::GroupingSets(list(p)?));
    }
    expr(p)
}

/// Keys behind ORDER BY.
pub(crate) fn order_by_list(p: &mut Parser<'_>) -> Parse<Vec<OrderByExpr>> {
    p.commas(|p| {
        let e = expr(p)?;
        let asc = if p.eat(&["asc"]) {
            Some(true)
        } else if p.eat(&["desc"]) {
            Some(false)
        } else if p.eat(&["using"]) {
            let token = p.next_token();
            match token.token {
                Token::Lt => Some(true),
                Token::Gt => Some(false),
                _ => {
                    p.prev_token();
                    return Err(raise(
                        &SqlError::unsupported("ORDER BY ... USING with this operator")
                            .at(p.position()),
                    ));
                }
            }
        } else {
            None
        };
        let nulls_first = if p.eat(&["nulls", "first"]) {
            Some(true)
        } else if p.eat(&["nulls", "last"]) {
            Some(false)
        } else {
            None
        };
        Ok(OrderByExpr {
            expr: e,
            options: OrderByOptions { asc, nulls_first },
            with_fill: None,
        })
    })
}

/// What follows OVER.
pub(crate) fn window_spec(p: &mut Parser<'_>) -> Parse<WindowType> {
    if matches!(p.peek_token_ref().token, Token::LParen) {
        return Ok(WindowType::WindowSpec(p.parens(window_body)?));
    }
    Ok(WindowType::NamedWindow(p.column_id()?))
}

fn window_body(p: &mut Parser<'_>) -> Parse<WindowSpec> {
    let window_name = match &p.peek_token_ref().token {
        Token::Word(w) if w.quote_style.is_some() => Some(p.label()?),
        Token::Word(w)
            if keywords::is_column_name(&w.value)
                && !matches!(w.value.as_str(), "partition" | "rows" | "range" | "groups") =>
        {
            Some(p.label()?)
        }
        _ => None,
    };
    let partition_by = if p.eat(&["partition", "by"]) {
        p.commas(expr)?
    } else {
        Vec::new()
    };
    let order_by = if p.eat(&["order", "by"]) {
        order_by_list(p)?
    } else {
        Vec::new()
    };
    let units = if p.eat(&["rows"]) {
        Some(WindowFrameUnits::Rows)
    } else if p.eat(&["range"]) {
        Some(WindowFrameUnits::Range)
    } else if p.eat(&["groups"]) {
        Some(WindowFrameUnits::Groups)
    } else {
        None
    };
    let window_frame = match units {
        None => None,
        Some(units) => {
            let (start_bound, end_bound) = if p.eat(&["between"]) {
                let start = frame_bound(p)?;
                p.need(&["and"])?;
                (start, Some(frame_bound(p)?))
            } else {
                (frame_bound(p)?, None)
            };
            if p.at(&["exclude"]) && !p.eat(&["exclude", "no", "others"]) {
                return Err(raise(
                    &SqlError::unsupported("EXCLUDE in a window frame").at(p.position()),
                ));
            }
            Some(WindowFrame {
                units,
                start_bound,
                end_bound,
            })
        }
    };
    Ok(WindowSpec {
        window_name,
        partition_by,
        order_by,
        window_frame,
    })
}

fn frame_bound(p: &mut Parser<'_>) -> Parse<WindowFrameBound> {
    if p.eat(&["current", "row"]) {
        return Ok(WindowFrameBound::CurrentRow);
    }
    let offset = if p.at(&["unbounded", "preceding"]) || p.at(&["unbounded", "following"]) {
        p.advance_token();
        None
    } else {
        Some(Box::new(expr(p)?))
    };
    if p.eat(&["preceding"]) {
        return Ok(WindowFrameBound::Preceding(offset));
    }
    p.need(&["following"])?;
    Ok(WindowFrameBound::Following(offset))
}

/// A table alias with column names or definitions, if it comes.
pub(crate) fn table_alias(p: &mut Parser<'_>, function: bool) -> Parse<Option<TableAlias>> {
    let explicit = p.eat(&["as"]);
    if explicit && function && matches!(p.peek_token_ref().token, Token::LParen) {
        let columns = alias_columns(p)?;
        let name = Ident::new("");
        return Ok(Some(TableAlias {
            explicit,
            name,
            columns,
            at: None,
        }));
    }
    let comes = match &p.peek_token_ref().token {
        Token::Word(w) => w.quote_style.is_some() || keywords::is_column_name(&w.value),
        _ => false,
    };
    if !comes {
        return if explicit { p.unexpected() } else { Ok(None) };
    }
    let name = p.column_id()?;
    let columns = match p.peek_token_ref().token {
        Token::LParen => alias_columns(p)?,
        _ => Vec::new(),
    };
    Ok(Some(TableAlias {
        explicit,
        name,
        columns,
        at: None,
    }))
}

fn alias_columns(p: &mut Parser<'_>) -> Parse<Vec<TableAliasColumnDef>> {
    p.parens(|p| {
        p.commas(|p| {
            let name = p.column_id()?;
            let data_type = match p.peek_token_ref().token {
                Token::Comma | Token::RParen => None,
                _ => Some(type_name::type_name(p)?),
            };
            Ok(TableAliasColumnDef { name, data_type })
        })
    })
}

/// The single name that an object name is.
pub(crate) fn parts(name: &ObjectName) -> Vec<&Ident> {
    name.0
        .iter()
        .filter_map(|part| match part {
            ObjectNamePart::Identifier(i) => Some(i),
            ObjectNamePart::Function(_) => None,
        })
        .collect()
}
