//! Which operator or function a name with arguments means, by the rules of PostgreSQL's
//! parse_oper.c and parse_func.c.

use std::sync::Arc;

use super::coerce::{Context, array_of, category, element_of, is_polymorphic, preferred};
use super::context::Binder;
use super::tree::Expr;
use crate::error::{SqlError, SqlState};
use crate::types::registry::{Function, FunctionBody, Operator, Volatility, registry};
use crate::types::{Datum, Oid, PgType, format_type};

/// A function that was found, with how the arguments match it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) function: &'static Function,
    /// The declared types, variadic ones spread to the number of arguments.
    pub(crate) declared: Vec<Oid>,
    /// The arguments end in a spread VARIADIC.
    pub(crate) spread: bool,
}

/// What a call means.
pub(crate) enum Meaning {
    Function(Found),
    /// `type(x)`: a cast.
    Cast(Oid),
}

fn names(types: &[Oid]) -> String {
    types
        .iter()
        .map(|t| format_type(PgType::new(*t)))
        .collect::<Vec<_>>()
        .join(", ")
}

impl Binder<'_> {
    /// The candidates that survive func_select_candidate; exactly one is a decision.
    fn best_candidate<T: Clone>(
        &self,
        types: &[Oid],
        mut candidates: Vec<T>,
        declared: impl Fn(&T) -> Vec<Oid>,
    ) -> Option<T> {
        if candidates.len() <= 1 {
            return candidates.pop();
        }
        let keep_best = |candidates: Vec<T>, score: &dyn Fn(&T) -> usize| -> Vec<T> {
            let best = candidates.iter().map(score).max().unwrap_or(0);
            candidates
                .into_iter()
                .filter(|c| score(c) == best)
                .collect()
        };
        // Most exact matches of known types.
        candidates = keep_best(candidates, &|c| {
            let d = declared(c);
            types
                .iter()
                .zip(&d)
                .filter(|(t, d)| **t != Oid::UNKNOWN && t == d)
                .count()
        });
        if candidates.len() == 1 {
            return candidates.pop();
        }
        // Most exact matches or preferred types where a conversion is needed.
        candidates = keep_best(candidates, &|c| {
            let d = declared(c);
            types
                .iter()
                .zip(&d)
                .filter(|(t, d)| {
                    **t != Oid::UNKNOWN
                        && (t == d || (category(**t) == category(**d) && preferred(**d)))
                })
                .count()
        });
        if candidates.len() == 1 {
            return candidates.pop();
        }
        let unknowns = types.iter().filter(|t| **t == Oid::UNKNOWN).count();
        if unknowns == 0 {
            return None;
        }
        // A category for each unknown argument.
        let mut slots: Vec<Option<(char, bool)>> = vec![None; types.len()];
        let mut resolved = true;
        for (i, t) in types.iter().enumerate() {
            if *t != Oid::UNKNOWN {
                continue;
            }
            let mut slot: Option<(char, bool)> = None;
            let mut conflict = false;
            for c in &candidates {
                let d = declared(c);
                let Some(d) = d.get(i) else { continue };
                let (cat, pref) = (category(*d), preferred(*d));
                match slot {
                    None => slot = Some((cat, pref)),
                    Some((s, p)) if s == cat => slot = Some((s, p || pref)),
                    Some((_, _)) if cat == 'S' => {
                        slot = Some((cat, pref));
                        conflict = false;
                    }
                    Some(('S', _)) => {}
                    Some(_) => conflict = true,
                }
            }
            if conflict && slot.is_none_or(|s| s.0 != 'S') {
                resolved = false;
                break;
            }
            if let Some(s) = slots.get_mut(i) {
                *s = slot;
            }
        }
        if resolved {
            let fitting: Vec<T> = candidates
                .iter()
                .filter(|c| {
                    let d = declared(c);
                    slots.iter().zip(&d).all(|(slot, d)| match slot {
                        None => true,
                        Some((cat, pref)) => category(*d) == *cat && (!*pref || preferred(*d)),
                    })
                })
                .cloned()
                .collect();
            if !fitting.is_empty() {
                candidates = fitting;
            }
            if candidates.len() == 1 {
                return candidates.pop();
            }
        }
        // All known arguments of one type: assume that the unknown ones have it too.
        if unknowns < types.len() {
            let mut known = types.iter().filter(|t| **t != Oid::UNKNOWN);
            let first = known.next().copied()?;
            if known.all(|t| *t == first) {
                let mut fitting: Vec<T> = candidates
                    .into_iter()
                    .filter(|c| {
                        let d = declared(c);
                        d.iter()
                            .all(|d| self.can_coerce(first, *d, Context::Implicit))
                            && self.consistent(&d, &vec![first; d.len()])
                    })
                    .collect();
                if fitting.len() == 1 {
                    return fitting.pop();
                }
            }
        }
        None
    }

    /// The operator, `None` if there is none for these types.
    pub(crate) fn find_operator(
        &self,
        name: &str,
        left: Oid,
        right: Oid,
    ) -> Result<Option<&'static Operator>, SqlError> {
        let prefix = left == Oid::INVALID;
        let all: Vec<&'static Operator> = registry()
            .operators_named(name)
            .iter()
            .copied()
            .filter(|o| (o.left == Oid::INVALID) == prefix)
            .collect();
        let exact = |l: Oid, r: Oid| all.iter().find(|o| o.left == l && o.right == r).copied();
        let (mut l, mut r) = (left, right);
        if l == Oid::UNKNOWN && r != Oid::UNKNOWN {
            l = r;
        } else if r == Oid::UNKNOWN && l != Oid::UNKNOWN && !prefix {
            r = l;
        }
        if let Some(found) = exact(left, right).or_else(|| exact(l, r)) {
            return Ok(Some(found));
        }
        let types: Vec<Oid> = if prefix {
            vec![right]
        } else {
            vec![left, right]
        };
        let declared = |o: &&'static Operator| {
            if prefix {
                vec![o.right]
            } else {
                vec![o.left, o.right]
            }
        };
        let fitting: Vec<&'static Operator> = all
            .iter()
            .copied()
            .filter(|o| {
                let d = declared(o);
                types
                    .iter()
                    .zip(&d)
                    .all(|(t, d)| self.can_coerce(*t, *d, Context::Implicit))
                    && self.consistent(&d, &types)
            })
            .collect();
        if fitting.is_empty() {
            return Ok(None);
        }
        match self.best_candidate(&types, fitting, declared) {
            Some(o) => Ok(Some(o)),
            None => Err(SqlError::new(
                SqlState::AMBIGUOUS_FUNCTION,
                format!(
                    "operator is not unique: {}",
                    operator_text(name, left, right)
                ),
            )
            .with_hint(
                "Could not choose a best candidate operator. You might need to add explicit type \
                 casts.",
            )),
        }
    }

    /// The operator; 42883 if there is none.
    pub(crate) fn operator(
        &self,
        name: &str,
        left: Oid,
        right: Oid,
        position: usize,
    ) -> Result<&'static Operator, SqlError> {
        match self
            .find_operator(name, left, right)
            .map_err(|e| e.at(position))?
        {
            Some(o) => Ok(o),
            None => Err(no_operator(name, left, right, position)),
        }
    }

    /// Whether polymorphic declared types can be satisfied by these actual ones.
    fn consistent(&self, declared: &[Oid], actual: &[Oid]) -> bool {
        declared.iter().all(|d| !is_polymorphic(*d))
            || self.polymorphic(declared, actual, Oid::VOID).is_some()
    }

    /// Resolves polymorphic types: the types of the arguments and of the result.
    pub(crate) fn polymorphic(
        &self,
        declared: &[Oid],
        actual: &[Oid],
        result: Oid,
    ) -> Option<(Vec<Oid>, Oid)> {
        let mut element: Option<Oid> = None;
        let mut array: Option<Oid> = None;
        let mut common: Vec<Oid> = Vec::new();
        let any_common = declared.iter().any(|d| {
            matches!(
                *d,
                Oid::ANYCOMPATIBLE | Oid::ANYCOMPATIBLEARRAY | Oid::ANYCOMPATIBLENONARRAY
            )
        });
        for (d, a) in declared.iter().zip(actual) {
            if *a == Oid::UNKNOWN {
                continue;
            }
            match *d {
                Oid::ANYELEMENT | Oid::ANYNONARRAY | Oid::ANYENUM => match element {
                    None => element = Some(*a),
                    Some(e) if e == *a => {}
                    Some(_) => return None,
                },
                Oid::ANYARRAY => match array {
                    None => array = Some(*a),
                    Some(x) if x == *a => {}
                    Some(_) => return None,
                },
                Oid::ANYCOMPATIBLE | Oid::ANYCOMPATIBLENONARRAY => common.push(*a),
                Oid::ANYCOMPATIBLEARRAY => common.push(element_of(*a)?),
                _ => {}
            }
        }
        if let Some(a) = array {
            let e = if a == Oid::ANYARRAY {
                Oid::ANYELEMENT
            } else {
                element_of(a)?
            };
            match element {
                None => element = Some(e),
                Some(x) if x == e => {}
                Some(_) => return None,
            }
        }
        let common = if any_common {
            Some(if common.is_empty() {
                Oid::TEXT
            } else {
                self.try_common_type(&common).ok()?
            })
        } else {
            None
        };
        // Only unknown arguments: text, as PostgreSQL has it since 13 for anyelement it fails.
        let substitute = |d: Oid| -> Option<Oid> {
            Some(match d {
                Oid::ANYELEMENT | Oid::ANYNONARRAY | Oid::ANYENUM => element?,
                Oid::ANYARRAY => match array {
                    Some(a) => a,
                    None => array_of(element?)?,
                },
                Oid::ANYCOMPATIBLE | Oid::ANYCOMPATIBLENONARRAY => common?,
                Oid::ANYCOMPATIBLEARRAY => array_of(common?)?,
                other => other,
            })
        };
        let args = declared
            .iter()
            .map(|d| substitute(*d))
            .collect::<Option<Vec<_>>>();
        match args {
            Some(args) => Some((args, substitute(result)?)),
            // Checked again once more is known.
            None if result == Oid::VOID => Some((declared.to_vec(), result)),
            None => None,
        }
    }

    /// The functions of that name that take these arguments, one entry each.
    fn candidates(
        functions: &[&'static Function],
        nargs: usize,
        expanded_variadic: bool,
    ) -> Vec<Found> {
        let mut out = Vec::new();
        for function in functions.iter().copied() {
            let fixed = function.args.len();
            if let Some(element) = function.variadic {
                if expanded_variadic {
                    // VARIADIC array: one argument of the array type.
                    if nargs == fixed + 1 {
                        let array = match element {
                            Oid::ANY => Oid::ANY,
                            Oid::ANYELEMENT => Oid::ANYARRAY,
                            Oid::ANYCOMPATIBLE => Oid::ANYCOMPATIBLEARRAY,
                            e => array_of(e).unwrap_or(Oid::ANYARRAY),
                        };
                        let mut declared = function.args.to_vec();
                        declared.push(array);
                        out.push(Found {
                            function,
                            declared,
                            spread: false,
                        });
                    }
                } else if nargs > fixed || (nargs == fixed && function.defaults > 0) {
                    let mut declared = function.args.to_vec();
                    declared.resize(nargs, element);
                    out.push(Found {
                        function,
                        declared,
                        spread: true,
                    });
                }
                continue;
            }
            let least = fixed.saturating_sub(usize::from(function.defaults));
            if !expanded_variadic && (least..=fixed).contains(&nargs) {
                let declared = function.args.iter().take(nargs).copied().collect();
                out.push(Found {
                    function,
                    declared,
                    spread: false,
                });
            }
        }
        // A function with exactly these arguments hides a spread variadic one.
        let plain: Vec<Vec<Oid>> = out
            .iter()
            .filter(|f| !f.spread)
            .map(|f| f.declared.clone())
            .collect();
        out.retain(|f| !f.spread || !plain.contains(&f.declared));
        out
    }

    /// What `name(args)` means.
    pub(crate) fn function(
        &self,
        name: &str,
        types: &[Oid],
        variadic: bool,
        position: usize,
    ) -> Result<Meaning, SqlError> {
        let functions = registry().functions_named(name);
        let all = Self::candidates(functions, types.len(), variadic);
        if let Some(exact) = all.iter().find(|f| f.declared == types) {
            return Ok(Meaning::Function(exact.clone()));
        }
        // `type(x)` of an unknown literal or a type that the cast only relabels or prints.
        if let ([one], false) = (types, variadic)
            && let Some(target) = cast_type(name)
        {
            let text_form =
                (category(*one) == 'S' || *one == Oid::UNKNOWN) || category(target) == 'S';
            let relabel = registry().cast(*one, target).is_some_and(|c| {
                !matches!(c.method, crate::types::registry::CastMethod::Function(_))
            });
            if *one == Oid::UNKNOWN
                || relabel
                || (text_form && registry().cast(*one, target).is_none() && *one != target)
            {
                let beaten = all.iter().any(|f| {
                    *one != Oid::UNKNOWN
                        && f.declared
                            .first()
                            .is_some_and(|d| self.can_coerce(*one, *d, Context::Implicit))
                });
                if !beaten {
                    return Ok(Meaning::Cast(target));
                }
            }
        }
        let fitting: Vec<Found> = all
            .iter()
            .filter(|f| {
                f.declared
                    .iter()
                    .zip(types)
                    .all(|(d, t)| self.can_coerce(*t, *d, Context::Implicit))
                    && self.consistent(&f.declared, types)
            })
            .cloned()
            .collect();
        if fitting.is_empty() {
            return Err(no_function(name, types, position));
        }
        match self.best_candidate(types, fitting, |f| f.declared.clone()) {
            Some(found) => Ok(Meaning::Function(found)),
            None => Err(SqlError::new(
                SqlState::AMBIGUOUS_FUNCTION,
                format!("function {name}({}) is not unique", names(types)),
            )
            .with_hint(
                "Could not choose a best candidate function. You might need to add explicit type \
                 casts.",
            )
            .at(position)),
        }
    }

    /// Brings arguments to what a found function takes; gives the result type.
    pub(crate) fn arguments(
        &mut self,
        name: &str,
        found: &Found,
        args: Vec<Expr>,
        positions: &[usize],
        position: usize,
    ) -> Result<(Vec<Expr>, PgType), SqlError> {
        let actual: Vec<Oid> = args.iter().map(|a| a.ty().oid).collect();
        let Some((targets, result)) =
            self.polymorphic(&found.declared, &actual, found.function.result)
        else {
            let unknown = actual.iter().all(|a| *a == Oid::UNKNOWN);
            return Err(if unknown {
                SqlError::new(
                    SqlState::DATATYPE_MISMATCH,
                    "could not determine polymorphic type because input has type unknown",
                )
                .at(position)
            } else {
                no_function(name, &actual, position)
            });
        };
        let mut out = Vec::with_capacity(args.len());
        for (i, (arg, target)) in args.into_iter().zip(&targets).enumerate() {
            let at = positions.get(i).copied().unwrap_or(position);
            let keep = *target == Oid::ANY || (*target == Oid::RECORD && arg.ty().oid == *target);
            let arg = if keep {
                self.settle_unknown(arg)?
            } else {
                self.coerce(arg, PgType::new(*target), Context::Implicit, at)?
            };
            out.push(arg);
        }
        Ok((out, PgType::new(result)))
    }

    /// Names and types of the fields of a set-returning function's rows.
    pub(crate) fn set_fields(
        &self,
        function: &Function,
        declared: &[(&'static str, Oid)],
        args: &[Expr],
    ) -> Arc<[(Arc<str>, PgType)]> {
        let actual: Vec<Oid> = args.iter().map(|a| a.ty().oid).collect();
        declared
            .iter()
            .map(|(name, ty)| {
                let resolved = if is_polymorphic(*ty) {
                    self.polymorphic(function.args, &actual, *ty)
                        .map_or(*ty, |(_, ty)| ty)
                } else {
                    *ty
                };
                (Arc::from(*name), PgType::new(resolved))
            })
            .collect()
    }

    /// `left op right`, or `op right` without a left side.
    pub(crate) fn apply_operator(
        &mut self,
        name: &str,
        left: Option<Expr>,
        right: Expr,
        positions: [usize; 3],
    ) -> Result<Expr, SqlError> {
        let [at, left_at, right_at] = positions;
        let l = left.as_ref().map_or(Oid::INVALID, |e| e.ty().oid);
        let r = right.ty().oid;
        let op = self.operator(name, l, r, at)?;
        let found = Found {
            function: op.function,
            declared: if left.is_some() {
                vec![op.left, op.right]
            } else {
                vec![op.right]
            },
            spread: false,
        };
        let (args, places) = match left {
            Some(left) => (vec![left, right], vec![left_at, right_at]),
            None => (vec![right], vec![right_at]),
        };
        let Ok((args, ty)) = self.arguments(name, &found, args.clone(), &places, at) else {
            // The error of a constant's input stands; a failed match is the operator's.
            return match self.arguments(name, &found, args, &places, at) {
                Err(e) if e.state == SqlState::UNDEFINED_FUNCTION => {
                    Err(no_operator(name, l, r, at))
                }
                other => other.map(|_| Expr::Const(Datum::Null, PgType::new(Oid::UNKNOWN))),
            };
        };
        Ok(self.make_call(op.function, args, ty, op.comparison))
    }

    /// A call node, computed now if that is possible and safe.
    pub(crate) fn make_call(
        &self,
        function: &'static Function,
        args: Vec<Expr>,
        ty: PgType,
        comparison: Option<crate::types::registry::Comparison>,
    ) -> Expr {
        if self.fold
            && let Some(done) = self.fold_call(function, &args)
        {
            return Expr::Const(done, ty);
        }
        Expr::Call {
            function,
            args,
            ty,
            comparison,
        }
    }

    /// The value of an immutable call of constants; `None` if it is none or fails.
    pub(crate) fn fold_call(&self, function: &Function, args: &[Expr]) -> Option<Datum> {
        let FunctionBody::Scalar { eval, .. } = &function.body else {
            return None;
        };
        if function.volatility != Volatility::Immutable {
            return None;
        }
        let mut values = Vec::with_capacity(args.len());
        for a in args {
            match a {
                Expr::Const(d, _) => values.push(d.clone()),
                _ => return None,
            }
        }
        if function.strict && values.iter().any(Datum::is_null) {
            return Some(Datum::Null);
        }
        eval(self.cx.eval, &values).ok()
    }

    /// `a op b` on values of any types, as bool.
    pub(crate) fn compare(
        &mut self,
        name: &str,
        left: Expr,
        right: Expr,
        position: usize,
    ) -> Result<Expr, SqlError> {
        self.apply_operator(name, Some(left), right, [position, position, position])
    }

    /// The function of an operator on two values of one type.
    pub(crate) fn type_operator(
        &self,
        name: &str,
        ty: Oid,
        position: usize,
    ) -> Result<&'static Operator, SqlError> {
        self.operator(name, ty, ty, position)
    }
}

/// The type that a function name stands for in `type(x)`.
fn cast_type(name: &str) -> Option<Oid> {
    registry()
        .types()
        .find(|t| t.name == name && t.kind != 'p')
        .map(|t| t.oid)
}

fn operator_text(name: &str, left: Oid, right: Oid) -> String {
    let r = format_type(PgType::new(right));
    if left == Oid::INVALID {
        format!("{name} {r}")
    } else {
        format!("{} {name} {r}", format_type(PgType::new(left)))
    }
}

fn no_operator(name: &str, left: Oid, right: Oid, position: usize) -> SqlError {
    SqlError::new(
        SqlState::UNDEFINED_FUNCTION,
        format!(
            "operator does not exist: {}",
            operator_text(name, left, right)
        ),
    )
    .with_hint(if left == Oid::INVALID {
        "No operator matches the given name and argument type. You might need to add an explicit \
         type cast."
    } else {
        "No operator matches the given name and argument types. You might need to add explicit \
         type casts."
    })
    .at(position)
}

/// `42883`
pub(crate) fn no_function(name: &str, types: &[Oid], position: usize) -> SqlError {
    SqlError::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("function {name}({}) does not exist", names(types)),
    )
    .with_hint(
        "No function matches the given name and argument types. You might need to add explicit \
         type casts.",
    )
    .at(position)
}
