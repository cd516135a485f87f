//! Functions in FROM: scalar ones give one row, set-returning ones many, `unnest` of several arrays
//! stands side by side.

use std::sync::Arc;

use sqlparser::ast::{
    Expr as Ast, FunctionArg, FunctionArgExpr, FunctionArgOperator, ObjectName, TableAlias,
};

use super::call::function_name;
use super::context::Binder;
use super::from::{Item, name_parts, named};
use super::names::{Level, NamedColumn};
use super::position_of;
use super::resolve::Meaning;
use super::tree::{Column, Expr, JoinKind, Rel};
use crate::error::SqlError;
use crate::types::registry::{FunctionBody, registry};
use crate::types::{Datum, Oid, PgType};

impl Binder<'_> {
    pub(super) fn scalar_item(
        &mut self,
        value: Expr,
        function: &str,
        ordinality: bool,
        alias: Option<&TableAlias>,
    ) -> Result<Item, SqlError> {
        let label = alias_name(alias).unwrap_or(function).to_owned();
        let column = self.new_column(label.as_str(), value.ty());
        let mut columns = vec![NamedColumn {
            name: Arc::clone(&column.name),
            expr: Expr::Column(column.id, column.ty),
            origin: None,
        }];
        let mut exprs = vec![(value, column)];
        if ordinality {
            let ty = PgType::new(Oid::INT8);
            let c = self.new_column("ordinality", ty);
            columns.push(NamedColumn {
                name: Arc::clone(&c.name),
                expr: Expr::Column(c.id, c.ty),
                origin: None,
            });
            exprs.push((Expr::Const(Datum::Int8(1), ty), c));
        }
        let ns = named(function.to_owned(), None, columns, alias, !ordinality)?;
        Ok((
            Rel::Project {
                input: Box::new(Rel::Unit),
                exprs,
            },
            ns,
        ))
    }

    pub(super) fn function_item(
        &mut self,
        name: &ObjectName,
        args: &[FunctionArg],
        ordinality: bool,
        alias: Option<&TableAlias>,
        outer: &Level<'_>,
    ) -> Result<Item, SqlError> {
        let (_, ident) = name_parts(name)?;
        let label = ident.value.clone();
        let (function_name, position) = function_name(name)?;
        let mut asts = Vec::new();
        for a in args {
            match a {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => asts.push(e),
                FunctionArg::Named {
                    name: _,
                    arg: FunctionArgExpr::Expr(_),
                    operator: FunctionArgOperator::Value,
                } => return Err(SqlError::unsupported("VARIADIC in FROM").at(position)),
                _ => return Err(SqlError::unsupported("a named argument").at(position)),
            }
        }
        if let Some(a) = alias
            && a.columns.iter().any(|c| c.data_type.is_some())
        {
            return Err(SqlError::unsupported("a column definition list").at(position));
        }
        if function_name == "unnest" && asts.len() > 1 {
            return self.unnest_all(&asts, ordinality, alias, outer, position);
        }
        let is_set = registry()
            .functions_named(&function_name)
            .iter()
            .any(|f| matches!(f.body, FunctionBody::Set { .. }));
        if !is_set {
            let call = Ast::Function(sqlparser::ast::Function {
                name: name.clone(),
                uses_odbc_syntax: false,
                parameters: sqlparser::ast::FunctionArguments::None,
                args: if asts.is_empty() && !args.is_empty() || is_keyword(&function_name) {
                    sqlparser::ast::FunctionArguments::None
                } else {
                    sqlparser::ast::FunctionArguments::List(sqlparser::ast::FunctionArgumentList {
                        duplicate_treatment: None,
                        args: args.to_vec(),
                        clauses: Vec::new(),
                    })
                },
                filter: None,
                null_treatment: None,
                over: None,
                within_group: Vec::new(),
            });
            let bound = self.expr(&call, outer)?;
            let bound = self.settle_unknown(bound)?;
            return self.scalar_item(bound, &label, ordinality, alias);
        }
        let positions: Vec<usize> = asts.iter().map(|e| position_of(e)).collect();
        let bound = self.bind_all(&asts, outer)?;
        let (rel, columns, scalar) = self.set_function(
            &function_name,
            bound,
            &positions,
            ordinality,
            alias,
            position,
        )?;
        let ns = named(label, None, columns, alias, scalar && !ordinality)?;
        Ok((rel, ns))
    }

    fn set_function(
        &mut self,
        name: &str,
        args: Vec<Expr>,
        positions: &[usize],
        ordinality: bool,
        alias: Option<&TableAlias>,
        position: usize,
    ) -> Result<(Rel, Vec<NamedColumn>, bool), SqlError> {
        let types: Vec<Oid> = args.iter().map(|a| a.ty().oid).collect();
        let Meaning::Function(found) = self.function(name, &types, false, position)? else {
            return Err(super::resolve::no_function(name, &types, position));
        };
        let (args, ty) = self.arguments(name, &found, args, positions, position)?;
        let FunctionBody::Set {
            columns: declared, ..
        } = &found.function.body
        else {
            return Err(SqlError::unsupported(format!("function {name} in FROM")).at(position));
        };
        let scalar = declared.len() <= 1;
        let columns: Vec<Column> = if scalar {
            let label = match declared {
                [(label, _)] => *label,
                _ => alias_name(alias).unwrap_or(name),
            };
            let ty = match declared {
                [(_, t)] if !super::coerce::is_polymorphic(*t) => PgType::new(*t),
                _ => ty,
            };
            vec![self.new_column(label, ty)]
        } else {
            let fields = self.set_fields(found.function, declared, &args);
            fields
                .iter()
                .map(|(n, t)| self.new_column(Arc::clone(n), *t))
                .collect()
        };
        let ordinality = ordinality.then(|| self.new_column("ordinality", PgType::new(Oid::INT8)));
        let shown = columns
            .iter()
            .chain(&ordinality)
            .map(|c| NamedColumn {
                name: Arc::clone(&c.name),
                expr: Expr::Column(c.id, c.ty),
                origin: None,
            })
            .collect();
        let rel = Rel::FunctionScan {
            function: found.function,
            args,
            columns,
            ordinality,
        };
        Ok((rel, shown, scalar))
    }

    /// `unnest(a, b, ...)`: side by side, the shorter ones filled up with NULL.
    fn unnest_all(
        &mut self,
        asts: &[&Ast],
        ordinality: bool,
        alias: Option<&TableAlias>,
        outer: &Level<'_>,
        position: usize,
    ) -> Result<Item, SqlError> {
        let mut acc: Option<(Rel, Vec<NamedColumn>, Expr)> = None;
        for e in asts {
            let bound = self.expr(e, outer)?;
            let (rel, mut columns, _) = self.set_function(
                "unnest",
                vec![bound],
                &[position_of(e)],
                true,
                None,
                position,
            )?;
            let Some(number) = columns.pop() else {
                return Err(SqlError::internal("unnest without ordinality"));
            };
            acc = Some(match acc {
                None => (rel, columns, number.expr),
                Some((left, mut all, n)) => {
                    let on = self.compare("=", n.clone(), number.expr.clone(), position)?;
                    all.extend(columns);
                    let ty = n.ty();
                    let rel = Rel::Join {
                        kind: JoinKind::Full,
                        left: Box::new(left),
                        right: Box::new(rel),
                        on: Some(on),
                        lateral: false,
                    };
                    (rel, all, Expr::Coalesce(vec![n, number.expr], ty))
                }
            });
        }
        let Some((rel, mut columns, number)) = acc else {
            return Err(SqlError::internal("unnest without arguments"));
        };
        if ordinality {
            columns.push(NamedColumn {
                name: "ordinality".into(),
                expr: number,
                origin: None,
            });
        }
        Ok((
            rel,
            named("unnest".to_owned(), None, columns, alias, false)?,
        ))
    }
}

fn is_keyword(name: &str) -> bool {
    matches!(
        name,
        "current_date"
            | "current_user"
            | "session_user"
            | "user"
            | "current_role"
            | "current_catalog"
            | "current_timestamp"
            | "localtimestamp"
    )
}

fn alias_name(alias: Option<&TableAlias>) -> Option<&str> {
    alias
        .map(|a| a.name.value.as_str())
        .filter(|n| !n.is_empty())
}
