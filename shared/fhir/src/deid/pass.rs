//! The fast way: one pass over the text of a resource. What stays is copied as it stands, in as long pieces as possible.
//!
//! It does what almost every resource needs. Of anything else (escapes in names, other JSON than FHIR's, null, `_given`
//! beside `given`, whatever fails) it says [`Unusual`], and the resource goes the exact way, which also says what is wrong.

use std::fmt;

use super::edge::Edge;
use super::labels::{Labels, write_labels};
use super::method::Method;
use super::plan::{State, States};
use super::tree::DEPTH;
use super::works::{Bench, Fate, Works};
use crate::ResourceType;
use crate::head::skim::Text;
use crate::json::Json;

mod identity;
mod series;

use identity::Identity;
use series::{Mark, Seen, Series};

/// The pass ended early: it says nothing about the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unusual;

/// Does to a resource what the rules say, and writes it.
pub(super) fn apply_in_one_pass<'p>(
    works: &'p Works,
    line: &'p str,
    patient: Option<&'p str>,
    out: &'p mut Vec<u8>,
) -> Result<(), Unusual> {
    let mut text = Text::of(line).ok_or(Unusual)?;
    text.skip_blanks();
    let (kind, id) = type_and_id(text.clone()).ok_or(Unusual)?;
    let states = works.plan(kind).and_then(|plan| plan.states.as_ref()).ok_or(Unusual)?;
    let bench = Bench::new(works, kind.as_str(), id.into(), patient);
    let from = text.at;
    let id = Identity::of(states, id);
    let mut pass =
        Pass { works, text, out, from, bench, id, trail: Trail { root: kind.as_str(), crumbs: Vec::new() }, depth: 0, resources: 0 };
    pass.resource(states, false)?;
    let end = pass.text.at;
    pass.text.skip_blanks();
    if pass.text.next_byte().is_some() {
        return Err(Unusual);
    }
    pass.copy_up_to(end);
    Ok(())
}

/// What a resource says it is, before anything else of it is looked at.
fn type_and_id(mut text: Text<'_>) -> Option<(ResourceType, &str)> {
    let (mut kind, mut id) = (None, None);
    text.expect(b'{')?;
    loop {
        match text.name()? {
            "resourceType" => kind = Some(ResourceType::named(text.plain_string()?)?),
            "id" => id = Some(text.plain_string()?),
            _ => text.skip_value()?,
        }
        if let (Some(kind), Some(id)) = (kind, id) {
            return Some((kind, id));
        }
        text.expect(b',')?;
    }
}

struct Pass<'p> {
    works: &'p Works,
    text: Text<'p>,
    out: &'p mut Vec<u8>,
    /// What lies before has been written or left out; what lies between this and the reader is still to be copied.
    from: usize,
    bench: Bench<'p>,
    id: Identity<'p>,
    trail: Trail,
    depth: usize,
    /// How many resources are open.
    resources: usize,
}

/// The way to an element, as failures and noise name it.
struct Trail {
    root: &'static str,
    crumbs: Vec<(&'static str, Option<usize>)>,
}

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root)?;
        for (name, place) in &self.crumbs {
            match place {
                Some(place) => write!(f, ".{name}[{place}]")?,
                None => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

impl<'p> Pass<'p> {
    /// Writes what is still to be copied before `end`.
    fn copy_up_to(&mut self, end: usize) {
        if let Some(piece) = self.text.line.as_bytes().get(self.from..end) {
            self.out.extend_from_slice(piece);
        }
        self.from = end;
    }

    fn mark(&self) -> Mark {
        Mark { written: self.out.len(), from: self.from }
    }

    fn back_to(&mut self, mark: &Mark) {
        self.out.truncate(mark.written);
        self.from = mark.from;
    }

    /// Before a member or an item that begins here.
    fn begin(&mut self, series: &Series, at: usize) {
        // Behind what was left out there is a comma; the first that stays must not have it.
        if !series.has_any && self.from >= series.end {
            self.from = at;
        }
    }

    /// Behind a member or an item; `stays` says whether it is kept.
    fn end(&mut self, series: &mut Series, stays: bool) {
        let at = self.text.at;
        if stays {
            series.has_any = true;
        } else {
            if self.from < series.end {
                self.copy_up_to(series.end);
            }
            self.from = at;
        }
        series.end = at;
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Unusual> {
        self.text.expect(wanted).ok_or(Unusual)
    }

    /// A resource; it always stays, if only with its type.
    fn resource(&mut self, states: &'p States, is_contained: bool) -> Result<(), Unusual> {
        let outside = std::mem::take(&mut self.bench.labels);
        self.resources += 1;
        let root = states.get(0).filter(|root| !self.is_refused(root)).ok_or(Unusual)?;
        self.object(states, root, Some(is_contained))?;
        self.resources -= 1;
        self.bench.labels.add_all(outside);
        Ok(())
    }

    /// An object; whether anything of it stays. Of a resource `resource` says whether it is contained.
    fn object(&mut self, states: &'p States, state: &'p State, resource: Option<bool>) -> Result<bool, Unusual> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Unusual);
        }
        let mark = self.mark();
        self.expect(b'{')?;
        let mut series = Series { end: self.text.at, has_any: false };
        let mut seen = Seen::default();
        self.text.skip_blanks();
        // An empty resource has no type either, and fails below.
        let mut is_open = self.text.next_byte() != Some(b'}');
        if !is_open {
            self.expect(b'}')?;
        }
        while is_open {
            self.text.skip_blanks();
            self.begin(&series, self.text.at);
            let stays = self.named(states, state, resource.is_some(), &mut seen)?;
            self.end(&mut series, stays);
            is_open = match self.text.token().ok_or(Unusual)? {
                b',' => true,
                b'}' => false,
                _ => return Err(Unusual),
            };
        }
        if (state.needs_value && !seen.has_value) || (resource.is_some() && !seen.has_type) {
            return Err(Unusual);
        }
        self.depth -= 1;
        if !series.has_any {
            self.back_to(&mark);
            return Ok(false);
        }
        if self.bench.labels != Labels::default() && resource == Some(false) {
            if self.from < series.end {
                self.copy_up_to(series.end);
            }
            self.from = self.text.at - 1;
            write_labels(self.bench.labels, seen.meta, true, self.out);
        }
        Ok(true)
    }

    /// A member with its name; whether anything of it stays.
    fn named(&mut self, states: &'p States, state: &'p State, is_of_resource: bool, seen: &mut Seen) -> Result<bool, Unusual> {
        let name = self.text.name().ok_or(Unusual)?;
        self.text.skip_blanks();
        if let Some(edge) = state.members.get(name) {
            if !seen.members.adds(edge.index) {
                return Err(Unusual);
            }
            seen.has_value |= edge.is_value && self.text.next_byte() != Some(b'n');
            return if is_of_resource && edge.name == "meta" { self.meta(states, edge, seen) } else { self.member(states, edge) };
        }
        if is_of_resource && name == "resourceType" && !seen.has_type {
            seen.has_type = true;
            self.text.plain_string().ok_or(Unusual)?;
            return Ok(true);
        }
        let edge = name.strip_prefix('_').and_then(|plain| state.members.get(plain)).ok_or(Unusual)?;
        if seen.siblings.adds(edge.index) { self.sibling(states, edge) } else { Err(Unusual) }
    }

    /// `meta` of a resource. Labels are put in later, so that it has to be known where it is.
    fn meta(&mut self, states: &'p States, edge: &'p Edge, seen: &mut Seen) -> Result<bool, Unusual> {
        let mark = self.mark();
        self.copy_up_to(self.text.at);
        let begin = self.out.len();
        let stays = self.member(states, edge)?;
        if stays {
            self.copy_up_to(self.text.at);
            seen.meta = Some(begin..self.out.len());
        } else {
            self.back_to(&mark);
        }
        Ok(stays)
    }

    /// The value of a member; whether anything of it stays.
    fn member(&mut self, states: &'p States, edge: &'p Edge) -> Result<bool, Unusual> {
        let begin = self.text.at;
        if self.text.next_byte() == Some(b'[') {
            return self.array(states, edge);
        }
        self.trail.crumbs.push((edge.name, edge.is_list.then_some(0)));
        let mark = self.mark();
        // Some write an item alone; a list it is all the same.
        if edge.is_list {
            self.copy_up_to(begin);
            self.out.push(b'[');
        }
        let stays = self.value(states, edge)?;
        if edge.is_list && stays {
            self.copy_up_to(self.text.at);
            self.out.push(b']');
        } else if edge.is_list {
            self.back_to(&mark);
        }
        self.trail.crumbs.pop();
        Ok(stays)
    }

    fn array(&mut self, states: &'p States, edge: &'p Edge) -> Result<bool, Unusual> {
        let mark = self.mark();
        self.expect(b'[')?;
        let mut series = Series { end: self.text.at, has_any: false };
        self.text.skip_blanks();
        if self.text.next_byte() == Some(b']') {
            self.expect(b']')?;
            return Ok(false);
        }
        for place in 0.. {
            self.text.skip_blanks();
            self.begin(&series, self.text.at);
            self.trail.crumbs.push((edge.name, Some(place)));
            let stays = self.value(states, edge)?;
            self.trail.crumbs.pop();
            self.end(&mut series, stays);
            match self.text.token().ok_or(Unusual)? {
                b',' => {}
                b']' => break,
                _ => return Err(Unusual),
            }
        }
        if !series.has_any {
            self.back_to(&mark);
        }
        Ok(series.has_any)
    }

    /// One value: a member's, or an item of its list.
    fn value(&mut self, states: &'p States, edge: &'p Edge) -> Result<bool, Unusual> {
        match self.text.next_byte() {
            Some(b'{') if edge.is_resource => {
                self.resource_within(edge)?;
                Ok(true)
            }
            Some(b'{') if !edge.is_primitive => {
                let state = states.get(edge.state).ok_or(Unusual)?;
                if self.is_refused(state) { Err(Unusual) } else { self.object(states, state, None) }
            }
            Some(b'{' | b'[' | b'n') | None => Err(Unusual),
            Some(_) if edge.is_primitive => self.primitive(states.get(edge.state).ok_or(Unusual)?),
            Some(_) => Err(Unusual),
        }
    }

    fn resource_within(&mut self, edge: &Edge) -> Result<(), Unusual> {
        let rest = self.text.line.get(self.text.at..).unwrap_or_default();
        let name = Json::of_valid(rest).member("resourceType").and_then(Json::text);
        let kind = name.and_then(|name| ResourceType::named(&name)).ok_or(Unusual)?;
        let states = self.works.plan(kind).and_then(|plan| plan.states.as_ref()).ok_or(Unusual)?;
        self.resource(states, edge.element == "contained")
    }

    /// What stands beside a primitive's value: its id and its extensions.
    fn sibling(&mut self, states: &'p States, edge: &'p Edge) -> Result<bool, Unusual> {
        let state = states.get(edge.state).ok_or(Unusual)?;
        let rule = state.claim.and_then(|claim| self.works.rule(claim.rule));
        // Items of two lists belong together; and of these methods the value decides.
        let is_joint = rule.is_some_and(|rule| matches!(rule.method, Method::Substitute(_) | Method::Perturb(_)));
        if edge.is_list || !edge.is_primitive || is_joint || self.text.next_byte() != Some(b'{') {
            return Err(Unusual);
        }
        self.trail.crumbs.push((edge.name, None));
        let stays = self.object(states, state, None);
        self.trail.crumbs.pop();
        stays
    }

    /// Whether a rule fails here because it works on single values only.
    fn is_refused(&self, state: &State) -> bool {
        let rule = state.claim.filter(|claim| !claim.is_still).and_then(|claim| self.works.rule(claim.rule));
        rule.is_some_and(|rule| matches!(rule.method, Method::Generalize(_)))
    }

    fn primitive(&mut self, state: &'p State) -> Result<bool, Unusual> {
        let begin = self.text.at;
        let claim = state.claim.filter(|claim| !claim.is_still);
        let rule = claim.and_then(|claim| self.works.rule(claim.rule)).filter(|rule| !matches!(rule.method, Method::Keep));
        let (Some(claim), Some(rule), Some(leaf)) = (claim, rule, state.leaf) else {
            self.text.skip_value().ok_or(Unusual)?;
            return Ok(true);
        };
        if let Method::DateShift = rule.method {
            self.choose_shift(claim)?;
        }
        let value = self.text.scalar().ok_or(Unusual)?;
        match self.bench.treat(&rule.method, leaf, &value, &self.trail).map_err(|_| Unusual)? {
            Fate::Stays => Ok(true),
            Fate::Goes => Ok(false),
            Fate::Becomes => {
                self.copy_up_to(begin);
                self.out.extend_from_slice(self.bench.written.as_bytes());
                self.from = self.text.at;
                Ok(true)
            }
        }
    }
}
