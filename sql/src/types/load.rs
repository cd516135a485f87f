//! Joins PostgreSQL's catalog rows (`rows/*.tsv`) with the bodies that exist here.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::oid::Oid;
use super::registry::{
    Cast, CastContext, CastMethod, Comparison, Function, FunctionBody, Operator, ScalarFn, SetBody,
    TypeInfo, VectorFn, Volatility,
};
use super::{aggregate, functions, json, text, vector};

/// The types, functions, operators and casts, with look-up by name and number.
pub struct Registry {
    types: HashMap<Oid, &'static TypeInfo>,
    ordered_types: Vec<&'static TypeInfo>,
    type_names: HashMap<&'static str, Oid>,
    functions: Vec<&'static Function>,
    by_name: HashMap<&'static str, Vec<&'static Function>>,
    by_oid: HashMap<Oid, &'static Function>,
    operators: Vec<&'static Operator>,
    operators_by_name: HashMap<&'static str, Vec<&'static Operator>>,
    casts: Vec<&'static Cast>,
    casts_by_types: HashMap<(Oid, Oid), &'static Cast>,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(load);

/// The one registry.
pub fn registry() -> &'static Registry {
    &REGISTRY
}

impl Registry {
    /// The row of pg_type.
    pub fn type_info(&self, oid: Oid) -> Option<&'static TypeInfo> {
        self.types.get(&oid).copied()
    }
    /// The type of a name: pg_type's or SQL's.
    pub fn type_named(&self, name: &str) -> Option<Oid> {
        self.type_names.get(name).copied()
    }
    /// The array type of an element type.
    pub fn array_of(&self, element: Oid) -> Option<Oid> {
        self.type_info(element)
            .map(|t| t.array)
            .filter(|a| *a != Oid::INVALID)
    }
    /// The element type of an array type.
    pub fn element_of(&self, array: Oid) -> Option<Oid> {
        self.type_info(array)
            .filter(|t| t.category == 'A')
            .map(|t| t.element)
    }
    /// All functions of a name.
    pub fn functions_named(&self, name: &str) -> &[&'static Function] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }
    /// The function of a number.
    pub fn function(&self, oid: Oid) -> Option<&'static Function> {
        self.by_oid.get(&oid).copied()
    }
    /// All operators of a name.
    pub fn operators_named(&self, name: &str) -> &[&'static Operator] {
        self.operators_by_name.get(name).map_or(&[], Vec::as_slice)
    }
    /// The cast between two types.
    pub fn cast(&self, source: Oid, target: Oid) -> Option<&'static Cast> {
        self.casts_by_types.get(&(source, target)).copied()
    }
    /// All types, by number.
    pub fn types(&self) -> impl Iterator<Item = &'static TypeInfo> + '_ {
        self.ordered_types.iter().copied()
    }
    /// All functions, by name.
    pub fn functions(&self) -> impl Iterator<Item = &'static Function> + '_ {
        self.functions.iter().copied()
    }
    /// All operators.
    pub fn operators(&self) -> impl Iterator<Item = &'static Operator> + '_ {
        self.operators.iter().copied()
    }
    /// All casts.
    pub fn casts(&self) -> impl Iterator<Item = &'static Cast> + '_ {
        self.casts.iter().copied()
    }
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Rows of a table of the source tree: the header and broken lines are left out.
fn rows<const N: usize>(tsv: &'static str) -> impl Iterator<Item = [&'static str; N]> {
    tsv.lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            fields.try_into().ok()
        })
}

fn number(text: &str) -> Oid {
    Oid(text.parse().unwrap_or(0))
}

fn letter(text: &str) -> char {
    text.chars().next().unwrap_or(' ')
}

/// SQL's names of types, beside those of pg_type and format_type.
const ALIASES: &[(&str, Oid)] = &[
    ("int", Oid::INT4),
    ("decimal", Oid::NUMERIC),
    ("dec", Oid::NUMERIC),
    ("float", Oid::FLOAT8),
    ("character", Oid::BPCHAR),
    ("char", Oid::BPCHAR),
    ("\"char\"", Oid::CHAR),
    ("string", Oid::TEXT),
    ("national character", Oid::BPCHAR),
    ("nchar", Oid::BPCHAR),
    ("char varying", Oid::VARCHAR),
    ("national character varying", Oid::VARCHAR),
    ("timestamp", Oid::TIMESTAMP),
    ("time", Oid::TIME),
];

fn load() -> Registry {
    let mut types = HashMap::new();
    let mut ordered_types = Vec::new();
    let mut type_names = HashMap::new();
    for [
        oid,
        name,
        sql_name,
        category,
        preferred,
        len,
        by_value,
        kind,
        element,
        array,
        delimiter,
        align,
    ] in rows(include_str!("rows/type.tsv"))
    {
        let info = leak(TypeInfo {
            oid: number(oid),
            name,
            sql_name,
            category: letter(category),
            preferred: preferred == "t",
            len: len.parse().unwrap_or(-1),
            by_value: by_value == "t",
            kind: letter(kind),
            element: number(element),
            array: number(array),
            delimiter: letter(delimiter),
            align: letter(align),
        });
        types.insert(info.oid, &*info);
        ordered_types.push(&*info);
        type_names.insert(info.name, info.oid);
        type_names.insert(info.sql_name, info.oid);
    }
    type_names.extend(ALIASES.iter().copied());
    let comparisons = comparison_functions();
    let functions = load_functions(&comparisons);
    let mut by_name: HashMap<&'static str, Vec<&'static Function>> = HashMap::new();
    for function in &functions {
        by_name.entry(function.name).or_default().push(*function);
    }
    let by_oid: HashMap<Oid, &'static Function> = functions.iter().map(|f| (f.oid, *f)).collect();
    let operators = load_operators(&by_oid);
    let mut operators_by_name: HashMap<&'static str, Vec<&'static Operator>> = HashMap::new();
    for operator in &operators {
        operators_by_name
            .entry(operator.name)
            .or_default()
            .push(*operator);
    }
    let casts = load_casts(&by_oid);
    let casts_by_types = casts.iter().map(|c| ((c.source, c.target), *c)).collect();
    Registry {
        types,
        ordered_types,
        type_names,
        functions,
        by_name,
        by_oid,
        operators,
        operators_by_name,
        casts,
        casts_by_types,
    }
}

/// What a comparison operator means.
fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "=" => Comparison::Eq,
        "<>" => Comparison::Ne,
        "<" => Comparison::Lt,
        "<=" => Comparison::Le,
        ">" => Comparison::Gt,
        ">=" => Comparison::Ge,
        _ => return None,
    })
}

/// Functions of pg_proc that stand behind comparison operators; their bodies are all the same.
fn comparison_functions() -> HashMap<Oid, Comparison> {
    rows(include_str!("rows/operator.tsv"))
        .filter_map(|[_, name, _, _, function, _, _]| Some((number(function), comparison(name)?)))
        .collect()
}

fn load_functions(comparisons: &HashMap<Oid, Comparison>) -> Vec<&'static Function> {
    let scalars: HashMap<&str, ScalarFn> = functions::scalars()
        .into_iter()
        .chain(text::scalars())
        .chain(json::OP_SCALARS.iter().copied())
        .chain(json::BUILD_SCALARS.iter().copied())
        .collect();
    let sets: HashMap<_, _> = functions::sets()
        .into_iter()
        .chain(text::sets())
        .chain(json::SETS.iter().copied())
        .map(|(name, body, columns)| (name, (body, columns)))
        .collect();
    let vectors: HashMap<&str, VectorFn> = vector::VECTORS.iter().copied().collect();
    let mut out = Vec::new();
    for [
        oid,
        name,
        source,
        args,
        variadic,
        defaults,
        result,
        strict,
        volatility,
        kind,
        _,
    ] in rows(include_str!("rows/proc.tsv"))
    {
        let oid = number(oid);
        let variadic = Some(number(variadic)).filter(|v| *v != Oid::INVALID);
        let mut args: Vec<Oid> = args
            .split(',')
            .filter(|a| !a.is_empty())
            .map(number)
            .collect();
        if variadic.is_some() {
            args.pop();
        }
        let args: &'static [Oid] = Box::leak(args.into_boxed_slice());
        let body = match kind {
            "a" => aggregate::body(name, args).map(FunctionBody::Aggregate),
            "w" => functions::window(source).map(|native| FunctionBody::Window { native }),
            _ => {
                let set = sets.get(source);
                let set = set.map(|(eval, columns)| (SetBody::Computed(*eval), *columns));
                if let Some((body, columns)) = set.or_else(|| functions::cluster(source)) {
                    Some(FunctionBody::Set { body, columns })
                } else {
                    let eval = match comparisons.get(&oid) {
                        Some(meaning) => functions::comparison(*meaning, args),
                        None => None,
                    };
                    eval.or_else(|| scalars.get(source).copied())
                        .or_else(|| functions::family(source))
                        .map(|eval| FunctionBody::Scalar {
                            eval,
                            vector: vectors.get(source).copied(),
                        })
                }
            }
        };
        let Some(body) = body else {
            continue;
        };
        out.push(leak(Function {
            oid,
            name,
            args,
            variadic,
            defaults: defaults.parse().unwrap_or(0),
            result: number(result),
            strict: strict == "t",
            volatility: match volatility {
                "i" => Volatility::Immutable,
                "s" => Volatility::Stable,
                _ => Volatility::Volatile,
            },
            body,
        }));
    }
    out.into_iter().map(|f| &*f).collect()
}

/// Whether the native comparison of the two types' Arrow forms (brought to the wider one) or sort
/// keys means the same.
fn native_pair(left: Oid, right: Oid) -> bool {
    let integer = |t: Oid| matches!(t, Oid::INT2 | Oid::INT4 | Oid::INT8);
    let float = |t: Oid| matches!(t, Oid::FLOAT4 | Oid::FLOAT8);
    let text = |t: Oid| matches!(t, Oid::TEXT | Oid::NAME);
    left == right
        || (integer(left) && integer(right))
        || (float(left) && float(right))
        || (text(left) && text(right))
}

fn load_operators(by_oid: &HashMap<Oid, &'static Function>) -> Vec<&'static Operator> {
    rows(include_str!("rows/operator.tsv"))
        .filter_map(|[oid, name, left, right, function, commutator, negator]| {
            let function = by_oid.get(&number(function)).copied()?;
            let (left, right) = (number(left), number(right));
            let named = |n: &'static str| Some(n).filter(|n| !n.is_empty());
            Some(&*leak(Operator {
                oid: number(oid),
                name,
                left,
                right,
                function,
                comparison: comparison(name).filter(|_| native_pair(left, right)),
                commutator: named(commutator),
                negator: named(negator),
            }))
        })
        .collect()
}

fn load_casts(by_oid: &HashMap<Oid, &'static Function>) -> Vec<&'static Cast> {
    rows(include_str!("rows/cast.tsv"))
        .filter_map(|[source, target, function, context, method]| {
            let (source, target) = (number(source), number(target));
            let method = match method {
                "b" => CastMethod::Binary,
                "i" => CastMethod::InOut,
                _ => CastMethod::Function(by_oid.get(&number(function)).copied()?),
            };
            Some(&*leak(Cast {
                source,
                target,
                context: match context {
                    "i" => CastContext::Implicit,
                    "a" => CastContext::Assignment,
                    _ => CastContext::Explicit,
                },
                method,
            }))
        })
        .collect()
}
