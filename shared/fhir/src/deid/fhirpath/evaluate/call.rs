//! Evaluates function calls.

use super::value_function::call_value_function;
use super::{
    Collection, CollectionItem, EvalResult, EvaluationError, Evaluator, Expr, NodeId, PartialDateTime, Value, boolean, integer_item,
};
use crate::deid::fhirpath::Function;

/// The maximum number of rounds of `repeat`, more than the nesting of a resource. It ends expressions that yield new values for
/// ever.
const MAX_ROUNDS: usize = 200;

impl<'t> Evaluator<'_, 't> {
    /// Evaluates a function.
    pub(super) fn call(&self, focus: &'t Expr, function: &'t Function, arguments: &'t [Expr]) -> EvalResult<Collection<'t>> {
        let argument = |index: usize| arguments.get(index).unwrap_or(&Expr::Empty);
        let values = self.for_values();
        // These yield the elements of their input, or lead from it to others. The rest depends on its values.
        match function {
            Function::Where => return self.filter_items(self.evaluate(focus)?, argument(0)),
            Function::Select => return self.select(&self.evaluate(focus)?, argument(0)),
            Function::Distinct => return Ok(self.distinct(self.evaluate(focus)?.into_iter())),
            Function::Union => return Ok(self.distinct(self.evaluate(focus)?.into_iter().chain(self.evaluate(argument(0))?))),
            Function::Combine => return Ok(self.evaluate(focus)?.into_iter().chain(self.evaluate(argument(0))?).collect()),
            Function::Trace => return self.evaluate(focus),
            Function::Repeat => return self.repeat(self.evaluate(focus)?, argument(0)),
            Function::Intersect => {
                let others = values.evaluate(argument(0))?;
                return Ok(self.distinct(self.evaluate(focus)?.into_iter().filter(|item| self.has_duplicate(&others, item))));
            }
            Function::Exclude => {
                let others = values.evaluate(argument(0))?;
                return Ok(self.evaluate(focus)?.into_iter().filter(|item| !self.contains(&others, item)).collect());
            }
            Function::Iif => {
                // Only one branch is evaluated. An unknown condition selects the second.
                let condition = values.evaluate(argument(0))?;
                if condition.len() > 1 {
                    return Err(EvaluationError::MultipleValues);
                }
                return self.evaluate(argument(if self.as_boolean(&condition) == Some(true) { 1 } else { 2 }));
            }
            Function::Children => return Ok(self.matching_children(&self.evaluate(focus)?, |_, _| true)),
            Function::Descendants => return Ok(self.descendants(&self.evaluate(focus)?)),
            Function::NodesByType(name) => {
                return Ok(self.nodes_within(&self.evaluate(focus)?, |evaluator, node| evaluator.type_name(node) == &**name));
            }
            Function::NodesByName(name) => {
                return Ok(self.nodes_within(&self.evaluate(focus)?, |evaluator, node| evaluator.element(node) == &**name));
            }
            Function::Extension(url) => return Ok(self.extensions(&self.evaluate(focus)?, url)),
            Function::First
            | Function::Last
            | Function::Tail
            | Function::Skip
            | Function::Take
            | Function::Single
            | Function::Aggregate
            | Function::Exists
            | Function::Empty
            | Function::All
            | Function::Booleans { .. }
            | Function::IsDistinct
            | Function::SubsetOf
            | Function::SupersetOf
            | Function::Not
            | Function::Count
            | Function::HasValue
            | Function::GetValue
            | Function::Today
            | Function::Now
            | Function::TimeOfDay
            | Function::Join
            | Function::Split
            | Function::ToChars
            | Function::OnValue(_) => {}
        }
        values.call_on_values(values.evaluate(focus)?, function, arguments)
    }

    /// Evaluates a function whose result depends on the values of its input.
    fn call_on_values(&self, focus: Collection<'t>, function: &'t Function, arguments: &'t [Expr]) -> EvalResult<Collection<'t>> {
        let argument = |index: usize| arguments.get(index).unwrap_or(&Expr::Empty);
        let date_time = |date_time: PartialDateTime| vec![CollectionItem::Value(Value::from_date_time(date_time))];
        let clock = self.context.clock;
        match function {
            Function::First => Ok(focus.into_iter().take(1).collect()),
            Function::Last => Ok(focus.into_iter().next_back().into_iter().collect()),
            Function::Tail => Ok(focus.into_iter().skip(1).collect()),
            Function::Skip => Ok(focus.into_iter().skip(self.non_negative_integer(argument(0))?).collect()),
            Function::Take => Ok(focus.into_iter().take(self.non_negative_integer(argument(0))?).collect()),
            Function::Single if focus.len() > 1 => Err(EvaluationError::MultipleValues),
            Function::Single => Ok(focus),
            Function::Aggregate => self.aggregate(&focus, argument(0), argument(1)),
            Function::Exists if arguments.is_empty() => Ok(boolean(!focus.is_empty())),
            Function::Exists => Ok(boolean(!self.filter_items(focus, argument(0))?.is_empty())),
            Function::Empty => Ok(boolean(focus.is_empty())),
            Function::All => self.all(&focus, argument(0)),
            Function::Booleans { needs_all, expected } => {
                let mut matches = focus.iter().map(|item| self.value(item) == Some(Value::Boolean(*expected)));
                Ok(boolean(if *needs_all { matches.all(|is_match| is_match) } else { matches.any(|is_match| is_match) }))
            }
            Function::IsDistinct => {
                let count = focus.len();
                Ok(boolean(self.distinct(focus.into_iter()).len() == count))
            }
            Function::SubsetOf | Function::SupersetOf => {
                let others = self.evaluate(argument(0))?;
                let (part, whole) = if *function == Function::SubsetOf { (&focus, &others) } else { (&others, &focus) };
                Ok(boolean(part.iter().all(|item| self.contains(whole, item))))
            }
            Function::Not if focus.len() > 1 => Err(EvaluationError::MultipleValues),
            Function::Not => Ok(self.as_boolean(&focus).map(|value| boolean(!value)).unwrap_or_default()),
            Function::Count => Ok(vec![integer_item(focus.len())]),
            Function::HasValue => Ok(boolean(focus.len() == 1 && self.single(&focus)?.is_some())),
            Function::GetValue => Ok(self.single(&focus)?.map(CollectionItem::Value).into_iter().collect()),
            Function::Today => Ok(date_time(PartialDateTime::from_date(clock.today))),
            Function::Now => Ok(date_time(PartialDateTime::from_utc(clock.today, clock.time))),
            Function::TimeOfDay => Ok(date_time(PartialDateTime::from_time(clock.time))),
            Function::Join => self.join(&focus, argument(0)),
            Function::Split => {
                let Some(text) = self.single(&focus)?.map(Value::into_text) else { return Ok(Vec::new()) };
                let Some(separator) = self.operand(argument(0))?.map(Value::into_text) else { return Ok(Vec::new()) };
                let parts: Vec<&str> = if separator.is_empty() { vec![&*text] } else { text.split(&*separator).collect() };
                Ok(parts.into_iter().map(text_item).collect())
            }
            Function::ToChars => {
                let text = self.single(&focus)?.map(Value::into_text).unwrap_or_default();
                Ok(text.chars().map(|c| text_item(c.encode_utf8(&mut [0; 4]))).collect())
            }
            Function::OnValue(function) => {
                // Numbers and quantities are operands; an element with members has no other value.
                let value = match focus.as_slice() {
                    [item] => self.value_or_quantity(item),
                    items => self.single(items)?,
                };
                let Some(value) = value else { return Ok(Vec::new()) };
                let operand = |index: usize| self.operand(argument(index));
                Ok(call_value_function(value, function, &operand)?.map(CollectionItem::Value).into_iter().collect())
            }
            // `call` evaluates these.
            Function::Where
            | Function::Select
            | Function::Distinct
            | Function::Union
            | Function::Combine
            | Function::Trace
            | Function::Repeat
            | Function::Intersect
            | Function::Exclude
            | Function::Iif
            | Function::Children
            | Function::Descendants
            | Function::NodesByType(_)
            | Function::NodesByName(_)
            | Function::Extension(_) => Ok(Vec::new()),
        }
    }

    /// Returns the results of a projection. It sees each input item as `$this`, with its own `$index`.
    fn select(&self, focus: &[CollectionItem<'t>], projection: &'t Expr) -> EvalResult<Collection<'t>> {
        let mut found = Vec::new();
        for (index, this) in focus.iter().enumerate() {
            found.extend(Evaluator { this, index, ..*self }.evaluate(projection)?);
        }
        Ok(found)
    }

    /// Applies a projection to the input, then to its results, until there are no new ones. The input is not part of the result.
    fn repeat(&self, focus: Collection<'t>, projection: &'t Expr) -> EvalResult<Collection<'t>> {
        let mut found = Collection::new();
        let mut current = focus;
        for _ in 0..MAX_ROUNDS {
            if current.is_empty() {
                return Ok(found);
            }
            let mut next = Collection::new();
            for (index, this) in current.iter().enumerate() {
                let candidates = Evaluator { this, index, ..*self }.evaluate(projection)?;
                next.extend(self.distinct(candidates.into_iter()).into_iter().filter(|item| !self.is_known(&found, item)));
            }
            found.extend_from_slice(&next);
            current = next;
        }
        Err(EvaluationError::EndlessRepetition)
    }

    /// Returns true if an item has been found before: the same element if elements are selected for a rule, or an equal item.
    fn is_known(&self, found: &[CollectionItem<'t>], item: &CollectionItem<'t>) -> bool {
        match item {
            CollectionItem::Node(_) if self.selects_elements => found.contains(item),
            CollectionItem::Node(_) | CollectionItem::Value(_) => self.has_duplicate(found, item),
        }
    }

    /// Evaluates an expression for each item, with the result for the items before it as `$total`.
    fn aggregate(&self, focus: &[CollectionItem<'t>], aggregator: &'t Expr, initial: &'t Expr) -> EvalResult<Collection<'t>> {
        let mut total = self.evaluate(initial)?;
        for (index, this) in focus.iter().enumerate() {
            total = Evaluator { this, index, total: &total, ..*self }.evaluate(aggregator)?;
        }
        Ok(total)
    }

    /// Evaluates `all`: the first item whose condition is not true determines the result, which is unknown if the condition is.
    fn all(&self, focus: &[CollectionItem<'t>], criteria: &'t Expr) -> EvalResult<Collection<'t>> {
        for (index, item) in focus.iter().enumerate() {
            match self.condition(criteria, item, index)? {
                Some(true) => {}
                Some(false) => return Ok(boolean(false)),
                None => return Ok(Vec::new()),
            }
        }
        Ok(boolean(true))
    }

    /// Evaluates `join`. Fails for items that are not strings.
    fn join(&self, focus: &[CollectionItem<'t>], separator: &'t Expr) -> EvalResult<Collection<'t>> {
        let separator = self.operand(separator)?.map(Value::into_text).unwrap_or_default();
        let mut texts = Vec::new();
        for item in focus {
            match self.value(item) {
                Some(Value::String(text)) => texts.push(text),
                Some(value) => return Err(EvaluationError::NoFunction("join", value.type_description())),
                None => return Err(EvaluationError::NoValue),
            }
        }
        Ok(if texts.is_empty() { Vec::new() } else { vec![text_item(&texts.join(&*separator))] })
    }

    /// Returns the extensions of elements with this URL.
    fn extensions(&self, focus: &[CollectionItem<'t>], url: &str) -> Collection<'t> {
        let mut extensions = self.matching_children(focus, |tree, child| tree.element(child) == "extension");
        extensions.retain(|extension| {
            let urls = self.matching_children(std::slice::from_ref(extension), |tree, child| tree.element(child) == "url");
            matches!(urls.first().and_then(|found| self.value(found)), Some(Value::String(found)) if found == *url)
        });
        extensions
    }

    /// Returns everything below elements, level by level: the order of FHIRPath's `repeat(children())`.
    fn descendants(&self, focus: &[CollectionItem<'t>]) -> Collection<'t> {
        let mut found = self.matching_children(focus, |_, _| true);
        let mut level = found.clone();
        while !level.is_empty() {
            level = self.matching_children(&level, |_, _| true);
            found.extend_from_slice(&level);
        }
        found
    }

    /// Returns the items for which the criteria are true.
    fn filter_items(&self, focus: Collection<'t>, criteria: &'t Expr) -> EvalResult<Collection<'t>> {
        let mut found = Vec::new();
        for (index, item) in focus.into_iter().enumerate() {
            if self.is_true(criteria, &item, index)? {
                found.push(item);
            }
        }
        Ok(found)
    }

    /// Returns the elements for which `predicate` is true among the items and everything below them, without nested resources.
    fn nodes_within(&self, items: &[CollectionItem<'t>], predicate: impl Fn(&Self, NodeId) -> bool) -> Collection<'t> {
        let Some(tree) = self.context.tree else { return Vec::new() };
        let mut found = Vec::new();
        for item in items {
            if let CollectionItem::Node(node) = item {
                found.extend(tree.self_and_descendants(*node).into_iter().filter(|node| predicate(self, *node)).map(CollectionItem::Node));
            }
        }
        found
    }

    /// Returns the type name of an element.
    pub(super) fn type_name(&self, node: NodeId) -> &'static str {
        self.context.tree.map(|tree| tree.type_name(node)).unwrap_or_default()
    }

    /// Returns the name of an element.
    pub(super) fn element(&self, node: NodeId) -> &'static str {
        self.context.tree.map(|tree| tree.element(node)).unwrap_or_default()
    }
}

/// Returns an item with a text.
fn text_item<'t>(text: &str) -> CollectionItem<'t> {
    CollectionItem::Value(Value::String(text.to_owned().into()))
}
