//! What a path can lead to, whatever stands in a resource.

use super::functions::Function;
use super::{Expr, Operator, Unreadable, is_type};

/// Where the elements are that an expression selects.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) struct Select {
    /// Every way there, from the resource on.
    pub(in crate::deid) paths: Vec<Vec<Step>>,
    /// Whether every element at the end of a way is selected. Else a resource's values decide which are.
    pub(in crate::deid) is_exact: bool,
}

/// One step of a way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::deid) enum Step {
    /// To the children of this name.
    Child(Box<str>),
    /// To every child.
    AnyChild,
    /// To the element itself and all below it, but to no resource within.
    Within,
    /// To all below it, up to the resources within and not into these.
    Below,
    /// To all below it, resources within and what is in these as well.
    Everywhere,
    /// Only if its type has exactly this name.
    TypeIs(Box<str>),
    /// Only if it has this name.
    NameIs(Box<str>),
    /// Only if it is of this type, as `ofType` says it.
    OfType(Box<str>),
}

/// The ways of an expression; fails where it does not name elements.
pub(in crate::deid) fn select(expr: &Expr) -> Result<Select, Unreadable> {
    let mut select = Select { paths: Vec::new(), is_exact: true };
    select.paths = select.ways(expr)?;
    Ok(select)
}

/// The one way of a few steps.
pub(in crate::deid) fn one_step(steps: impl IntoIterator<Item = Step>) -> Select {
    Select { paths: vec![steps.into_iter().collect()], is_exact: true }
}

/// More ways than this are no rule that somebody wrote.
const WAYS: usize = 256;

impl Select {
    fn ways(&mut self, expr: &Expr) -> Result<Vec<Vec<Step>>, Unreadable> {
        self.ways_from(expr, vec![Vec::new()])
    }

    fn ways_from(&mut self, expr: &Expr, base: Vec<Vec<Step>>) -> Result<Vec<Vec<Step>>, Unreadable> {
        Ok(match expr {
            Expr::This => base,
            Expr::Nothing => Vec::new(),
            Expr::Position | Expr::Literal(_) | Expr::Is(..) | Expr::Minus(_) => return Err(Unreadable::NoElements),
            Expr::Member(focus, name) => {
                let step = if is_type(name) { Step::OfType(name.clone()) } else { Step::Child(name.clone()) };
                then(self.ways_from(focus, base)?, [step])
            }
            Expr::OfType(focus, name) => then(self.ways_from(focus, base)?, [Step::OfType(name.clone())]),
            Expr::At(focus, _) => {
                self.is_exact = false;
                self.ways_from(focus, base)?
            }
            Expr::Binary(Operator::Union, left, right) => self.both(left, right, base)?,
            Expr::Binary(..) => return Err(Unreadable::NoElements),
            Expr::Call(focus, function, arguments) => self.call(focus, function, arguments, base)?,
        })
    }

    fn call(&mut self, focus: &Expr, function: &Function, arguments: &[Expr], base: Vec<Vec<Step>>) -> Result<Vec<Vec<Step>>, Unreadable> {
        let argument = |place: usize| arguments.get(place).unwrap_or(&Expr::Nothing);
        match function {
            Function::Distinct => self.ways_from(focus, base),
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
                self.ways_from(focus, base)
            }
            Function::Select => {
                let base = self.ways_from(focus, base)?;
                self.ways_from(argument(0), base)
            }
            Function::Union => {
                // The argument is said of what the whole expression is said of.
                let mut ways = self.ways_from(argument(0), base.clone())?;
                ways.extend(self.ways_from(focus, base)?);
                few(ways)
            }
            Function::Iif => {
                self.is_exact = false;
                self.both(argument(1), argument(2), base)
            }
            Function::Children => Ok(then(self.ways_from(focus, base)?, [Step::AnyChild])),
            Function::Descendants => Ok(then(self.ways_from(focus, base)?, [Step::Everywhere])),
            Function::NodesByType(name) => Ok(then(self.ways_from(focus, base)?, [Step::Within, Step::TypeIs(name.clone())])),
            Function::NodesByName(name) => Ok(then(self.ways_from(focus, base)?, [Step::Within, Step::NameIs(name.clone())])),
            Function::Extension(_) => {
                self.is_exact = false;
                Ok(then(self.ways_from(focus, base)?, [Step::Child("extension".into())]))
            }
            Function::Exists
            | Function::Empty
            | Function::All
            | Function::Not
            | Function::Count
            | Function::HasValue
            | Function::GetValue
            | Function::Today
            | Function::OfValue(_) => Err(Unreadable::NoElements),
        }
    }

    fn both(&mut self, left: &Expr, right: &Expr, base: Vec<Vec<Step>>) -> Result<Vec<Vec<Step>>, Unreadable> {
        let mut ways = self.ways_from(left, base.clone())?;
        ways.extend(self.ways_from(right, base)?);
        few(ways)
    }
}

fn few(ways: Vec<Vec<Step>>) -> Result<Vec<Vec<Step>>, Unreadable> {
    if ways.len() > WAYS { Err(Unreadable::TooDeep) } else { Ok(ways) }
}

fn then<const N: usize>(mut ways: Vec<Vec<Step>>, steps: [Step; N]) -> Vec<Vec<Step>> {
    for way in &mut ways {
        way.extend_from_slice(&steps);
    }
    ways
}
