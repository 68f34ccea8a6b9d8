//! By which id dates move.

use std::borrow::Cow;

use super::{Pass, Unusual};
use crate::deid::leaf::Leaf;
use crate::deid::plan::{Claim, States};
use crate::deid::works::{Fate, Shift};
use crate::json::Json;

/// The root's id, and the rule that changes it: dates move by the id as it is when their rule comes.
pub(super) struct Identity<'p> {
    text: &'p str,
    claim: Option<Claim>,
    leaf: Option<Leaf>,
    /// The shift by the other id, once it was asked for.
    other: Option<Shift<'p>>,
    /// Whether dates move by the new id now.
    is_new: bool,
}

impl<'p> Identity<'p> {
    pub(super) fn of(states: &States, text: &'p str) -> Self {
        let id = states.get(0).and_then(|root| states.get(root.members.get("id")?.state));
        Self { text, claim: id.and_then(|id| id.claim), leaf: id.and_then(|id| id.leaf), other: None, is_new: false }
    }
}

impl<'p> Pass<'p> {
    /// Dates move by the root's id as it is when their rule comes: the new one within other resources, which come after
    /// the root, and behind the rule for the id.
    pub(super) fn choose_shift(&mut self, dates: Claim) -> Result<(), Unusual> {
        let Some(claim) = self.id.claim else { return Ok(()) };
        let wants_new = self.resources > 1 || claim.rule < dates.rule;
        if wants_new == self.id.is_new {
            return Ok(());
        }
        let mut other = match self.id.other.take() {
            Some(other) => other,
            None => self.shift_of_new_id(claim)?,
        };
        self.bench.swap_shift(&mut other);
        self.id.other = Some(other);
        self.id.is_new = wants_new;
        Ok(())
    }

    fn shift_of_new_id(&mut self, claim: Claim) -> Result<Shift<'p>, Unusual> {
        let (Some(rule), Some(leaf)) = (self.works.rule(claim.rule), self.id.leaf) else { return Err(Unusual) };
        let labels = self.bench.labels;
        let place = format_args!("{}.id", self.trail.root);
        let fate = self.bench.treat(&rule.method, leaf, self.id.text, &place).map_err(|_| Unusual)?;
        self.bench.labels = labels;
        let new = match fate {
            Fate::Stays => self.id.text.into(),
            Fate::Goes => Cow::Borrowed(""),
            Fate::Becomes => Json::of_valid(&self.bench.written).scalar(),
        };
        Ok(self.bench.shift_by(new.into_owned()))
    }
}
