//! Expressions by PostgreSQL's grammar and precedence (gram.y), as sqlparser syntax.
//!
//! A Pratt parser of our own, because the crate's follows other precedences and backtracks. How
//! PostgreSQL's forms lie in the crate's tree:
//! - operators: `BinaryOp` with `PGCustomBinaryOperator([name, position])`, prefix operators as
//!   `Prefixed` with the name as prefix; only AND, OR and NOT keep the crate's own;
//! - LIKE, SIMILAR TO, AT TIME ZONE, EXTRACT, SUBSTRING, POSITION, OVERLAY, TRIM and the like
//!   become the operators and functions that PostgreSQL's grammar makes of them;
//! - typed literals and every type name: `DataType::Custom`; ROW(...): `Struct`; `(a, b)`: `Tuple`;
//! - VARIADIC arguments: named arguments with the operator `Value`.

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, ObjectNamePart, UnaryOperator, Value, ValueWithSpan,
};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token};

use super::cursor::{Cursor, Parse, raise};
use super::depth::with_stack;
use super::primary::{postfix, primary};
use super::query::{query, starts_query};
use crate::error::SqlError;

/// Binding powers, as the order of declarations in gram.y.
pub(crate) mod power {
    pub(crate) const LOWEST: u8 = 0;
    pub(crate) const OR: u8 = 1;
    pub(crate) const AND: u8 = 2;
    pub(crate) const NOT: u8 = 3;
    pub(crate) const IS: u8 = 4;
    pub(crate) const COMPARISON: u8 = 5;
    pub(crate) const BETWEEN: u8 = 6;
    pub(crate) const OPERATOR: u8 = 7;
    pub(crate) const PLUS: u8 = 8;
    pub(crate) const TIMES: u8 = 9;
    pub(crate) const POWER: u8 = 10;
    pub(crate) const AT: u8 = 11;
    pub(crate) const COLLATE: u8 = 12;
    pub(crate) const UNARY_MINUS: u8 = 13;
}

/// An operator as it lies in the tree.
pub(crate) fn operator(name: &str, position: usize) -> BinaryOperator {
    BinaryOperator::PGCustomBinaryOperator(vec![name.to_owned(), position.to_string()])
}

/// `left op right`
pub(crate) fn binary(left: Expr, name: &str, position: usize, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op: operator(name, position),
        right: Box::new(right),
    }
}

/// A call of a function of pg_catalog.
pub(crate) fn system_call(name: &str, span: Span, args: Vec<Expr>) -> Expr {
    let ident = |value: &str| {
        ObjectNamePart::Identifier(Ident {
            value: value.to_owned(),
            quote_style: None,
            span,
        })
    };
    let args = args
        .into_iter()
        .map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e)))
        .collect();
    Expr::Function(Function {
        name: ObjectName(vec![ident("pg_catalog"), ident(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// A string constant.
pub(crate) fn string_value(text: &str, span: Span) -> Expr {
    Expr::Value(ValueWithSpan {
        value: Value::SingleQuotedString(text.to_owned()),
        span,
    })
}

/// An expression (`a_expr`).
pub(crate) fn expr(p: &mut Parser<'_>) -> Parse<Expr> {
    subexpr(p, power::LOWEST, false)
}

/// The narrower `b_expr`: no AND, OR, NOT, IN, LIKE, BETWEEN, IS NULL.
pub(crate) fn b_expr(p: &mut Parser<'_>) -> Parse<Expr> {
    subexpr(p, power::LOWEST, true)
}

pub(super) fn subexpr(p: &mut Parser<'_>, min: u8, narrow: bool) -> Parse<Expr> {
    with_stack(|| {
        let mut left = prefix(p, narrow)?;
        // Comparisons, BETWEEN, LIKE, IN and IS do not associate.
        let mut ceiling = u8::MAX;
        loop {
            let Some(power) = next_power(p, narrow) else {
                return Ok(left);
            };
            if power <= min || power > ceiling {
                return Ok(left);
            }
            if power == ceiling && matches!(power, power::COMPARISON | power::BETWEEN) {
                return p.unexpected();
            }
            left = infix(p, left, power, narrow)?;
            if matches!(power, power::COMPARISON | power::BETWEEN) {
                ceiling = power;
            } else if power < power::COMPARISON {
                ceiling = u8::MAX;
            }
        }
    })
}

/// How strongly the next token binds as an infix or postfix operator.
fn next_power(p: &Parser<'_>, narrow: bool) -> Option<u8> {
    Some(match &p.peek_token_ref().token {
        Token::Plus | Token::Minus => power::PLUS,
        Token::Mul | Token::Div | Token::Mod => power::TIMES,
        Token::Caret => power::POWER,
        Token::Eq | Token::Neq | Token::Lt | Token::Gt | Token::LtEq | Token::GtEq => {
            power::COMPARISON
        }
        Token::CustomBinaryOperator(_) => power::OPERATOR,
        Token::Word(w) if w.quote_style.is_none() => match w.value.as_str() {
            "operator" if matches!(p.ahead(1), Token::LParen) => power::OPERATOR,
            "is" if !narrow => power::IS,
            "is" => match (p.word_at(1), p.word_at(2)) {
                (Some("distinct"), _) | (Some("not"), Some("distinct")) => power::IS,
                _ => return None,
            },
            _ if narrow => return None,
            "or" => power::OR,
            "and" => power::AND,
            "isnull" | "notnull" => power::IS,
            "between" | "in" | "like" | "ilike" => power::BETWEEN,
            "similar" if p.word_at(1) == Some("to") => power::BETWEEN,
            "not" => match p.word_at(1) {
                Some("between" | "in" | "like" | "ilike" | "similar") => power::BETWEEN,
                _ => return None,
            },
            "at" if p.word_at(1) == Some("time") => power::AT,
            "collate" => power::COLLATE,
            "overlaps" => power::OPERATOR,
            _ => return None,
        },
        _ => return None,
    })
}

fn infix(p: &mut Parser<'_>, left: Expr, min: u8, narrow: bool) -> Parse<Expr> {
    let token = p.peek_token_ref().clone();
    let position = token.span.start.line as usize;
    if let Token::Word(w) = &token.token
        && w.value != "operator"
    {
        return worded(p, left, &w.value.clone(), position, min, narrow);
    }
    let name = match &token.token {
        Token::Word(_) => operator_name(p)?,
        Token::Neq => {
            p.advance_token();
            "<>".to_owned()
        }
        other => {
            let name = other.to_string();
            p.advance_token();
            name
        }
    };
    if !narrow && let Some(quantified) = quantified(p, &left, &name, position)? {
        return Ok(quantified);
    }
    let right = subexpr(p, min, narrow)?;
    Ok(binary(left, &name, position, right))
}

/// `ANY|ALL|SOME (...)` after an operator.
fn quantified(p: &mut Parser<'_>, left: &Expr, name: &str, position: usize) -> Parse<Option<Expr>> {
    let all = match p.word() {
        Some("any" | "some") => false,
        Some("all") => true,
        _ => return Ok(None),
    };
    if !matches!(p.ahead(1), Token::LParen) {
        return Ok(None);
    }
    p.advance_token();
    let right = p.parens(|p| {
        if starts_query(p) {
            Ok(Expr::Subquery(query(p)?))
        } else {
            expr(p)
        }
    })?;
    let (left, right, op) = (
        Box::new(left.clone()),
        Box::new(right),
        operator(name, position),
    );
    Ok(Some(if all {
        Expr::AllOp {
            left,
            compare_op: op,
            right,
        }
    } else {
        Expr::AnyOp {
            left,
            compare_op: op,
            right,
            is_some: false,
        }
    }))
}

/// `OPERATOR(schema.op)`
fn operator_name(p: &mut Parser<'_>) -> Parse<String> {
    p.need(&["operator"])?;
    p.parens(|p| {
        let mut schema = None;
        while matches!(p.ahead(1), Token::Period) {
            schema = Some(p.label()?.value);
            p.advance_token();
        }
        let token = p.next_token();
        let name = match token.token {
            Token::Neq => "<>".to_owned(),
            t @ (Token::CustomBinaryOperator(_)
            | Token::Eq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq
            | Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::Caret) => t.to_string(),
            _ => {
                p.prev_token();
                return p.unexpected();
            }
        };
        Ok(match schema {
            Some(s) if s != "pg_catalog" => format!("{s}.{name}"),
            _ => name,
        })
    })
}

/// Infix and postfix forms that start with a word.
fn worded(
    p: &mut Parser<'_>,
    left: Expr,
    word: &str,
    position: usize,
    min: u8,
    narrow: bool,
) -> Parse<Expr> {
    match word {
        "and" | "or" => {
            p.advance_token();
            let op = if word == "and" {
                BinaryOperator::And
            } else {
                BinaryOperator::Or
            };
            let right = Box::new(subexpr(p, min, narrow)?);
            Ok(Expr::BinaryOp {
                left: Box::new(left),
                op,
                right,
            })
        }
        "isnull" => {
            p.advance_token();
            Ok(Expr::IsNull(Box::new(left)))
        }
        "notnull" => {
            p.advance_token();
            Ok(Expr::IsNotNull(Box::new(left)))
        }
        "is" => is(p, left, narrow),
        "at" => {
            let span = p.peek_token_ref().span;
            p.need(&["at", "time", "zone"])?;
            let zone = subexpr(p, min, narrow)?;
            Ok(system_call("timezone", span, vec![zone, left]))
        }
        "collate" => {
            p.advance_token();
            Ok(Expr::Collate {
                expr: Box::new(left),
                collation: p.qualified()?,
            })
        }
        "overlaps" => {
            let span = p.peek_token_ref().span;
            p.advance_token();
            let right = subexpr(p, min, narrow)?;
            let parts = |e: Expr| match e {
                Expr::Tuple(v) | Expr::Struct { values: v, .. } if v.len() == 2 => Some(v),
                _ => None,
            };
            match (parts(left), parts(right)) {
                (Some(mut a), Some(b)) => {
                    a.extend(b);
                    Ok(system_call("overlaps", span, a))
                }
                _ => Err(raise(
                    &SqlError::new(
                        crate::error::SqlState::SYNTAX_ERROR,
                        "wrong number of parameters on left side of OVERLAPS expression",
                    )
                    .at(position),
                )),
            }
        }
        _ => {
            let negated = p.eat(&["not"]);
            let word = p.word().unwrap_or("").to_owned();
            match word.as_str() {
                "between" => between(p, left, negated),
                "in" => {
                    p.advance_token();
                    in_list(p, left, negated)
                }
                "like" | "ilike" | "similar" => matching(p, left, &word, position, negated),
                _ => p.unexpected(),
            }
        }
    }
}

fn is(p: &mut Parser<'_>, left: Expr, narrow: bool) -> Parse<Expr> {
    p.need(&["is"])?;
    let negated = p.eat(&["not"]);
    let e = Box::new(left);
    if p.eat(&["distinct", "from"]) {
        let right = Box::new(subexpr(p, power::IS, narrow)?);
        return Ok(if negated {
            Expr::IsNotDistinctFrom(e, right)
        } else {
            Expr::IsDistinctFrom(e, right)
        });
    }
    let out = match (p.word(), negated) {
        (Some("null"), false) => Expr::IsNull(e),
        (Some("null"), true) => Expr::IsNotNull(e),
        (Some("true"), false) => Expr::IsTrue(e),
        (Some("true"), true) => Expr::IsNotTrue(e),
        (Some("false"), false) => Expr::IsFalse(e),
        (Some("false"), true) => Expr::IsNotFalse(e),
        (Some("unknown"), false) => Expr::IsUnknown(e),
        (Some("unknown"), true) => Expr::IsNotUnknown(e),
        (Some("document" | "normalized" | "nfc" | "nfd" | "nfkc" | "nfkd"), _) => {
            let what = p.word().unwrap_or("").to_uppercase();
            return Err(raise(
                &SqlError::unsupported(format!("IS {what}")).at(p.position()),
            ));
        }
        _ => return p.unexpected(),
    };
    p.advance_token();
    Ok(out)
}

fn between(p: &mut Parser<'_>, left: Expr, negated: bool) -> Parse<Expr> {
    let position = p.position();
    p.need(&["between"])?;
    let symmetric = p.eat(&["symmetric"]);
    if !symmetric {
        p.eat(&["asymmetric"]);
    }
    let low = b_expr(p)?;
    p.need(&["and"])?;
    let high = subexpr(p, power::BETWEEN, false)?;
    if !symmetric {
        return Ok(Expr::Between {
            expr: Box::new(left),
            negated,
            low: Box::new(low),
            high: Box::new(high),
        });
    }
    let side = |a: &Expr, b: &Expr| Expr::BinaryOp {
        left: Box::new(binary(left.clone(), ">=", position, a.clone())),
        op: BinaryOperator::And,
        right: Box::new(binary(left.clone(), "<=", position, b.clone())),
    };
    let either = Expr::BinaryOp {
        left: Box::new(side(&low, &high)),
        op: BinaryOperator::Or,
        right: Box::new(side(&high, &low)),
    };
    Ok(if negated {
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: Box::new(either),
        }
    } else {
        either
    })
}

fn in_list(p: &mut Parser<'_>, left: Expr, negated: bool) -> Parse<Expr> {
    let expr_box = Box::new(left);
    p.parens(|p| {
        if starts_query(p) {
            return Ok(Expr::InSubquery {
                expr: expr_box,
                subquery: query(p)?,
                negated,
            });
        }
        Ok(Expr::InList {
            expr: expr_box,
            list: p.commas(expr)?,
            negated,
        })
    })
}

/// LIKE, ILIKE, SIMILAR TO with their ESCAPE, as the operators that they stand for.
fn matching(
    p: &mut Parser<'_>,
    left: Expr,
    word: &str,
    position: usize,
    negated: bool,
) -> Parse<Expr> {
    p.advance_token();
    let name = match (word, negated) {
        ("like", false) => "~~",
        ("like", true) => "!~~",
        ("ilike", false) => "~~*",
        ("ilike", true) => "!~~*",
        (_, negated) => {
            p.need(&["to"])?;
            if negated { "!~" } else { "~" }
        }
    };
    if word != "similar"
        && let Some(q) = quantified(p, &left, name, position)?
    {
        return Ok(q);
    }
    let pattern = subexpr(p, power::BETWEEN, false)?;
    let span = p.peek_token_ref().span;
    let escape = if p.eat(&["escape"]) {
        Some(subexpr(p, power::BETWEEN, false)?)
    } else {
        None
    };
    let pattern = match (word, escape) {
        ("similar", None) => system_call("similar_to_escape", span, vec![pattern]),
        ("similar", Some(e)) => system_call("similar_to_escape", span, vec![pattern, e]),
        (_, None) => pattern,
        (_, Some(e)) => system_call("like_escape", span, vec![pattern, e]),
    };
    Ok(binary(left, name, position, pattern))
}

fn prefix(p: &mut Parser<'_>, narrow: bool) -> Parse<Expr> {
    let token = p.peek_token_ref().clone();
    let prefixed = |name: &str, value: Expr| Expr::Prefixed {
        prefix: Ident {
            value: name.to_owned(),
            quote_style: None,
            span: token.span,
        },
        value: Box::new(value),
    };
    match &token.token {
        Token::Minus => {
            p.advance_token();
            let value = subexpr(p, power::UNARY_MINUS, narrow)?;
            if let Expr::Value(ValueWithSpan {
                value: Value::Number(n, l),
                span,
            }) = &value
            {
                let negated = match n.strip_prefix('-') {
                    Some(rest) => rest.to_owned(),
                    None => format!("-{n}"),
                };
                return Ok(Expr::Value(ValueWithSpan {
                    value: Value::Number(negated, *l),
                    span: token.span.union(span),
                }));
            }
            Ok(prefixed("-", value))
        }
        Token::Plus => {
            p.advance_token();
            let value = subexpr(p, power::UNARY_MINUS, narrow)?;
            Ok(prefixed("+", value))
        }
        Token::CustomBinaryOperator(name) => {
            p.advance_token();
            let value = subexpr(p, power::OPERATOR, narrow)?;
            Ok(prefixed(name, value))
        }
        Token::Word(w) if w.quote_style.is_none() && !narrow && w.value == "not" => {
            p.advance_token();
            let value = subexpr(p, power::NOT, false)?;
            Ok(Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: Box::new(value),
            })
        }
        Token::Word(w)
            if w.quote_style.is_none()
                && w.value == "operator"
                && matches!(p.ahead(1), Token::LParen) =>
        {
            let name = operator_name(p)?;
            let value = subexpr(p, power::OPERATOR, narrow)?;
            Ok(prefixed(&name, value))
        }
        _ => {
            let primary = primary(p)?;
            postfix(p, primary)
        }
    }
}
