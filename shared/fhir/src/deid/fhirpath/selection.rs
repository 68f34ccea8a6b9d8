//! The elements that an expression can select, independent of the values in a resource.

use super::functions::Function;
use super::{Expr, Operator, ParseError, is_type_name};

/// A sequence of steps from the resource to the selected elements.
type StepPath = Vec<Step>;

/// The paths to the elements that an expression selects.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) struct Selection {
    /// The paths, each from the resource down.
    pub(in crate::deid) paths: Vec<StepPath>,
    /// True if every element at the end of a path is selected. Otherwise it depends on the values in a resource.
    pub(in crate::deid) is_exact: bool,
}

/// A step of a path: a move to other elements, or a test of the current one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::deid) enum Step {
    /// Moves to the children with this name.
    Child(Box<str>),
    /// Moves to every child.
    AnyChild,
    /// Moves to the element itself and everything below it, without nested resources.
    SelfAndDescendants,
    /// Moves to everything below the element. Includes nested resources, but not the elements inside them.
    DescendantsToResources,
    /// Moves to everything below the element, including nested resources and the elements inside them.
    AllDescendants,
    /// Tests that the type has exactly this name.
    ExactType(Box<str>),
    /// Tests that the element has this name.
    ElementName(Box<str>),
    /// Tests that the element is of this type in the sense of `ofType`.
    OfType(Box<str>),
}

/// The maximum number of paths of an expression, far more than people write.
const MAX_PATHS: usize = 256;

impl Selection {
    /// Determines the paths of an expression. Fails if the expression yields values instead of elements.
    pub(in crate::deid) fn from_expression(expr: &Expr) -> Result<Self, ParseError> {
        let mut selection = Self { paths: Vec::new(), is_exact: true };
        selection.paths = selection.paths_from(expr, vec![Vec::new()])?;
        Ok(selection)
    }

    /// Creates an exact selection with a single path.
    pub(in crate::deid) fn from_steps(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { paths: vec![steps.into_iter().collect()], is_exact: true }
    }

    /// Extends the paths `base`, which lead to `$this`, by those of an expression.
    fn paths_from(&mut self, expr: &Expr, base: Vec<StepPath>) -> Result<Vec<StepPath>, ParseError> {
        Ok(match expr {
            Expr::This => base,
            // The resource itself, whatever `$this` is.
            Expr::Resource => vec![Vec::new()],
            Expr::Empty => Vec::new(),
            Expr::Index | Expr::Total | Expr::RootResource | Expr::Literal(_) | Expr::Is(..) | Expr::Negate(_) => {
                return Err(ParseError::YieldsValues);
            }
            Expr::Member(focus, name) => {
                let step = if is_type_name(name) { Step::OfType(name.clone()) } else { Step::Child(name.clone()) };
                append_steps(self.paths_from(focus, base)?, [step])
            }
            Expr::OfType(focus, name) => append_steps(self.paths_from(focus, base)?, [Step::OfType(name.clone())]),
            Expr::Indexer(focus, _) => {
                self.is_exact = false;
                self.paths_from(focus, base)?
            }
            Expr::Binary(Operator::Union, left, right) => self.paths_of_both(left, right, base)?,
            Expr::Binary(..) => return Err(ParseError::YieldsValues),
            Expr::Call(focus, function, arguments) => self.paths_of_call(focus, function, arguments, base)?,
        })
    }

    /// Extends the paths `base` by those of a function call.
    fn paths_of_call(
        &mut self,
        focus: &Expr,
        function: &Function,
        arguments: &[Expr],
        base: Vec<StepPath>,
    ) -> Result<Vec<StepPath>, ParseError> {
        let argument = |index: usize| arguments.get(index).unwrap_or(&Expr::Empty);
        match function {
            Function::Distinct | Function::Trace => self.paths_from(focus, base),
            // These select a part of their input, which depends on values.
            Function::Where
            | Function::First
            | Function::Last
            | Function::Tail
            | Function::Skip
            | Function::Take
            | Function::Single
            | Function::Intersect
            | Function::Exclude => {
                self.is_exact = false;
                self.paths_from(focus, base)
            }
            Function::Select => {
                let base = self.paths_from(focus, base)?;
                self.paths_from(argument(0), base)
            }
            Function::Union | Function::Combine => {
                // The argument is evaluated with the outer `$this`, not with the focus.
                let mut paths = self.paths_from(argument(0), base.clone())?;
                paths.extend(self.paths_from(focus, base)?);
                check_path_count(paths)
            }
            Function::Iif => {
                self.is_exact = false;
                self.paths_of_both(argument(1), argument(2), base)
            }
            // The repeated projection may select anything below the focus.
            Function::Repeat => {
                self.is_exact = false;
                let base = self.paths_from(focus, base)?;
                self.paths_from(argument(0), base.clone())?;
                Ok(append_steps(base, [Step::AllDescendants]))
            }
            Function::Children => Ok(append_steps(self.paths_from(focus, base)?, [Step::AnyChild])),
            Function::Descendants => Ok(append_steps(self.paths_from(focus, base)?, [Step::AllDescendants])),
            Function::NodesByType(name) => {
                Ok(append_steps(self.paths_from(focus, base)?, [Step::SelfAndDescendants, Step::ExactType(name.clone())]))
            }
            Function::NodesByName(name) => {
                Ok(append_steps(self.paths_from(focus, base)?, [Step::SelfAndDescendants, Step::ElementName(name.clone())]))
            }
            Function::Extension(_) => {
                self.is_exact = false;
                Ok(append_steps(self.paths_from(focus, base)?, [Step::Child("extension".into())]))
            }
            Function::Aggregate
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
            | Function::OnValue(_) => Err(ParseError::YieldsValues),
        }
    }

    /// Extends the paths `base` by those of two expressions.
    fn paths_of_both(&mut self, left: &Expr, right: &Expr, base: Vec<StepPath>) -> Result<Vec<StepPath>, ParseError> {
        let mut paths = self.paths_from(left, base.clone())?;
        paths.extend(self.paths_from(right, base)?);
        check_path_count(paths)
    }
}

/// Returns the paths, or fails if there are more than [`MAX_PATHS`].
fn check_path_count(paths: Vec<StepPath>) -> Result<Vec<StepPath>, ParseError> {
    if paths.len() > MAX_PATHS { Err(ParseError::TooDeep) } else { Ok(paths) }
}

/// Appends steps to every path.
fn append_steps<const N: usize>(mut paths: Vec<StepPath>, steps: [Step; N]) -> Vec<StepPath> {
    for path in &mut paths {
        path.extend_from_slice(&steps);
    }
    paths
}
