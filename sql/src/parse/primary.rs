//! What operators stand between: constants, names, calls, subqueries, arrays, CASE, and the
//! subscripts and fields behind them.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    AccessExpr, Array, CaseWhen, CastKind, DataType, DuplicateTreatment, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart, Subscript,
    TypedString, Value, ValueWithSpan,
};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, Parse};
use super::depth::with_stack;
use super::expr::expr;
use super::query::{order_by_list, query, window_spec};
use super::type_name::{interval_fields, type_name};
use super::{keywords, special};

/// Casts, subscripts and fields behind a primary expression.
pub(super) fn postfix(p: &mut Parser<'_>, mut root: Expr) -> Parse<Expr> {
    let mut chain = Vec::new();
    loop {
        match &p.peek_token_ref().token {
            Token::DoubleColon => {
                root = chained(root, std::mem::take(&mut chain));
                p.advance_token();
                let data_type = type_name(p)?;
                root = Expr::Cast {
                    kind: CastKind::DoubleColon,
                    expr: Box::new(root),
                    data_type,
                    array: false,
                    format: None,
                };
            }
            Token::LBracket => {
                p.advance_token();
                chain.push(AccessExpr::Subscript(subscript(p)?));
            }
            Token::Period if !chain.is_empty() || !matches!(root, Expr::Value(_)) => {
                p.advance_token();
                if matches!(p.peek_token_ref().token, Token::Mul) {
                    let token = p.next_token();
                    chain.push(AccessExpr::Dot(Expr::Wildcard(AttachedToken(token))));
                } else {
                    chain.push(AccessExpr::Dot(Expr::Identifier(p.label()?)));
                }
            }
            _ => return Ok(chained(root, chain)),
        }
    }
}

fn chained(root: Expr, access_chain: Vec<AccessExpr>) -> Expr {
    if access_chain.is_empty() {
        root
    } else {
        Expr::CompoundFieldAccess {
            root: Box::new(root),
            access_chain,
        }
    }
}

fn subscript(p: &mut Parser<'_>) -> Parse<Subscript> {
    let bound = |p: &mut Parser<'_>| -> Parse<Option<Expr>> {
        match p.peek_token_ref().token {
            Token::Colon | Token::RBracket => Ok(None),
            _ => Ok(Some(expr(p)?)),
        }
    };
    let lower = bound(p)?;
    let out = if p.consume_token(&Token::Colon) {
        Subscript::Slice {
            lower_bound: lower,
            upper_bound: bound(p)?,
            stride: None,
        }
    } else {
        match lower {
            Some(index) => Subscript::Index { index },
            None => return p.unexpected(),
        }
    };
    if !p.consume_token(&Token::RBracket) {
        return p.unexpected();
    }
    Ok(out)
}

pub(super) fn primary(p: &mut Parser<'_>) -> Parse<Expr> {
    let token = p.peek_token_ref().clone();
    let value = |value: Value| {
        Expr::Value(ValueWithSpan {
            value,
            span: token.span,
        })
    };
    match &token.token {
        Token::Number(n, _) => {
            p.advance_token();
            Ok(value(Value::Number(n.clone(), false)))
        }
        Token::SingleQuotedString(s) => {
            p.advance_token();
            Ok(value(Value::SingleQuotedString(s.clone())))
        }
        Token::SingleQuotedByteStringLiteral(s) => {
            p.advance_token();
            Ok(value(Value::SingleQuotedByteStringLiteral(s.clone())))
        }
        Token::HexStringLiteral(s) => {
            p.advance_token();
            Ok(value(Value::HexStringLiteral(s.clone())))
        }
        Token::Placeholder(s) => {
            p.advance_token();
            Ok(value(Value::Placeholder(s.clone())))
        }
        Token::LParen => parenthesised(p),
        Token::Word(w) if w.quote_style.is_some() => name_or_call(p),
        Token::Word(w) => {
            if let Some(e) = special::word(p, &w.value, token.span)? {
                return Ok(e);
            }
            if let Some(e) = typed_literal(p, &w.value)? {
                return Ok(e);
            }
            name_or_call(p)
        }
        _ => p.unexpected(),
    }
}

/// `(expr)`, `(a, b)`, `(SELECT ...)`.
fn parenthesised(p: &mut Parser<'_>) -> Parse<Expr> {
    if super::query::paren_is_query(p) {
        let q = p.parens(query)?;
        return Ok(Expr::Subquery(q));
    }
    let mut items = p.parens(|p| p.commas(expr))?;
    match items.len() {
        1 => match items.pop() {
            Some(e) => Ok(Expr::Nested(Box::new(e))),
            None => p.unexpected(),
        },
        _ => Ok(Expr::Tuple(items)),
    }
}

/// `type 'text'`, if that is what comes.
fn typed_literal(p: &mut Parser<'_>, word: &str) -> Parse<Option<Expr>> {
    let multi = matches!(
        word,
        "double"
            | "timestamp"
            | "time"
            | "character"
            | "char"
            | "national"
            | "nchar"
            | "bit"
            | "varchar"
            | "numeric"
            | "decimal"
            | "dec"
            | "float"
            | "interval"
    );
    let direct = matches!(p.ahead(1), Token::SingleQuotedString(_));
    let qualified =
        matches!(p.ahead(1), Token::Period) && matches!(p.ahead(3), Token::SingleQuotedString(_));
    if !(direct || qualified || multi) || keywords::is_reserved(word) {
        return Ok(None);
    }
    let parsed = p.maybe_parse(|p| {
        let ty = super::type_name::simple_type(p)?;
        let token = p.peek_token_ref().clone();
        match token.token {
            Token::SingleQuotedString(s) => {
                p.advance_token();
                Ok((ty, Value::SingleQuotedString(s), token.span))
            }
            _ => p.unexpected(),
        }
    })?;
    let Some((mut ty, value, span)) = parsed else {
        return Ok(None);
    };
    if word == "interval"
        && let DataType::Custom(_, modifiers) = &mut ty
        && modifiers.is_empty()
        && let Some(fields) = interval_fields(p)?
    {
        modifiers.push(fields);
    }
    Ok(Some(Expr::TypedString(TypedString {
        data_type: ty,
        value: ValueWithSpan { value, span },
        uses_odbc_syntax: false,
    })))
}

/// A column, `t.*`, or a call.
fn name_or_call(p: &mut Parser<'_>) -> Parse<Expr> {
    let token = p.peek_token_ref().clone();
    let Token::Word(w) = &token.token else {
        return p.unexpected();
    };
    let quoted = w.quote_style.is_some();
    let calls = matches!(p.ahead(1), Token::LParen);
    let allowed = quoted
        || if calls {
            keywords::is_function_name(&w.value)
        } else {
            keywords::is_column_name(&w.value)
                || (matches!(p.ahead(1), Token::Period) && !keywords::is_reserved(&w.value))
        };
    if !allowed {
        return p.unexpected();
    }
    let mut parts = vec![p.label()?];
    while matches!(p.peek_token_ref().token, Token::Period) {
        p.advance_token();
        if matches!(p.peek_token_ref().token, Token::Mul) {
            let star = p.next_token();
            let name = ObjectName(parts.into_iter().map(ObjectNamePart::Identifier).collect());
            return Ok(Expr::QualifiedWildcard(name, AttachedToken(star)));
        }
        parts.push(p.label()?);
    }
    if matches!(p.peek_token_ref().token, Token::LParen) {
        let name = ObjectName(parts.into_iter().map(ObjectNamePart::Identifier).collect());
        return Ok(Expr::Function(call(p, name)?));
    }
    Ok(match <[Ident; 1]>::try_from(parts) {
        Ok([one]) => Expr::Identifier(one),
        Err(parts) => Expr::CompoundIdentifier(parts),
    })
}

fn argument(p: &mut Parser<'_>) -> Parse<FunctionArg> {
    if p.at(&["variadic"]) {
        let name = p.label()?;
        let arg = FunctionArgExpr::Expr(expr(p)?);
        return Ok(FunctionArg::Named {
            name,
            arg,
            operator: FunctionArgOperator::Value,
        });
    }
    if matches!(p.peek_token_ref().token, Token::Word(_))
        && matches!(p.ahead(1), Token::RArrow | Token::Assignment)
    {
        let name = p.label()?;
        p.advance_token();
        let arg = FunctionArgExpr::Expr(expr(p)?);
        return Ok(FunctionArg::Named {
            name,
            arg,
            operator: FunctionArgOperator::RightArrow,
        });
    }
    Ok(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr(p)?)))
}

/// Arguments and clauses of a call whose name has been read.
pub(crate) fn call(p: &mut Parser<'_>, name: ObjectName) -> Parse<Function> {
    let list = p.parens(|p| {
        let mut list = FunctionArgumentList {
            duplicate_treatment: None,
            args: Vec::new(),
            clauses: Vec::new(),
        };
        if matches!(p.peek_token_ref().token, Token::RParen) {
            return Ok(list);
        }
        if matches!(p.peek_token_ref().token, Token::Mul) {
            p.advance_token();
            list.args
                .push(FunctionArg::Unnamed(FunctionArgExpr::Wildcard));
            return Ok(list);
        }
        if p.eat(&["distinct"]) {
            list.duplicate_treatment = Some(DuplicateTreatment::Distinct);
        } else if p.eat(&["all"]) {
            list.duplicate_treatment = Some(DuplicateTreatment::All);
        }
        list.args = p.commas(argument)?;
        if p.eat(&["order", "by"]) {
            list.clauses
                .push(FunctionArgumentClause::OrderBy(order_by_list(p)?));
        }
        Ok(list)
    })?;
    let mut out = Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    };
    if p.at(&["within", "group"]) && matches!(p.ahead(2), Token::LParen) {
        p.need(&["within", "group"])?;
        out.within_group = p.parens(|p| {
            p.need(&["order", "by"])?;
            order_by_list(p)
        })?;
    }
    if p.at(&["filter"]) && matches!(p.ahead(1), Token::LParen) {
        p.advance_token();
        out.filter = Some(Box::new(p.parens(|p| {
            p.need(&["where"])?;
            expr(p)
        })?));
    }
    if p.eat(&["over"]) {
        out.over = Some(window_spec(p)?);
    }
    Ok(out)
}

/// ARRAY[...] behind the word, or a nested `[...]`.
pub(crate) fn array(p: &mut Parser<'_>, named: bool) -> Parse<Expr> {
    if !p.consume_token(&Token::LBracket) {
        return p.unexpected();
    }
    let mut elem = Vec::new();
    if !matches!(p.peek_token_ref().token, Token::RBracket) {
        elem = p.commas(|p| match p.peek_token_ref().token {
            Token::LBracket => with_stack(|| array(p, false)),
            _ => expr(p),
        })?;
    }
    if !p.consume_token(&Token::RBracket) {
        return p.unexpected();
    }
    Ok(Expr::Array(Array { elem, named }))
}

/// CASE behind the word.
pub(crate) fn case(p: &mut Parser<'_>) -> Parse<Expr> {
    let case_token = AttachedToken(p.next_token());
    let operand = if p.at(&["when"]) {
        None
    } else {
        Some(Box::new(expr(p)?))
    };
    let mut conditions = Vec::new();
    while p.eat(&["when"]) {
        let condition = expr(p)?;
        p.need(&["then"])?;
        conditions.push(CaseWhen {
            condition,
            result: expr(p)?,
        });
    }
    if conditions.is_empty() {
        return p.unexpected();
    }
    let else_result = if p.eat(&["else"]) {
        Some(Box::new(expr(p)?))
    } else {
        None
    };
    if !p.at(&["end"]) {
        return p.unexpected();
    }
    let end_token = AttachedToken(p.next_token());
    Ok(Expr::Case {
        case_token,
        end_token,
        operand,
        conditions,
        else_result,
    })
}
