//! Bounds on how deep a statement may nest, checked on its tokens before anything recurses.
//!
//! Invariant: a syntax tree that leaves this module's callers is at most [`DEPTH_MAX`] levels deep,
//! except for chains of AND / OR, which may be [`CHAIN_MAX`] long and are only walked by loops or on
//! a large stack.

use sqlparser::tokenizer::Token;

use super::lexer::Lexed;
use crate::error::{SqlError, SqlState};

/// Nesting of parentheses, operators, CASE, subqueries.
const DEPTH_MAX: usize = 1_000;
/// Length of a chain of AND / OR.
const CHAIN_MAX: usize = 20_000;
/// Stack for walking a tree.
const STACK_BYTES: usize = 64 << 20;
/// Stack that must be left before a step of a recursion.
const RED_ZONE_BYTES: usize = 256 << 10;

/// Runs something that recurses over a syntax tree of any allowed depth.
pub fn with_stack<R>(f: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(RED_ZONE_BYTES, STACK_BYTES, f)
}

/// PostgreSQL's error for a statement that nests too deep.
pub fn too_deep() -> SqlError {
    SqlError::new(
        SqlState::STATEMENT_TOO_COMPLEX,
        "stack depth limit exceeded",
    )
    .with_hint("Write the expression with fewer levels of nesting.")
}

#[derive(Clone, Copy, Default)]
struct Level {
    operators: usize,
    chain: usize,
    /// CASE that is open, JOINs and set operations seen: they do not end at a comma.
    cases: usize,
}

/// Fails for a statement that nests deeper than the bounds.
pub(crate) fn check(tokens: &[Lexed]) -> Result<(), SqlError> {
    let mut stack: Vec<Level> = vec![Level::default()];
    let mut below = 0usize;
    for lexed in tokens {
        let depth = stack.len();
        let Some(top) = stack.last_mut() else { break };
        match &lexed.token.token {
            Token::LParen | Token::LBracket => {
                below += top.operators + top.cases;
                stack.push(Level::default());
            }
            Token::RParen | Token::RBracket => {
                if stack.len() > 1 {
                    stack.pop();
                    if let Some(top) = stack.last_mut() {
                        below = below.saturating_sub(top.operators + top.cases);
                        if matches!(lexed.token.token, Token::RBracket) {
                            top.operators += 1;
                        }
                    }
                }
            }
            Token::Comma => {
                top.operators = 0;
                top.chain = 0;
            }
            Token::Word(w) if w.quote_style.is_none() => match w.value.as_str() {
                "and" | "or" => {
                    top.operators = 0;
                    top.chain += 1;
                }
                "select" | "from" | "where" | "values" | "set" | "when" | "then" | "else"
                | "having" => {
                    top.operators = 0;
                    top.chain = 0;
                }
                "case" | "join" | "union" | "except" | "intersect" => top.cases += 1,
                "end" => top.cases = top.cases.saturating_sub(1),
                "not" | "is" | "collate" | "at" | "like" | "ilike" | "in" | "between"
                | "isnull" | "notnull" => top.operators += 1,
                _ => {}
            },
            Token::Eq
            | Token::Neq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq
            | Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::Mod
            | Token::Caret
            | Token::DoubleColon
            | Token::CustomBinaryOperator(_) => top.operators += 1,
            _ => {}
        }
        let (operators, cases, chain) = stack
            .last()
            .map_or((0, 0, 0), |l| (l.operators, l.cases, l.chain));
        if depth + below + operators + cases > DEPTH_MAX || chain > CHAIN_MAX {
            return Err(too_deep());
        }
    }
    Ok(())
}
