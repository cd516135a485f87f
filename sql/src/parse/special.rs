//! Expressions that start with a keyword of their own: constants, CASE, CAST, EXISTS, and the
//! functions that SQL gives a syntax of their own (`func_expr_common_subexpr` of gram.y).

use sqlparser::ast::{
    CastKind, Expr, Function, FunctionArguments, Ident, ObjectName, ObjectNamePart, Value,
    ValueWithSpan,
};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Span, Token};

use super::cursor::{Cursor, Parse, raise};
use super::expr::{b_expr, expr, string_value, system_call};
use super::primary::{array, call, case};
use super::query::query;
use super::type_name::type_name;
use crate::error::SqlError;

fn named(word: &str, span: Span) -> ObjectName {
    ObjectName(vec![ObjectNamePart::Identifier(Ident {
        value: word.to_owned(),
        quote_style: None,
        span,
    })])
}

fn bare_function(word: &str, span: Span, args: FunctionArguments) -> Expr {
    Expr::Function(Function {
        name: named(word, span),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args,
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// The expression that this word starts, if it starts one; else nothing is taken.
pub(crate) fn word(p: &mut Parser<'_>, word: &str, span: Span) -> Parse<Option<Expr>> {
    let value = |value: Value| Some(Expr::Value(ValueWithSpan { value, span }));
    let paren = matches!(p.ahead(1), Token::LParen);
    Ok(match word {
        "null" => {
            p.advance_token();
            value(Value::Null)
        }
        "true" | "false" => {
            let truth = word == "true";
            p.advance_token();
            value(Value::Boolean(truth))
        }
        "default" => {
            p.advance_token();
            Some(Expr::Identifier(Ident {
                value: "default".into(),
                quote_style: None,
                span,
            }))
        }
        "case" => Some(case(p)?),
        "cast" => {
            p.advance_token();
            Some(p.parens(|p| {
                let e = expr(p)?;
                p.need(&["as"])?;
                let data_type = type_name(p)?;
                Ok(Expr::Cast {
                    kind: CastKind::Cast,
                    expr: Box::new(e),
                    data_type,
                    array: false,
                    format: None,
                })
            })?)
        }
        "exists" if paren => {
            p.advance_token();
            let subquery = p.parens(query)?;
            Some(Expr::Exists {
                subquery,
                negated: false,
            })
        }
        "array" if matches!(p.ahead(1), Token::LBracket) => {
            p.advance_token();
            Some(array(p, true)?)
        }
        "array" if paren => {
            p.advance_token();
            let q = p.parens(query)?;
            Some(bare_function("array", span, FunctionArguments::Subquery(q)))
        }
        "row" if paren => {
            p.advance_token();
            let values = p.parens(|p| {
                if matches!(p.peek_token_ref().token, Token::RParen) {
                    return Ok(Vec::new());
                }
                p.commas(expr)
            })?;
            Some(Expr::Struct {
                values,
                fields: Vec::new(),
            })
        }
        "coalesce" | "nullif" | "greatest" | "least" | "grouping" if paren => {
            let name = named(word, span);
            p.advance_token();
            Some(Expr::Function(call(p, name)?))
        }
        "current_date" | "current_user" | "session_user" | "user" | "current_role"
        | "current_catalog" => {
            p.advance_token();
            Some(bare_function(word, span, FunctionArguments::None))
        }
        "current_schema" if !paren => {
            p.advance_token();
            Some(bare_function(word, span, FunctionArguments::None))
        }
        "current_timestamp" | "current_time" | "localtime" | "localtimestamp" => {
            p.advance_token();
            if paren {
                Some(Expr::Function(call(p, named(word, span))?))
            } else {
                Some(bare_function(word, span, FunctionArguments::None))
            }
        }
        "extract" if paren => {
            p.advance_token();
            let args = p.parens(|p| {
                let token = p.peek_token_ref().clone();
                let field = match &token.token {
                    Token::Word(w) => w.value.clone(),
                    Token::SingleQuotedString(s) => s.clone(),
                    _ => return p.unexpected(),
                };
                p.advance_token();
                p.need(&["from"])?;
                Ok(vec![string_value(&field, token.span), expr(p)?])
            })?;
            Some(system_call("extract", span, args))
        }
        "position" if paren => {
            p.advance_token();
            let args = p.parens(|p| {
                let what = b_expr(p)?;
                p.need(&["in"])?;
                let text = b_expr(p)?;
                Ok(vec![text, what])
            })?;
            Some(system_call("position", span, args))
        }
        "substring" if paren => {
            p.advance_token();
            Some(substring(p, span)?)
        }
        "overlay" if paren => {
            p.advance_token();
            let args = p.parens(|p| {
                let mut args = vec![expr(p)?];
                if p.eat(&["placing"]) {
                    args.push(expr(p)?);
                    p.need(&["from"])?;
                    args.push(expr(p)?);
                    if p.eat(&["for"]) {
                        args.push(expr(p)?);
                    }
                } else {
                    while p.consume_token(&Token::Comma) {
                        args.push(expr(p)?);
                    }
                }
                Ok(args)
            })?;
            Some(system_call("overlay", span, args))
        }
        "trim" if paren => {
            p.advance_token();
            Some(trim(p, span)?)
        }
        "normalize" | "treat" | "xmlconcat" | "xmlelement" | "xmlexists" | "xmlforest"
        | "xmlparse" | "xmlpi" | "xmlroot" | "xmlserialize"
            if paren =>
        {
            let what = word.to_uppercase();
            return Err(raise(
                &SqlError::unsupported(what).at(span.start.line as usize),
            ));
        }
        "collation" if matches!(p.ahead(1), Token::Word(w) if w.value == "for") => {
            return Err(raise(
                &SqlError::unsupported("COLLATION FOR").at(span.start.line as usize),
            ));
        }
        _ => None,
    })
}

fn substring(p: &mut Parser<'_>, span: Span) -> Parse<Expr> {
    p.parens(|p| {
        if matches!(p.peek_token_ref().token, Token::RParen) {
            return Ok(system_call("substring", span, Vec::new()));
        }
        let mut args = vec![expr(p)?];
        if p.eat(&["similar"]) {
            args.push(expr(p)?);
            p.need(&["escape"])?;
            args.push(expr(p)?);
            return Ok(system_call("substring", span, args));
        }
        if p.eat(&["from"]) {
            args.push(expr(p)?);
            if p.eat(&["for"]) {
                args.push(expr(p)?);
            }
        } else if p.eat(&["for"]) {
            let length = expr(p)?;
            args.push(Expr::Value(ValueWithSpan {
                value: Value::Number("1".into(), false),
                span,
            }));
            if p.eat(&["from"]) {
                args.pop();
                args.push(expr(p)?);
            }
            args.push(length);
        } else {
            while p.consume_token(&Token::Comma) {
                args.push(expr(p)?);
            }
        }
        Ok(system_call("substring", span, args))
    })
}

fn trim(p: &mut Parser<'_>, span: Span) -> Parse<Expr> {
    p.parens(|p| {
        let name = match p.word() {
            Some("leading") => "ltrim",
            Some("trailing") => "rtrim",
            _ => "btrim",
        };
        if matches!(p.word(), Some("leading" | "trailing" | "both")) {
            p.advance_token();
        }
        if p.eat(&["from"]) {
            return Ok(system_call(name, span, p.commas(expr)?));
        }
        let first = expr(p)?;
        let args = if p.eat(&["from"]) {
            let mut args = p.commas(expr)?;
            args.push(first);
            args
        } else {
            let mut args = vec![first];
            while p.consume_token(&Token::Comma) {
                args.push(expr(p)?);
            }
            args
        };
        Ok(system_call(name, span, args))
    })
}
