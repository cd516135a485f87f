//! Bound expressions as text, in the form in which PostgreSQL's pg_get_expr prints them.
//!
//! A cast that nobody wrote is shown where PostgreSQL shows it: in the operands of operators and
//! the arguments of calls, so that binding the text again finds the same operator whatever casts
//! there are then; not at the top, nor where a boolean is wanted.

use super::tree::{CastKind, ColId, Expr};
use crate::error::SqlError;
use crate::parse::keywords;
use crate::types::registry::{EvalContext, Function, registry};
use crate::types::{Datum, Oid, PgType, format_type, io};

/// An identifier, quoted if it must be.
pub fn identifier(name: &str) -> String {
    keywords::quoted(name).into_owned()
}

/// A string constant.
pub fn literal(text: &str) -> String {
    let escaped = text.replace('\'', "''");
    if escaped.contains('\\') {
        format!("E'{}'", escaped.replace('\\', "\\\\"))
    } else {
        format!("'{escaped}'")
    }
}

/// The text of an expression; `column` names its columns.
pub fn deparse(
    e: &Expr,
    column: &dyn Fn(ColId) -> String,
    cx: &dyn EvalContext,
) -> Result<String, SqlError> {
    crate::parse::depth::with_stack(|| Printer { column, cx }.print(e))
}

struct Printer<'a> {
    column: &'a dyn Fn(ColId) -> String,
    cx: &'a dyn EvalContext,
}

/// The operator that a function implements.
fn operator_of(function: &Function, args: &[Expr]) -> Option<&'static str> {
    registry()
        .operators()
        .find(|o| {
            std::ptr::eq(o.function, function) && (o.left == Oid::INVALID) == (args.len() == 1)
        })
        .map(|o| o.name)
}

impl Printer<'_> {
    fn list(&self, items: &[Expr], separator: &str) -> Result<String, SqlError> {
        let parts = items
            .iter()
            .map(|e| self.operand(e))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(parts.join(separator))
    }

    fn junction(&self, items: &[Expr], separator: &str) -> Result<String, SqlError> {
        let parts = items
            .iter()
            .map(|e| self.print(e))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(format!("({})", parts.join(separator)))
    }

    /// An expression with its cast, though nobody wrote it.
    fn operand(&self, e: &Expr) -> Result<String, SqlError> {
        match e {
            Expr::Cast { arg, kind, ty, .. } => self.cast(arg, kind, *ty, true),
            e => self.print(e),
        }
    }

    fn print(&self, e: &Expr) -> Result<String, SqlError> {
        Ok(match e {
            Expr::Const(datum, ty) => self.constant(datum, *ty)?,
            Expr::Param(i, _) => format!("${}", i + 1),
            Expr::Column(id, _) => (self.column)(*id),
            Expr::Call { function, args, .. } => self.call(function, args)?,
            Expr::Cast {
                arg,
                kind,
                ty,
                explicit,
            } => self.cast(arg, kind, *ty, *explicit)?,
            Expr::And(items) => self.junction(items, " AND ")?,
            Expr::Or(items) => self.junction(items, " OR ")?,
            Expr::Not(x) => format!("(NOT {})", self.print(x)?),
            Expr::IsNull { arg, negated } => {
                format!(
                    "({} IS {}NULL)",
                    self.operand(arg)?,
                    if *negated { "NOT " } else { "" }
                )
            }
            Expr::IsBool {
                arg,
                value,
                negated,
            } => format!(
                "({} IS {}{})",
                self.print(arg)?,
                if *negated { "NOT " } else { "" },
                match value {
                    Some(true) => "TRUE",
                    Some(false) => "FALSE",
                    None => "UNKNOWN",
                }
            ),
            Expr::IsDistinct {
                left,
                right,
                negated,
                ..
            } => format!(
                "({} IS {}DISTINCT FROM {})",
                self.operand(left)?,
                if *negated { "NOT " } else { "" },
                self.operand(right)?
            ),
            Expr::Case {
                whens, otherwise, ..
            } => {
                let mut out = String::from("CASE");
                for (c, r) in whens {
                    out.push_str(&format!(
                        " WHEN {} THEN {}",
                        self.print(c)?,
                        self.operand(r)?
                    ));
                }
                match otherwise {
                    Some(o) => out.push_str(&format!(" ELSE {}", self.operand(o)?)),
                    None => out.push_str(" ELSE NULL"),
                }
                out.push_str(" END");
                out
            }
            Expr::Coalesce(items, _) => format!("COALESCE({})", self.list(items, ", ")?),
            Expr::Extreme { args, greatest, .. } => {
                let name = if *greatest { "GREATEST" } else { "LEAST" };
                format!("{name}({})", self.list(args, ", ")?)
            }
            Expr::ArrayCompare {
                left,
                function,
                array,
                all,
                ..
            } => {
                let args = [(**left).clone(), (**left).clone()];
                let name = operator_of(function, &args)
                    .ok_or_else(|| SqlError::internal("an operator without a name"))?;
                let kind = if *all { "ALL" } else { "ANY" };
                format!(
                    "({} {name} {kind} ({}))",
                    self.operand(left)?,
                    self.operand(array)?
                )
            }
            Expr::Array { items, ty } if items.is_empty() => {
                format!("ARRAY[]::{}", format_type(*ty))
            }
            Expr::Array { items, .. } => format!("ARRAY[{}]", self.list(items, ", ")?),
            Expr::Subscript {
                array,
                bounds,
                slice,
                ..
            } => {
                let mut out = match **array {
                    Expr::Column(..) => self.print(array)?,
                    _ => format!("({})", self.print(array)?),
                };
                for (low, high) in bounds {
                    let print = |b: &Option<Expr>| match b {
                        Some(e) => self.print(e),
                        None => Ok(String::new()),
                    };
                    if *slice && (low.is_some() || high.is_none()) {
                        out.push_str(&format!("[{}:{}]", print(low)?, print(high)?));
                    } else {
                        out.push_str(&format!("[{}]", print(high)?));
                    }
                }
                out
            }
            Expr::Row(items) => format!("ROW({})", self.list(items, ", ")?),
            Expr::Field { record, index, .. } => {
                format!("({}).f{}", self.print(record)?, index + 1)
            }
            Expr::Subquery(_) => return Err(SqlError::unsupported("the text of a subquery")),
        })
    }

    fn call(&self, function: &Function, args: &[Expr]) -> Result<String, SqlError> {
        if (1..=2).contains(&args.len())
            && let Some(name) = operator_of(function, args)
        {
            return Ok(match args {
                [l, r] => format!("({} {name} {})", self.operand(l)?, self.operand(r)?),
                _ => format!("({name} {})", self.list(args, "")?),
            });
        }
        let name = identifier(function.name);
        // Words with a syntax of their own are functions only by their qualified name.
        let name = if name.starts_with('"') {
            format!("pg_catalog.{name}")
        } else {
            name
        };
        Ok(format!("{name}({})", self.list(args, ", ")?))
    }

    fn cast(
        &self,
        arg: &Expr,
        kind: &CastKind,
        ty: PgType,
        explicit: bool,
    ) -> Result<String, SqlError> {
        if !explicit {
            // Nobody wrote it; binding again adds it again.
            return self.print(arg);
        }
        let mut inner = arg;
        if matches!(kind, CastKind::Typmod)
            && let Expr::Cast {
                arg,
                explicit: true,
                ..
            } = inner
        {
            inner = arg;
        }
        let text = self.print(inner)?;
        if let Expr::Const(datum, from) = inner
            && from.oid == ty.oid
            && from.typmod < 0
            && !datum.is_null()
        {
            // A constant under its type modifier names the type once.
            let mut text = String::new();
            io::output(datum, *from, self.cx, &mut text);
            return Ok(format!("{}::{}", literal(&text), format_type(ty)));
        }
        let ty = format_type(ty);
        Ok(match inner {
            Expr::Const(Datum::Text(s), t) if t.oid == Oid::UNKNOWN => {
                format!("{}::{ty}", literal(s))
            }
            Expr::Const(Datum::Null, _) => format!("NULL::{ty}"),
            _ => format!("({text})::{ty}"),
        })
    }

    fn constant(&self, datum: &Datum, ty: PgType) -> Result<String, SqlError> {
        let name = format_type(ty);
        if datum.is_null() {
            return Ok(if ty.oid == Oid::UNKNOWN {
                "NULL".into()
            } else {
                format!("NULL::{name}")
            });
        }
        let mut text = String::new();
        io::output(datum, ty, self.cx, &mut text);
        Ok(match ty.oid {
            Oid::BOOL => (if text == "t" { "true" } else { "false" }).to_owned(),
            Oid::INT4 if !text.starts_with('-') => text,
            Oid::NUMERIC
                if text.starts_with(|c: char| c.is_ascii_digit())
                    && text.contains(['.', 'e', 'E']) =>
            {
                text
            }
            Oid::UNKNOWN => literal(&text),
            _ => format!("{}::{name}", literal(&text)),
        })
    }
}
