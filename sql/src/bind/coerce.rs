//! Casts and common types, by the rules of PostgreSQL's parse_coerce.c.

use super::context::Binder;
use super::tree::{CastKind, Expr};
use crate::error::{SqlError, SqlState};
use crate::types::registry::{CastContext, CastMethod, registry};
use crate::types::{Datum, Oid, PgType, format_type, io, typmod};

/// When a cast is asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Context {
    Implicit,
    Assignment,
    Explicit,
}

impl Context {
    fn allows(self, cast: CastContext) -> bool {
        match cast {
            CastContext::Implicit => true,
            CastContext::Assignment => self >= Self::Assignment,
            CastContext::Explicit => self == Self::Explicit,
        }
    }
}

/// typcategory, `\0` for what the registry does not have.
pub(crate) fn category(oid: Oid) -> char {
    registry().type_info(oid).map_or('\0', |t| t.category)
}

/// typispreferred.
pub(crate) fn preferred(oid: Oid) -> bool {
    registry().type_info(oid).is_some_and(|t| t.preferred)
}

/// The element type of an array type.
pub(crate) fn element_of(array: Oid) -> Option<Oid> {
    registry()
        .type_info(array)
        .filter(|t| t.category == 'A' || t.element != Oid::INVALID && t.len == -1)
        .map(|t| t.element)
        .filter(|e| *e != Oid::INVALID)
}

/// The array type of a type.
pub(crate) fn array_of(element: Oid) -> Option<Oid> {
    registry()
        .type_info(element)
        .map(|t| t.array)
        .filter(|a| *a != Oid::INVALID)
}

/// Whether the type is a polymorphic pseudo-type.
pub(crate) fn is_polymorphic(oid: Oid) -> bool {
    matches!(
        oid,
        Oid::ANYELEMENT
            | Oid::ANYARRAY
            | Oid::ANYNONARRAY
            | Oid::ANYENUM
            | Oid::ANYCOMPATIBLE
            | Oid::ANYCOMPATIBLEARRAY
            | Oid::ANYCOMPATIBLENONARRAY
    )
}

/// How a value of one type becomes one of another, if the context allows it.
fn pathway(from: Oid, to: Oid, context: Context) -> Option<CastKind> {
    if from == to {
        return Some(CastKind::Binary);
    }
    if let Some(cast) = registry().cast(from, to) {
        if !context.allows(cast.context) {
            return None;
        }
        return Some(match cast.method {
            CastMethod::Function(f) => CastKind::Function(f),
            CastMethod::Binary => CastKind::Binary,
            CastMethod::InOut => CastKind::InOut,
        });
    }
    // Never to oidvector and int2vector, though they have elements too.
    if category(from) == 'A'
        && category(to) == 'A'
        && !matches!(to, Oid::OIDVECTOR | Oid::INT2VECTOR)
        && let (Some(f), Some(t)) = (element_of(from), element_of(to))
    {
        return pathway(f, t, context).map(|k| CastKind::Array(Box::new(k)));
    }
    // Text forms: to a string on assignment, from a string when written.
    if context >= Context::Assignment && category(to) == 'S' && known(from) {
        return Some(CastKind::InOut);
    }
    if context >= Context::Explicit && category(from) == 'S' && known(to) {
        return Some(CastKind::InOut);
    }
    None
}

fn known(oid: Oid) -> bool {
    oid == Oid::RECORD || registry().type_info(oid).is_some_and(|t| t.kind != 'p')
}

impl Binder<'_> {
    /// Whether a value of one type can become one of another.
    pub(crate) fn can_coerce(&self, from: Oid, to: Oid, context: Context) -> bool {
        from == to
            || to == Oid::ANY
            || from == Oid::UNKNOWN
            || (is_polymorphic(to) && fits_polymorphic(from, to))
            || (to == Oid::RECORD && from == Oid::RECORD)
            || (to == Oid::RECORD_ARRAY && from == Oid::RECORD_ARRAY)
            || pathway(from, to, context).is_some()
    }

    /// Brings an expression to a type; fails with 42846 where no cast exists.
    pub(crate) fn coerce(
        &mut self,
        e: Expr,
        target: PgType,
        context: Context,
        position: usize,
    ) -> Result<Expr, SqlError> {
        let from = e.ty();
        let explicit = context == Context::Explicit;
        let typed = match e {
            Expr::Const(datum, ty) if ty.oid == Oid::UNKNOWN => {
                return self.literal(datum, target, explicit, position);
            }
            Expr::Param(i, ty) if ty.oid == Oid::UNKNOWN && target.oid != Oid::UNKNOWN => {
                self.parameter_type(i, target.oid, position)?;
                Expr::Param(i, PgType::new(target.oid))
            }
            e if from.oid == target.oid => e,
            Expr::Array { items, .. } if items.is_empty() && category(target.oid) == 'A' => {
                Expr::Array {
                    items,
                    ty: PgType::new(target.oid),
                }
            }
            Expr::Row(items) if target.oid == Oid::RECORD => Expr::Row(items),
            e if from.oid == Oid::UNKNOWN => self.cast(e, CastKind::InOut, target.oid, explicit),
            e => {
                let Some(kind) = pathway(from.oid, target.oid, context) else {
                    return Err(cannot_cast(from.oid, target.oid, position));
                };
                self.cast(e, kind, target.oid, explicit)
            }
        };
        self.apply_typmod(typed, target, explicit)
    }

    /// Brings an expression to the type of the column that stores it.
    pub(crate) fn coerce_assign(
        &mut self,
        e: Expr,
        target: PgType,
        position: usize,
        column: Option<&str>,
    ) -> Result<Expr, SqlError> {
        let from = e.ty().oid;
        if !self.can_coerce(from, target.oid, Context::Assignment) {
            let message = match column {
                Some(c) => format!(
                    "column \"{c}\" is of type {} but expression is of type {}",
                    format_type(PgType::new(target.oid)),
                    format_type(PgType::new(from))
                ),
                None => format!(
                    "default expression is of type {}, not {}",
                    format_type(PgType::new(from)),
                    format_type(PgType::new(target.oid))
                ),
            };
            return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message)
                .with_hint("You will need to rewrite or cast the expression.")
                .at(position));
        }
        self.coerce(e, target, Context::Assignment, position)
    }

    fn apply_typmod(&mut self, e: Expr, target: PgType, explicit: bool) -> Result<Expr, SqlError> {
        if target.typmod < 0 || e.ty().typmod == target.typmod {
            return Ok(e);
        }
        if let (Expr::Const(datum, _), true) = (&e, self.fold)
            && let Ok(done) = typmod::apply(datum.clone(), target, explicit)
        {
            return Ok(Expr::Const(done, target));
        }
        Ok(Expr::Cast {
            arg: Box::new(e),
            kind: CastKind::Typmod,
            ty: target,
            explicit,
        })
    }

    /// A cast node, computed now if that is possible and safe.
    fn cast(&mut self, e: Expr, kind: CastKind, to: Oid, explicit: bool) -> Expr {
        let ty = PgType::new(to);
        if let (Expr::Const(datum, _), true) = (&e, self.fold) {
            if datum.is_null() {
                return Expr::Const(Datum::Null, ty);
            }
            match &kind {
                // The datum of the other type has the same form.
                CastKind::Binary if same_form(e.ty().oid, to) => {
                    return Expr::Const(datum.clone(), ty);
                }
                CastKind::Function(f) => {
                    if let Some(done) = self.fold_call(f, std::slice::from_ref(&e)) {
                        return Expr::Const(done, ty);
                    }
                }
                _ => {}
            }
        }
        if matches!(&kind, CastKind::Binary) && e.ty().oid == to {
            return e;
        }
        Expr::Cast {
            arg: Box::new(e),
            kind,
            ty,
            explicit,
        }
    }

    /// A literal without a type of its own becomes a constant of the target type.
    fn literal(
        &mut self,
        datum: Datum,
        target: PgType,
        explicit: bool,
        position: usize,
    ) -> Result<Expr, SqlError> {
        if target.oid == Oid::UNKNOWN || target.oid == Oid::ANY {
            return Ok(Expr::Const(datum, PgType::new(Oid::UNKNOWN)));
        }
        let Datum::Text(text) = &datum else {
            return Ok(Expr::Const(Datum::Null, target));
        };
        if is_polymorphic(target.oid) || registry().type_info(target.oid).is_none() {
            return Err(SqlError::unsupported(format!(
                "a constant of type {}",
                format_type(target)
            )));
        }
        // Only an interval is read with its modifier: it says what a bare number counts.
        let read_as = match target.oid {
            Oid::INTERVAL => target,
            oid => PgType::new(oid),
        };
        let value = io::input(text, read_as, self.cx.eval).map_err(|e| e.at(position))?;
        if target.typmod < 0 {
            return Ok(Expr::Const(value, target));
        }
        if !self.fold {
            // Text that is stored shows the modifier only if it was written.
            let value = Expr::Const(value, PgType::new(target.oid));
            return self.apply_typmod(value, target, explicit);
        }
        match typmod::apply(value.clone(), target, explicit) {
            Ok(done) => Ok(Expr::Const(done, target)),
            Err(_) => Ok(Expr::Cast {
                arg: Box::new(Expr::Const(value, PgType::new(target.oid))),
                kind: CastKind::Typmod,
                ty: target,
                explicit,
            }),
        }
    }

    fn parameter_type(&mut self, i: usize, ty: Oid, position: usize) -> Result<(), SqlError> {
        match self.params.get_mut(i) {
            Some(slot @ None) => {
                *slot = Some(ty);
                Ok(())
            }
            Some(Some(known)) if *known == ty => Ok(()),
            Some(Some(known)) => Err(SqlError::new(
                SqlState::AMBIGUOUS_PARAMETER,
                format!("inconsistent types deduced for parameter ${}", i + 1),
            )
            .with_detail(format!(
                "{} versus {}",
                format_type(PgType::new(*known)),
                format_type(PgType::new(ty))
            ))
            .at(position)),
            None => Ok(()),
        }
    }

    /// What is still without a type becomes text.
    pub(crate) fn settle_unknown(&mut self, e: Expr) -> Result<Expr, SqlError> {
        if e.ty().oid == Oid::UNKNOWN {
            return self.coerce(e, PgType::new(Oid::TEXT), Context::Implicit, 0);
        }
        Ok(e)
    }

    /// The type that all of them can take (select_common_type).
    pub(crate) fn common_type(
        &self,
        types: &[Oid],
        what: &str,
        position: usize,
    ) -> Result<Oid, SqlError> {
        self.try_common_type(types).map_err(|(a, b)| {
            SqlError::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "{what} types {} and {} cannot be matched",
                    format_type(PgType::new(a)),
                    format_type(PgType::new(b))
                ),
            )
            .at(position)
        })
    }

    /// The same; the two types that do not match on failure.
    pub(crate) fn try_common_type(&self, types: &[Oid]) -> Result<Oid, (Oid, Oid)> {
        let mut chosen = Oid::UNKNOWN;
        if let Some(first) = types.first()
            && *first != Oid::UNKNOWN
            && types.iter().all(|t| t == first)
        {
            return Ok(*first);
        }
        for &t in types {
            if t == Oid::UNKNOWN || t == chosen {
                continue;
            }
            if chosen == Oid::UNKNOWN {
                chosen = t;
            } else if category(t) != category(chosen) {
                return Err((chosen, t));
            } else if !preferred(chosen)
                && self.can_coerce(chosen, t, Context::Implicit)
                && !self.can_coerce(t, chosen, Context::Implicit)
            {
                chosen = t;
            }
        }
        if chosen == Oid::UNKNOWN {
            return Ok(Oid::TEXT);
        }
        match types
            .iter()
            .find(|t| !self.can_coerce(**t, chosen, Context::Implicit))
        {
            Some(bad) => Err((chosen, *bad)),
            None => Ok(chosen),
        }
    }

    /// The common modifier of expressions of one type.
    pub(crate) fn common_typmod(exprs: &[&Expr], ty: Oid) -> i32 {
        let mut out = None;
        for e in exprs {
            let t = e.ty();
            if t.oid != ty {
                return -1;
            }
            match out {
                None => out = Some(t.typmod),
                Some(m) if m == t.typmod => {}
                Some(_) => return -1,
            }
        }
        out.unwrap_or(-1)
    }

    /// Brings all of them to their common type.
    pub(crate) fn unify(
        &mut self,
        exprs: Vec<Expr>,
        what: &str,
        position: usize,
    ) -> Result<(Vec<Expr>, PgType), SqlError> {
        let types: Vec<Oid> = exprs.iter().map(|e| e.ty().oid).collect();
        let common = self.common_type(&types, what, position)?;
        let typmod = Self::common_typmod(&exprs.iter().collect::<Vec<_>>(), common);
        let mut out = Vec::with_capacity(exprs.len());
        for e in exprs {
            out.push(self.coerce(e, PgType::new(common), Context::Implicit, position)?);
        }
        Ok((out, PgType::with_typmod(common, typmod)))
    }
}

/// Whether datums of both types have the same variant.
fn same_form(a: Oid, b: Oid) -> bool {
    let form = |o: Oid| match o {
        Oid::TEXT | Oid::VARCHAR | Oid::NAME => 1,
        Oid::OID
        | Oid::REGCLASS
        | Oid::REGTYPE
        | Oid::REGPROC
        | Oid::REGNAMESPACE
        | Oid::REGROLE
        | Oid::REGPROCEDURE
        | Oid::REGOPER
        | Oid::REGOPERATOR => 2,
        _ => 0,
    };
    form(a) != 0 && form(a) == form(b)
}

fn fits_polymorphic(from: Oid, to: Oid) -> bool {
    match to {
        Oid::ANYARRAY | Oid::ANYCOMPATIBLEARRAY => element_of(from).is_some(),
        Oid::ANYNONARRAY | Oid::ANYCOMPATIBLENONARRAY => element_of(from).is_none(),
        Oid::ANYENUM => category(from) == 'E',
        _ => true,
    }
}

/// `42846`
pub(crate) fn cannot_cast(from: Oid, to: Oid, position: usize) -> SqlError {
    SqlError::new(
        SqlState::CANNOT_COERCE,
        format!(
            "cannot cast type {} to {}",
            format_type(PgType::new(from)),
            format_type(PgType::new(to))
        ),
    )
    .at(position)
}
