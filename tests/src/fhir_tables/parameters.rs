//! Search parameters of every type.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::TableError;
use super::compile::{Focus, TypedPath};
use super::elements::Elements;
use super::expression::{Expression, parse};
use super::package::{Package, list, text, texts};

/// Search parameter of one type.
pub(super) struct Parameter {
    pub(super) code: String,
    pub(super) kind: String,
    pub(super) definition: String,
    pub(super) targets: BTreeSet<String>,
    pub(super) support: ParameterSupport,
}

pub(super) enum ParameterSupport {
    Compiled { paths: Vec<TypedPath>, components: Vec<Component> },
    Deceased { paths: Vec<TypedPath> },
    Unsupported,
}

/// Component of a composite parameter.
pub(super) struct Component {
    pub(super) code: String,
    pub(super) kind: String,
    pub(super) paths: Vec<TypedPath>,
}

/// Search parameters by type and code. Those of `Resource` and `DomainResource` are not copied to derived types.
pub(super) type Parameters = BTreeMap<String, BTreeMap<String, Parameter>>;

/// Returns the FHIR types that can match a search parameter of this kind. Paths to other types are left out, because they never
/// match: a date search cannot match `performedString`.
fn comparable(kind: &str) -> &'static [&'static str] {
    match kind {
        "token" => &[
            "code",
            "Coding",
            "CodeableConcept",
            "Identifier",
            "ContactPoint",
            "boolean",
            "id",
            "string",
            "markdown",
            "uri",
            "url",
            "canonical",
            "oid",
            "uuid",
        ],
        "string" => &["string", "markdown", "HumanName", "Address"],
        "reference" => &["Reference", "canonical", "uri", "url"],
        "date" => &["date", "dateTime", "instant", "Period", "Timing"],
        "number" => &["decimal", "integer", "integer64", "positiveInt", "unsignedInt", "Range"],
        "quantity" => &["Quantity", "Age", "Count", "Distance", "Duration", "Money", "Range", "SampledData"],
        "uri" => &["uri", "url", "canonical", "oid", "uuid"],
        _ => &[],
    }
}

/// Compiles all search parameters of a package, by base type and code. Adds what cannot be compiled to `remarks`.
pub(super) fn compile_all(
    package: &Package,
    elements: &Elements,
    types: &BTreeSet<String>,
    remarks: &mut Vec<String>,
) -> Result<Parameters, TableError> {
    let mut all = Parameters::new();
    let mut compiler = Compiler { package, elements, types, remarks };
    for definition in &package.parameters {
        for base in texts(definition, "base") {
            let code = text(definition, "code");
            let parameter = compiler.parameter(definition, base)?;
            if all.entry(base.to_owned()).or_default().insert(code.to_owned(), parameter).is_some() {
                return Err(TableError::Unexpected(format!("{base} has two search parameters {code}")));
            }
        }
    }
    Ok(all)
}

struct Compiler<'a> {
    package: &'a Package,
    elements: &'a Elements,
    types: &'a BTreeSet<String>,
    remarks: &'a mut Vec<String>,
}

impl Compiler<'_> {
    /// Compiles a search parameter for one of its base types.
    fn parameter(&mut self, definition: &Value, base: &str) -> Result<Parameter, TableError> {
        let (code, kind, expression) = (text(definition, "code"), text(definition, "type"), text(definition, "expression"));
        let support = if expression == format!("{base}.deceased.exists() and {base}.deceased != false") {
            ParameterSupport::Deceased { paths: self.paths(base, &parse("deceased").map_err(TableError::Unexpected)?)? }
        } else {
            match self.compiled(definition, base)? {
                Ok((paths, components)) => ParameterSupport::Compiled { paths, components },
                Err(reason) => {
                    self.remarks.push(format!("{base}?{code} ({kind}) is not compiled: {reason}"));
                    ParameterSupport::Unsupported
                }
            }
        };
        let (targets, unknown): (BTreeSet<_>, BTreeSet<_>) =
            texts(definition, "target").map(str::to_owned).partition(|target| self.types.contains(target));
        for target in unknown {
            self.remarks.push(format!("{base}?{code}: the target {target} is no resource type"));
        }
        let definition = text(definition, "url").to_owned();
        Ok(Parameter { code: code.to_owned(), kind: kind.to_owned(), definition, targets, support })
    }

    /// Compiles a parameter to paths and components. The inner error is the reason why it is unsupported; the table marks it as such.
    #[expect(clippy::type_complexity, reason = "a type alias would be used only here")]
    fn compiled(&mut self, definition: &Value, base: &str) -> Result<Result<(Vec<TypedPath>, Vec<Component>), String>, TableError> {
        let (code, kind, source) = (text(definition, "code"), text(definition, "type"), text(definition, "expression"));
        // The element is xpathUsage in R4 and processingMode in R5.
        for usage in ["xpathUsage", "processingMode"].map(|name| text(definition, name)) {
            if !["", "normal"].contains(&usage) {
                return Ok(Err(format!("its values compare in a way of their own, {usage}")));
            }
        }
        if source.is_empty() {
            return Ok(Err("no expression says where its values are".to_owned()));
        }
        let expression = match parse(source) {
            Ok(expression) => expression,
            Err(reason) => return Ok(Err(reason)),
        };
        let found = self.paths(base, &expression)?;
        if found.is_empty() {
            return Ok(Err(format!("{source} names nothing that {base} has")));
        }
        if kind == "composite" {
            let mut components = Vec::new();
            for component in list(definition, "component") {
                let component = self.component(component, &found)?;
                if component.paths.is_empty() {
                    return Ok(Err(format!("its component {} names nothing that can be compared", component.code)));
                }
                components.push(component);
            }
            return Ok(if components.len() > 1 { Ok((found, components)) } else { Err("it has no components".to_owned()) });
        }
        let paths = self.comparable_paths(found, kind, &format!("{base}?{code}"))?;
        Ok(if paths.is_empty() { Err(format!("{source} finds nothing that a {kind} is compared with")) } else { Ok((paths, Vec::new())) })
    }

    /// Compiles a component of a composite, relative to the paths `of`.
    fn component(&mut self, component: &Value, of: &[TypedPath]) -> Result<Component, TableError> {
        let url = text(component, "definition");
        let mut found = Vec::new();
        match parse(text(component, "expression")) {
            Ok(expression) => {
                for path in of {
                    let more = self.focus(path.relative()).compile(&expression)?;
                    found.extend(more.into_iter().filter(|path| !found.contains(path)).collect::<Vec<_>>());
                }
            }
            Err(reason) => self.remarks.push(format!("{url}, a component: {reason}")),
        }
        let definition = self.package.parameters.iter().find(|parameter| text(parameter, "url") == url);
        let (code, kind) = match definition {
            Some(definition) => (text(definition, "code").to_owned(), text(definition, "type").to_owned()),
            None => {
                // R5 refers to undefined parameters. The type of the first path determines the kind.
                let end = url.rsplit('/').next().unwrap_or(url);
                let code = end.split_once('-').map_or(end, |(_, code)| code);
                let kinds = ["string", "quantity", "token", "date", "reference", "number", "uri"];
                let kind =
                    kinds.into_iter().find(|kind| found.first().is_some_and(|path| comparable(kind).contains(&path.fhir_type.as_str())));
                self.remarks.push(format!("{url}, a component, is not defined; taken as {}", kind.unwrap_or("nothing")));
                (code.to_owned(), kind.unwrap_or("special").to_owned())
            }
        };
        let paths = self.comparable_paths(found, &kind, url)?;
        Ok(Component { code, kind, paths })
    }

    /// Filters the paths whose types can match a parameter of this kind. A CodeableReference is replaced by its concept for a token
    /// search, and by its reference for a reference search.
    fn comparable_paths(&mut self, found: Vec<TypedPath>, kind: &str, of: &str) -> Result<Vec<TypedPath>, TableError> {
        let mut paths = Vec::new();
        for path in found {
            let inner = match (path.fhir_type.as_str(), kind) {
                ("CodeableReference", "token") => Some("concept"),
                ("CodeableReference", "reference") => Some("reference"),
                _ => None,
            };
            match inner {
                Some(inner) => paths.extend(self.focus(path).compile(&Expression::Root(inner.to_owned()))?),
                None => paths.push(path),
            }
        }
        let (paths, others): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| comparable(kind).contains(&path.fhir_type.as_str()));
        // No messages about choices within extensions: each has fifty types.
        for other in others.iter().filter(|other| !other.path.contains("[?url=")) {
            self.remarks.push(format!("{of}: a {kind} is not compared with {}, {}", other.path, other.fhir_type));
        }
        Ok(paths)
    }

    /// Compiles an expression to paths from the resource type `base`.
    fn paths(&self, base: &str, expression: &Expression) -> Result<Vec<TypedPath>, TableError> {
        self.focus(TypedPath::resource(base)).compile(expression)
    }

    /// Returns the starting point of expressions at a path.
    fn focus(&self, at: TypedPath) -> Focus<'_> {
        Focus { elements: self.elements, at }
    }
}
