//! Checks of the expressions in conditions and cases against the types of the elements that they use.

use std::collections::BTreeSet;

use super::constants::{ConstantResult, constant_result, is_constant, is_valid_constant, type_failure};
use super::{ConfigLinter, error, warning};
use crate::definitions::{MemberDefinition, TypeKind};
use crate::deid::config::{Method, Rule, RuleTarget, closest_name};
use crate::deid::error::{DeidRemark, DeidRemarkCode, Truncated};
use crate::deid::fhirpath::{Expr, Function, Operator, Value, parse};
use crate::deid::plan::TypedElement;

/// The items that an expression can yield, as far as the definitions of FHIR tell.
#[derive(Clone, Debug, Default)]
struct Items {
    elements: Vec<TypedElement>,
    values: BTreeSet<ValueKind>,
    /// True if the items can also be others.
    is_open: bool,
    /// True if a resource can have several of the items.
    is_many: bool,
}

/// The kinds of values that operators compare with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ValueKind {
    Boolean,
    Number,
    Text,
    Date,
    Time,
    Complex,
}

impl ValueKind {
    /// Returns expressions with a value of each type of the kind.
    const fn samples(self) -> &'static [&'static str] {
        match self {
            Self::Boolean => &["true"],
            Self::Number => &["1", "1.5", "1 'kg'", "1 day"],
            Self::Text => &["'a'"],
            Self::Date => &["@2020-01-01", "@2020-01-01T08:00:00Z"],
            Self::Time => &["@T08:00"],
            Self::Complex => &[],
        }
    }

    /// Describes the kind in remarks.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Date => "a date",
            Self::Time => "a time",
            Self::Complex => "an element with members",
        }
    }
}

impl Items {
    /// Creates items about which nothing is known.
    fn open() -> Self {
        Self { is_open: true, ..Self::default() }
    }

    /// Creates items with one kind of value.
    fn of_kind(kind: ValueKind) -> Self {
        Self { values: BTreeSet::from([kind]), ..Self::default() }
    }

    /// Creates items with these elements.
    fn of_elements(elements: impl IntoIterator<Item = TypedElement>) -> Self {
        let mut items = Self::default();
        for element in elements {
            if items.elements.iter().all(|known| (known.definition, known.name) != (element.definition, element.name)) {
                items.elements.push(element);
            }
        }
        items
    }

    /// Returns these items and others.
    fn and(self, other: Self) -> Self {
        let mut items = Self::of_elements(self.elements.into_iter().chain(other.elements));
        items.values = self.values.into_iter().chain(other.values).collect();
        items.is_open = self.is_open || other.is_open;
        items.is_many = self.is_many || other.is_many;
        items
    }

    /// Returns these items, of which there is one at most.
    fn single(self) -> Self {
        Self { is_many: false, ..self }
    }

    /// Returns these items, of which there can be several.
    fn several(self) -> Self {
        Self { is_many: true, ..self }
    }

    /// Returns true if nothing is known of the items, or that there are none, so that nothing can be said about what uses them.
    fn is_unknown(&self) -> bool {
        self.is_open || (self.elements.is_empty() && self.values.is_empty())
    }
}

/// A checker of the expressions of one rule.
struct ExpressionChecker<'l, 'c> {
    linter: &'l ConfigLinter<'c>,
    root: Items,
    /// True in conditions and arguments. The path outside of them is checked by what it selects.
    is_in_condition: bool,
    remarks: Vec<DeidRemark>,
}

impl ConfigLinter<'_> {
    /// Returns the remarks about the conditions in a rule's path, and about the cases of `generalize`.
    pub(super) fn expression_remarks(&self, rule: &Rule) -> Vec<DeidRemark> {
        let is_root = |name: &str| rule.resource_type.as_deref().is_none_or(|own_type| own_type == name);
        let roots = self.resource_definitions().map(|definition| TypedElement { definition, name: self.type_name(definition) });
        let root = Items::of_elements(roots.filter(|root| is_root(root.name)));
        let mut checker = ExpressionChecker { linter: self, root: root.clone(), is_in_condition: false, remarks: Vec::new() };
        if let RuleTarget::Expression(expr) = &rule.target {
            checker.check(expr, &root);
        }
        if let Method::Generalize(settings) = &rule.method {
            checker.is_in_condition = true;
            let this = Items::of_elements(
                self.selected_elements(rule).into_iter().filter(|element| self.kind(element.definition) == TypeKind::Primitive),
            );
            for (condition, value) in &settings.cases {
                checker.check(condition, &this);
                let value = checker.check(value, &this);
                checker.expect_single(&value);
            }
        }
        checker.remarks.dedup();
        checker.remarks
    }
}

impl ExpressionChecker<'_, '_> {
    /// Adds a remark if the expression is a condition or part of one.
    fn report(&mut self, remark: DeidRemark) {
        if self.is_in_condition && !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    /// Checks an expression and returns what it can yield.
    fn check(&mut self, expr: &Expr, this: &Items) -> Items {
        match expr {
            Expr::This => this.clone(),
            Expr::Index => Items::of_kind(ValueKind::Number),
            Expr::Total | Expr::RootResource => Items::open(),
            Expr::Resource => self.root.clone(),
            Expr::Empty => Items::default(),
            Expr::Literal(value) => Items::of_kind(kind_of_value(value)),
            Expr::Member(focus, name) if name.starts_with(|c: char| c.is_ascii_uppercase()) => self.check_type_filter(focus, name, this),
            Expr::Member(focus, name) => {
                let focus = self.check(focus, this);
                self.check_member(&focus, name)
            }
            Expr::OfType(focus, name) => self.check_type_filter(focus, name, this),
            Expr::Is(focus, name) => {
                let tested = self.check_type_filter(focus, name, this);
                self.expect_single(&tested);
                Items::of_kind(ValueKind::Boolean)
            }
            Expr::Indexer(focus, index) => {
                self.check_operand(index, this);
                self.check(focus, this).single()
            }
            Expr::Negate(operand) => {
                let items = self.check_operand(operand, this);
                let negated = self.samples(operand, &items).into_iter().map(|sample| Expr::Negate(sample.into()));
                self.report_failure(negated.collect());
                items
            }
            Expr::Binary(operator, left, right) => self.check_operator(*operator, left, right, this),
            Expr::Call(focus, function, arguments) => {
                let items = self.check(focus, this);
                if matches!(function, Function::OnValue(_)) && arguments.iter().all(|argument| is_constant(argument, true)) {
                    let samples = self.samples(focus, &items).into_iter();
                    let calls = samples.map(|sample| Expr::Call(sample.into(), function.clone(), arguments.clone()));
                    self.report_failure(calls.collect());
                }
                self.check_call(items, function, arguments, this)
            }
        }
    }

    /// Checks an argument or an operand. It yields a value, so its names are checked like those of a condition.
    fn check_argument(&mut self, expr: &Expr, this: &Items) -> Items {
        let outer = std::mem::replace(&mut self.is_in_condition, true);
        let items = self.check(expr, this);
        self.is_in_condition = outer;
        items
    }

    /// Checks an argument or operand that must be a single value.
    fn check_operand(&mut self, expr: &Expr, this: &Items) -> Items {
        let items = self.check_argument(expr, this);
        self.expect_single(&items);
        items
    }

    /// Returns expressions with a value of each type that an expression can yield. Returns none if that is unknown, or if the expression
    /// itself fails.
    fn samples(&self, expr: &Expr, items: &Items) -> Vec<Expr> {
        if is_constant(expr, true) {
            return if is_valid_constant(expr) { vec![expr.clone()] } else { Vec::new() };
        }
        let kinds = self.kinds(items).filter(|kinds| !kinds.contains(&ValueKind::Complex)).unwrap_or_default();
        kinds.iter().flat_map(|kind| kind.samples()).filter_map(|sample| parse(sample).ok()).collect()
    }

    /// Reports an expression that fails for values of any type that it can have.
    fn report_failure(&mut self, candidates: Vec<Expr>) {
        let Some(failure) = type_failure(candidates) else { return };
        let outer = std::mem::replace(&mut self.is_in_condition, true);
        let reason = format!("an expression {failure}; it fails for each resource with values");
        self.report(error(DeidRemarkCode::MayFail, reason, "use values of other types; write units of time as in `90 years`"));
        self.is_in_condition = outer;
    }

    /// Reports a condition that is never true, or always.
    fn report_constant_condition(&mut self, condition: &Expr) {
        let remark = match constant_result(condition) {
            ConstantResult::True => warning(DeidRemarkCode::Condition, "a condition is always true", "leave it out"),
            ConstantResult::False | ConstantResult::Unknown => {
                error(DeidRemarkCode::Condition, "a condition is never true", "remove it, or compare elements of the resource")
            }
            ConstantResult::Varies => return,
        };
        let outer = std::mem::replace(&mut self.is_in_condition, true);
        self.report(remark);
        self.is_in_condition = outer;
    }

    /// Reports items of which a resource can have several where a single value is needed.
    fn expect_single(&mut self, items: &Items) {
        if !items.is_many || items.is_unknown() {
            return;
        }
        let name = items.elements.first().map(|element| format!(" of `{}`", element.name)).unwrap_or_default();
        let reason = format!("an expression needs a single value{name}, and a resource can have several; resources with several fail");
        let outer = std::mem::replace(&mut self.is_in_condition, true);
        self.report(warning(DeidRemarkCode::MayFail, reason, "test each value with exists(), or select one with first()"));
        self.is_in_condition = outer;
    }

    /// Checks a condition of items, which should be a boolean or tell whether elements exist.
    fn check_condition(&mut self, condition: &Expr, items: &Items) {
        let result = self.check_argument(condition, items);
        let is_literal = matches!(condition, Expr::Literal(value) if !matches!(value, Value::Boolean(_)));
        if is_literal || (!result.is_unknown() && result.elements.is_empty() && !result.values.contains(&ValueKind::Boolean)) {
            let outer = std::mem::replace(&mut self.is_in_condition, true);
            let reason = "a condition is a value that is not a boolean; it counts as true whenever it has a result";
            self.report(warning(DeidRemarkCode::Condition, reason, "compare the value, or use exists()"));
            self.is_in_condition = outer;
        } else {
            self.report_constant_condition(condition);
        }
    }

    /// Returns the members of elements with a name, and reports a name that none of them has.
    fn check_member(&mut self, focus: &Items, name: &str) -> Items {
        let linter = self.linter;
        if focus.is_unknown() {
            return Items::open();
        }
        let members = || {
            let loaded = focus.elements.iter().filter_map(|element| linter.resolver.loaded_type(element.definition));
            loaded.flat_map(|loaded| loaded.members.iter()).copied()
        };
        // A nested resource can be of any type.
        if focus.elements.iter().any(|element| matches!(linter.type_name(element.definition), "Resource" | "DomainResource")) {
            return Items::open();
        }
        let typed = |member: MemberDefinition| TypedElement { definition: member.definition, name: member.element };
        let is_many = focus.is_many || members().any(|member| member.element == name && member.is_list);
        let found = Items { is_many, ..Items::of_elements(members().filter(|member| member.element == name).map(typed)) };
        if found.elements.is_empty() {
            let remedy = match members().find(|member| member.name == name) {
                Some(choice) => format!("name a choice without its type: `{}`", choice.element),
                None => closest_name(name, &mut members().map(|member| member.element))
                    .map(|similar| format!("did you mean `{similar}`?"))
                    .unwrap_or_else(|| "look the name up in the definition of the type".to_owned()),
            };
            let owner = focus.elements.first().map(|element| format!(" in {}", linter.type_name(element.definition))).unwrap_or_default();
            let reason = format!("a condition uses `{}`, which does not exist{owner}, so it never has a value", Truncated(name));
            self.report(error(DeidRemarkCode::UnknownName, reason, remedy));
            return Items::open();
        }
        found
    }

    /// Checks a type test or filter, and reports a type that does not exist or that the items cannot have.
    fn check_type_filter(&mut self, focus: &Expr, type_name: &str, this: &Items) -> Items {
        let focus = self.check(focus, this);
        let linter = self.linter;
        let type_definitions = linter.config.version.type_definitions();
        let known = type_definitions.by_name(type_name);
        if known.is_none() && !SYSTEM_TYPES.contains(&type_name) {
            let mut names = linter.resolver.types.values().map(|loaded| loaded.name);
            let remedy = closest_name(type_name, &mut names)
                .map(|similar| format!("did you mean `{similar}`?"))
                .unwrap_or_else(|| "use the name of a type of FHIR; names of types are case-sensitive".to_owned());
            let reason = format!("a condition uses the type `{}`, which does not exist", Truncated(type_name));
            self.report(error(DeidRemarkCode::UnknownName, reason, remedy));
            return Items::open();
        }
        if focus.is_unknown() {
            return Items::open();
        }
        let is_of_type = |element: &TypedElement| crate::deid::element_tree::is_of_type(type_definitions, element.definition, type_name);
        let is_nested = |element: &TypedElement| matches!(linter.type_name(element.definition), "Resource" | "DomainResource");
        let of_type = Items::of_elements(focus.elements.iter().copied().filter(|element| is_of_type(element)));
        let found = Items { is_many: focus.is_many, ..of_type };
        let can_be = !found.elements.is_empty() || focus.elements.iter().any(is_nested) || !focus.values.is_empty();
        if !can_be {
            let types: BTreeSet<&str> = focus.elements.iter().map(|element| linter.type_name(element.definition)).collect();
            let types: Vec<&str> = types.into_iter().take(6).collect();
            let reason = format!("a condition expects the type {type_name}, which the element never has, so it is never true");
            self.report(error(DeidRemarkCode::Condition, reason, format!("use a type of the element: {}", types.join(", "))));
            return Items::open();
        }
        if found.elements.is_empty() { Items::open() } else { found }
    }

    /// Checks the operands of an operator.
    fn check_operator(&mut self, operator: Operator, left: &Expr, right: &Expr, this: &Items) -> Items {
        if operator == Operator::Union {
            return self.check(left, this).and(self.check(right, this)).several();
        }
        let operands = (left, right);
        let (left, right) = (self.check_argument(left, this), self.check_argument(right, this));
        match operator {
            Operator::In => self.expect_single(&left),
            Operator::Contains => self.expect_single(&right),
            Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual
            | Operator::Concatenate
            | Operator::Arithmetic(_) => [&left, &right].into_iter().for_each(|operand| self.expect_single(operand)),
            Operator::Logic(_)
            | Operator::Equal
            | Operator::NotEqual
            | Operator::Equivalent
            | Operator::NotEquivalent
            | Operator::Union => {}
        }
        let outer = std::mem::replace(&mut self.is_in_condition, true);
        let result = match operator {
            Operator::Equal | Operator::Equivalent | Operator::In | Operator::Contains => {
                if let Some((left, right)) = self.incompatible(&left, &right) {
                    let reason = format!("a condition compares {left} with {right}, so it is never true");
                    self.report(error(DeidRemarkCode::Condition, reason, "compare values of the same type, and write dates with @"));
                }
                Items::of_kind(ValueKind::Boolean)
            }
            Operator::NotEqual | Operator::NotEquivalent => {
                if let Some((left, right)) = self.incompatible(&left, &right) {
                    let reason = format!("a condition compares {left} with {right}, so it is true whenever both exist");
                    self.report(error(DeidRemarkCode::Condition, reason, "compare values of the same type, and write dates with @"));
                }
                Items::of_kind(ValueKind::Boolean)
            }
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                if let Some((left, right)) = self.incompatible(&left, &right) {
                    let reason = format!("a condition compares {left} with {right}; resources with both fail");
                    self.report(warning(DeidRemarkCode::MayFail, reason, "compare values of the same type, and write dates with @"));
                }
                Items::of_kind(ValueKind::Boolean)
            }
            Operator::Logic(_) => Items::of_kind(ValueKind::Boolean),
            Operator::Concatenate => Items::of_kind(ValueKind::Text),
            Operator::Arithmetic(_) => {
                let (left_samples, right_samples) = (self.samples(operands.0, &left), self.samples(operands.1, &right));
                let with_left = |left: &Expr| {
                    let binary = |right: &Expr| Expr::Binary(operator, left.clone().into(), right.clone().into());
                    right_samples.iter().map(binary).collect::<Vec<_>>()
                };
                self.report_failure(left_samples.iter().flat_map(with_left).collect());
                let kinds = self.kinds(&left);
                Items { values: kinds.unwrap_or_default(), ..Items::default() }
            }
            Operator::Union => Items::open(),
        };
        self.is_in_condition = outer;
        result
    }

    /// Returns the descriptions of two operands if no value of one can be compared with one of the other.
    fn incompatible(&self, left: &Items, right: &Items) -> Option<(&'static str, &'static str)> {
        let (left, right) = (self.kinds(left)?, self.kinds(right)?);
        let is_complex = |kinds: &BTreeSet<ValueKind>| kinds.contains(&ValueKind::Complex);
        // Elements with members are equal if their members are.
        let can_be = left.intersection(&right).next().is_some() || (is_complex(&left) && is_complex(&right));
        if can_be { None } else { Some((left.first()?.as_str(), right.first()?.as_str())) }
    }

    /// Returns the kinds of values that items can have, or `None` if they are unknown.
    fn kinds(&self, items: &Items) -> Option<BTreeSet<ValueKind>> {
        if items.is_unknown() {
            return None;
        }
        let of_elements = items.elements.iter().map(|element| self.kind_of_element(element));
        Some(of_elements.chain(items.values.iter().copied()).collect())
    }

    /// Returns the kind of an element's value.
    fn kind_of_element(&self, element: &TypedElement) -> ValueKind {
        match self.linter.type_name(element.definition) {
            "boolean" => ValueKind::Boolean,
            "integer" | "positiveInt" | "unsignedInt" | "integer64" | "decimal" | "Quantity" => ValueKind::Number,
            "date" | "dateTime" | "instant" => ValueKind::Date,
            "time" => ValueKind::Time,
            _ if self.linter.kind(element.definition) == TypeKind::Primitive => ValueKind::Text,
            _ => ValueKind::Complex,
        }
    }

    /// Checks the arguments of a function and returns what it can yield.
    fn check_call(&mut self, focus: Items, function: &Function, arguments: &[Expr], this: &Items) -> Items {
        let argument = |index: usize| arguments.get(index).unwrap_or(&Expr::Empty);
        match function {
            Function::Where => {
                self.check_condition(argument(0), &focus.clone().single());
                focus
            }
            Function::Exists | Function::All => {
                if !arguments.is_empty() {
                    self.check_condition(argument(0), &focus.single());
                }
                Items::of_kind(ValueKind::Boolean)
            }
            Function::Select => {
                let is_many = focus.is_many;
                let selected = self.check(argument(0), &focus.single());
                if is_many { selected.several() } else { selected }
            }
            Function::Repeat => {
                let first = self.check_argument(argument(0), &focus.single()).single();
                if first.is_unknown() { Items::open() } else { first.clone().and(self.check_argument(argument(0), &first)).several() }
            }
            Function::Aggregate => {
                self.check_argument(argument(0), &focus);
                Items::open()
            }
            Function::Union | Function::Combine => {
                let other = self.check(argument(0), this);
                focus.and(other).several()
            }
            Function::Iif => {
                self.check_operand(argument(0), this);
                self.report_constant_condition(argument(0));
                let first = self.check(argument(1), this);
                first.and(self.check(argument(2), this))
            }
            Function::Intersect | Function::Exclude => {
                self.check_argument(argument(0), this);
                focus
            }
            Function::Skip | Function::Take => {
                self.check_operand(argument(0), this);
                let takes_one = *function == Function::Take && matches!(argument(0), Expr::Literal(Value::Integer(1)));
                if takes_one { focus.single() } else { focus }
            }
            // An author who writes single() means that several are a failure.
            Function::First | Function::Last | Function::Single => focus.single(),
            Function::Tail | Function::Distinct | Function::Trace => focus,
            Function::GetValue => {
                self.expect_single(&focus);
                focus.single()
            }
            Function::Children => self.children(&focus),
            Function::Descendants => Items::open(),
            Function::NodesByType(name) => self.check_nodes_by_type(name),
            Function::NodesByName(name) => self.check_nodes_by_name(name),
            Function::Extension(_) => {
                let extension = self.linter.config.version.type_definitions().by_name("Extension");
                Items::of_elements(extension.map(|definition| TypedElement { definition, name: "extension" }))
            }
            Function::Not => {
                self.expect_single(&focus);
                Items::of_kind(ValueKind::Boolean)
            }
            Function::Empty | Function::Booleans { .. } | Function::IsDistinct | Function::HasValue => Items::of_kind(ValueKind::Boolean),
            Function::SubsetOf | Function::SupersetOf => {
                self.check_argument(argument(0), this);
                Items::of_kind(ValueKind::Boolean)
            }
            Function::Count => Items::of_kind(ValueKind::Number),
            Function::Today | Function::Now => Items::of_kind(ValueKind::Date),
            Function::TimeOfDay => Items::of_kind(ValueKind::Time),
            Function::Join => Items::of_kind(ValueKind::Text),
            Function::Split | Function::ToChars => {
                self.expect_single(&focus);
                Items::of_kind(ValueKind::Text).several()
            }
            Function::OnValue(_) => {
                self.expect_single(&focus);
                for argument in arguments {
                    self.check_operand(argument, this);
                }
                Items::open()
            }
        }
    }

    /// Returns the members of elements.
    fn children(&self, focus: &Items) -> Items {
        let is_nested = |element: &TypedElement| matches!(self.linter.type_name(element.definition), "Resource" | "DomainResource");
        if focus.is_unknown() || focus.elements.iter().any(is_nested) {
            return Items::open();
        }
        let loaded = focus.elements.iter().filter_map(|element| self.linter.resolver.loaded_type(element.definition));
        let members = loaded.flat_map(|loaded| &loaded.members);
        Items::of_elements(members.map(|member| TypedElement { definition: member.definition, name: member.element })).several()
    }

    /// Returns the elements of a type, and reports a type that does not exist.
    fn check_nodes_by_type(&mut self, name: &str) -> Items {
        let linter = self.linter;
        let definition = linter.config.version.type_definitions().by_name(name);
        if definition.is_none() {
            let remedy = closest_name(name, &mut linter.resolver.types.values().map(|loaded| loaded.name))
                .map(|similar| format!("did you mean `{similar}`?"))
                .unwrap_or_else(|| "use the name of a type of FHIR".to_owned());
            self.report(error(DeidRemarkCode::UnknownName, format!("no element has the type `{}`", Truncated(name)), remedy));
        }
        match definition {
            Some(definition) if linter.kind(definition) != TypeKind::Resource && !name.ends_with("Element") => {
                Items::of_elements([TypedElement { definition, name: self.linter.type_name(definition) }]).several()
            }
            Some(_) | None => Items::open(),
        }
    }

    /// Reports a name that no element has.
    fn check_nodes_by_name(&mut self, name: &str) -> Items {
        let members = || self.linter.resolver.types.values().flat_map(|loaded| &loaded.members);
        if !members().any(|member| member.element == name) {
            let remedy = closest_name(name, &mut members().map(|member| member.element))
                .map(|similar| format!("did you mean `{similar}`?"))
                .unwrap_or_else(|| "use the name of an element".to_owned());
            self.report(error(DeidRemarkCode::UnknownName, format!("no element has the name `{}`", Truncated(name)), remedy));
        }
        Items::open()
    }
}

/// The types of FHIRPath.
const SYSTEM_TYPES: [&str; 8] = ["Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity"];

/// Returns the kind of a literal.
fn kind_of_value(value: &Value<'_>) -> ValueKind {
    match value {
        Value::Boolean(_) => ValueKind::Boolean,
        Value::Integer(_) | Value::Decimal(_) | Value::Quantity(_) => ValueKind::Number,
        Value::String(_) => ValueKind::Text,
        Value::DateTime(date_time, _) if date_time.is_time() => ValueKind::Time,
        Value::DateTime(..) => ValueKind::Date,
    }
}
