//! The streaming engine: de-identifies a resource in one pass over its text. Unchanged text is copied in pieces that are as
//! long as possible.
//!
//! It handles almost every resource. For anything unusual it returns [`NeedsTree`]: escapes in member names, JSON that is not
//! FHIR, null, `_given` beside `given`, and every failure. The tree engine then handles the resource and reports the error.

use std::fmt;

use super::config::{Method, Rule};
use super::element_tree::MAX_DEPTH;
use super::engine::{DateOffset, DeidEngine, ResourceContext, ValueOutcome};
use super::plan::{AppliedRule, PathAutomaton, State, Transition};
use super::security_labels::{SecurityLabels, write_security_labels};
use crate::definitions::ResourceType;
use crate::json::{JsonValue, OpenNames, Scanner};
use crate::semantics::bundle_patients::BundlePatients;

mod date_offset;
mod entries;

use date_offset::RootId;
use entries::{EntryState, ObjectState, Savepoint};

/// The streaming engine cannot handle the resource; the tree engine has to. Does not mean that the resource is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NeedsTree;

/// The source of the patient with whom the dates of a resource move, if they move by patients.
#[derive(Clone, Copy, Debug)]
pub(super) enum DatePatient<'p> {
    /// The id of the patient, if the resource has one.
    Given(Option<&'p str>),
    /// The references of the resource name the patient.
    InResource,
}

/// Appends the de-identified resource to `out`.
///
/// `out` may hold part of the resource when this returns [`NeedsTree`]; the caller truncates it.
pub(super) fn deidentify_streaming<'p>(
    engine: &'p DeidEngine,
    line: &'p str,
    patient: DatePatient<'p>,
    out: &'p mut Vec<u8>,
) -> Result<(), NeedsTree> {
    let mut scanner = Scanner::new(line).ok_or(NeedsTree)?;
    scanner.skip_spaces();
    // Both determine how members are treated, and they may follow other members.
    let (resource_type, id) = type_and_id(scanner.clone()).ok_or(NeedsTree)?;
    let automaton = engine.plan(resource_type).and_then(|plan| plan.automaton.as_ref()).ok_or(NeedsTree)?;
    let json = JsonValue::from_valid(line);
    let (given, found) = match patient {
        DatePatient::Given(patient) => (patient, None),
        DatePatient::InResource => (None, engine.entry_offset(resource_type, json, &BundlePatients::default())),
    };
    let mut context = ResourceContext::new(engine, resource_type.as_str(), id.into(), given);
    if let Some(mut date_offset) = found {
        context.swap_date_offset(&mut date_offset);
    }
    let mut writer = StreamingWriter {
        engine,
        out,
        copied_to: scanner.position,
        scanner,
        context,
        root_id: RootId::new(automaton, id),
        bundle_patients: engine.bundle_patients(resource_type, json).unwrap_or_default(),
        path: CurrentPath { root: resource_type.as_str(), segments: Vec::with_capacity(USUAL_DEPTH) },
        depth: 0,
        open_resources: 0,
    };
    writer.write_resource(automaton, false)?;
    let end = writer.scanner.position;
    writer.scanner.skip_spaces();
    if writer.scanner.next_byte().is_some() {
        return Err(NeedsTree);
    }
    writer.copy_up_to(end);
    Ok(())
}

/// Reads ahead to the type and the id of a resource.
fn type_and_id(mut scanner: Scanner<'_>) -> Option<(ResourceType, &str)> {
    let (mut resource_type, mut id) = (None, None);
    scanner.expect(b'{')?;
    loop {
        match scanner.name()? {
            "resourceType" => resource_type = Some(ResourceType::parse(scanner.plain_string()?)?),
            "id" => id = Some(scanner.plain_string()?),
            _ => scanner.skip_value(&mut OpenNames::default())?,
        }
        if let (Some(resource_type), Some(id)) = (resource_type, id) {
            return Some((resource_type, id));
        }
        scanner.expect(b',')?;
    }
}

/// The streaming engine, while it processes one resource.
struct StreamingWriter<'p> {
    engine: &'p DeidEngine,
    scanner: Scanner<'p>,
    out: &'p mut Vec<u8>,
    /// The offset up to which the text has been copied or left out. Text between it and the reader is not copied yet.
    copied_to: usize,
    context: ResourceContext<'p>,
    root_id: RootId<'p>,
    /// The Patients of the innermost Bundle around the reader's position.
    bundle_patients: BundlePatients<'p>,
    path: CurrentPath,
    depth: usize,
    /// The number of resources that enclose the reader's position.
    open_resources: usize,
}

/// The nesting that few resources exceed.
const USUAL_DEPTH: usize = 16;

/// The path of the current element, as failures and noise use it.
struct CurrentPath {
    root: &'static str,
    segments: Vec<(&'static str, Option<usize>)>,
}

impl fmt::Display for CurrentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root)?;
        for (name, index) in &self.segments {
            // Each perturbed number formats its path. Single calls are faster than `write!` for a segment.
            f.write_str(".")?;
            f.write_str(name)?;
            if let Some(index) = index {
                f.write_str("[")?;
                index.fmt(f)?;
                f.write_str("]")?;
            }
        }
        Ok(())
    }
}

impl<'p> StreamingWriter<'p> {
    /// Copies the text between `copied_to` and `end`.
    fn copy_up_to(&mut self, end: usize) {
        if let Some(piece) = self.scanner.text.as_bytes().get(self.copied_to..end) {
            self.out.extend_from_slice(piece);
        }
        self.copied_to = end;
    }

    /// Returns a savepoint at the current position.
    fn savepoint(&self) -> Savepoint {
        Savepoint { output_length: self.out.len(), copied_to: self.copied_to }
    }

    /// Discards the output since the savepoint.
    fn roll_back(&mut self, savepoint: &Savepoint) {
        self.out.truncate(savepoint.output_length);
        self.copied_to = savepoint.copied_to;
    }

    /// Prepares for a member or an item that begins at `begin`.
    fn begin_entry(&mut self, entries: &EntryState, begin: usize) {
        // A comma follows an entry that was left out. The first entry that is kept must not be preceded by it.
        if !entries.has_kept && self.copied_to >= entries.last_end {
            self.copied_to = begin;
        }
    }

    /// Finishes a member or an item that ends at the reader's position, and leaves it out unless `is_kept`.
    fn end_entry(&mut self, entries: &mut EntryState, is_kept: bool) {
        let end = self.scanner.position;
        if is_kept {
            entries.has_kept = true;
        } else {
            if self.copied_to < entries.last_end {
                self.copy_up_to(entries.last_end);
            }
            self.copied_to = end;
        }
        entries.last_end = end;
    }

    /// Reads the next token, which must be `wanted`.
    fn expect(&mut self, wanted: u8) -> Result<(), NeedsTree> {
        self.scanner.expect(wanted).ok_or(NeedsTree)
    }

    /// Writes a resource. At least its type is kept.
    fn write_resource(&mut self, automaton: &'p PathAutomaton, is_contained: bool) -> Result<(), NeedsTree> {
        let outer_labels = std::mem::take(&mut self.context.labels);
        self.open_resources += 1;
        let root = automaton.get(0).filter(|root| !self.fails_on_object(root)).ok_or(NeedsTree)?;
        self.write_object(automaton, root, Some(is_contained))?;
        self.open_resources -= 1;
        // The labels of a resource include those of the resources in it.
        self.context.labels.extend(outer_labels);
        Ok(())
    }

    /// Writes an object and returns true if anything of it is kept.
    ///
    /// `is_contained` is `None` if the object is not a resource.
    fn write_object(&mut self, automaton: &'p PathAutomaton, state: &'p State, is_contained: Option<bool>) -> Result<bool, NeedsTree> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(NeedsTree);
        }
        let is_resource = is_contained.is_some();
        let savepoint = self.savepoint();
        self.expect(b'{')?;
        let mut entries = EntryState { last_end: self.scanner.position, has_kept: false };
        let mut object = ObjectState::default();
        self.scanner.skip_spaces();
        // An empty resource has no type and is rejected below.
        let mut is_open = self.scanner.next_byte() != Some(b'}');
        if !is_open {
            self.expect(b'}')?;
        }
        while is_open {
            self.scanner.skip_spaces();
            self.begin_entry(&entries, self.scanner.position);
            let is_kept = self.write_member(automaton, state, is_resource, &mut object)?;
            self.end_entry(&mut entries, is_kept);
            is_open = match self.scanner.token().ok_or(NeedsTree)? {
                b',' => true,
                b'}' => false,
                _ => return Err(NeedsTree),
            };
        }
        if (state.needs_value && !object.has_value) || (is_resource && !object.has_resource_type) {
            return Err(NeedsTree);
        }
        self.depth -= 1;
        // FHIR forbids empty objects.
        if !entries.has_kept {
            self.roll_back(&savepoint);
            return Ok(false);
        }
        // All rules have been applied to the resource here, so its labels are complete. Contained resources get none.
        if self.context.labels != SecurityLabels::default() && is_contained == Some(false) {
            if self.copied_to < entries.last_end {
                self.copy_up_to(entries.last_end);
            }
            self.copied_to = self.scanner.position - 1;
            write_security_labels(self.context.labels, object.meta, true, self.out);
        }
        Ok(true)
    }

    /// Writes a member with its name and returns true if anything of it is kept.
    fn write_member(
        &mut self,
        automaton: &'p PathAutomaton,
        state: &'p State,
        is_resource: bool,
        object: &mut ObjectState<'p>,
    ) -> Result<bool, NeedsTree> {
        if let Some((token, transition)) = state.members.guess_next(object.last)
            && self.scanner.skip_name_token(token)
        {
            return self.write_named_member(automaton, transition, is_resource, object);
        }
        let name = self.scanner.name().ok_or(NeedsTree)?;
        if let Some(transition) = state.members.get(name) {
            state.members.remember_next(object.last, transition);
            return self.write_named_member(automaton, transition, is_resource, object);
        }
        self.scanner.skip_spaces();
        if is_resource && name == "resourceType" && !object.has_resource_type {
            object.has_resource_type = true;
            self.scanner.plain_string().ok_or(NeedsTree)?;
            return Ok(true);
        }
        let transition = name.strip_prefix('_').and_then(|plain| state.members.get(plain)).ok_or(NeedsTree)?;
        let is_new = object.underscore_members.insert(transition.index);
        if is_new { self.write_primitive_extension(automaton, transition) } else { Err(NeedsTree) }
    }

    /// Writes a member whose name has been read and returns true if anything of it is kept.
    #[inline(always)]
    fn write_named_member(
        &mut self,
        automaton: &'p PathAutomaton,
        transition: &'p Transition,
        is_resource: bool,
        object: &mut ObjectState<'p>,
    ) -> Result<bool, NeedsTree> {
        self.scanner.skip_spaces();
        object.last = Some(transition);
        if !object.members.insert(transition.index) {
            return Err(NeedsTree);
        }
        object.has_value |= transition.is_value && self.scanner.next_byte() != Some(b'n');
        if transition.is_unchanged_primitive && !transition.is_list {
            return self.skip_unchanged_primitive();
        }
        let is_meta = is_resource && transition.name == "meta";
        if is_meta { self.write_meta(automaton, transition, object) } else { self.write_member_value(automaton, transition) }
    }

    /// Skips a single primitive value that stays as it is. Always returns true.
    #[inline(always)]
    fn skip_unchanged_primitive(&mut self) -> Result<bool, NeedsTree> {
        // FHIR has no null here; a list takes the place of a single value only in invalid JSON.
        if let Some(b'n') = self.scanner.next_byte() {
            return Err(NeedsTree);
        }
        self.scanner.skip_primitive().ok_or(NeedsTree)?;
        Ok(true)
    }

    /// Writes the `meta` of a resource and remembers its range in the output, because labels are added to it later.
    fn write_meta(
        &mut self,
        automaton: &'p PathAutomaton,
        transition: &'p Transition,
        object: &mut ObjectState<'p>,
    ) -> Result<bool, NeedsTree> {
        let savepoint = self.savepoint();
        self.copy_up_to(self.scanner.position);
        let begin = self.out.len();
        let is_kept = self.write_member_value(automaton, transition)?;
        if is_kept {
            self.copy_up_to(self.scanner.position);
            object.meta = Some(begin..self.out.len());
        } else {
            self.roll_back(&savepoint);
        }
        Ok(is_kept)
    }

    /// Writes the value of a member and returns true if anything of it is kept.
    fn write_member_value(&mut self, automaton: &'p PathAutomaton, transition: &'p Transition) -> Result<bool, NeedsTree> {
        let begin = self.scanner.position;
        if self.scanner.next_byte() == Some(b'[') {
            return self.write_array(automaton, transition);
        }
        self.path.segments.push((transition.name, transition.is_list.then_some(0)));
        let savepoint = self.savepoint();
        // Some servers write a list with one item without brackets. They are added.
        if transition.is_list {
            self.copy_up_to(begin);
            self.out.push(b'[');
        }
        let is_kept = self.write_value(automaton, transition)?;
        if transition.is_list && is_kept {
            self.copy_up_to(self.scanner.position);
            self.out.push(b']');
        } else if transition.is_list {
            self.roll_back(&savepoint);
        }
        self.path.segments.pop();
        Ok(is_kept)
    }

    /// Writes an array and returns true if any item is kept.
    fn write_array(&mut self, automaton: &'p PathAutomaton, transition: &'p Transition) -> Result<bool, NeedsTree> {
        let savepoint = self.savepoint();
        self.expect(b'[')?;
        let mut entries = EntryState { last_end: self.scanner.position, has_kept: false };
        self.scanner.skip_spaces();
        if self.scanner.next_byte() == Some(b']') {
            self.expect(b']')?;
            return Ok(false);
        }
        for index in 0.. {
            self.scanner.skip_spaces();
            self.begin_entry(&entries, self.scanner.position);
            self.path.segments.push((transition.name, Some(index)));
            let is_kept = self.write_value(automaton, transition)?;
            self.path.segments.pop();
            self.end_entry(&mut entries, is_kept);
            match self.scanner.token().ok_or(NeedsTree)? {
                b',' => {}
                b']' => break,
                _ => return Err(NeedsTree),
            }
        }
        if !entries.has_kept {
            self.roll_back(&savepoint);
        }
        Ok(entries.has_kept)
    }

    /// Writes a single value, or one item of a list, and returns true if anything of it is kept.
    fn write_value(&mut self, automaton: &'p PathAutomaton, transition: &'p Transition) -> Result<bool, NeedsTree> {
        match self.scanner.next_byte() {
            Some(b'{') if transition.is_resource => {
                self.write_nested_resource(transition)?;
                Ok(true)
            }
            Some(b'{') if !transition.is_primitive => {
                let state = automaton.get(transition.next_state).ok_or(NeedsTree)?;
                if self.fails_on_object(state) { Err(NeedsTree) } else { self.write_object(automaton, state, None) }
            }
            Some(b'{' | b'[' | b'n') | None => Err(NeedsTree),
            Some(_) if transition.is_primitive => self.write_primitive(automaton.get(transition.next_state).ok_or(NeedsTree)?),
            Some(_) => Err(NeedsTree),
        }
    }

    /// Writes a nested resource with the plan of its own type.
    fn write_nested_resource(&mut self, transition: &Transition) -> Result<(), NeedsTree> {
        let rest = self.scanner.text.get(self.scanner.position..).unwrap_or_default();
        let json = JsonValue::from_valid(rest);
        let name = json.member("resourceType").and_then(JsonValue::text);
        let resource_type = name.and_then(|name| ResourceType::parse(&name)).ok_or(NeedsTree)?;
        let automaton = self.engine.plan(resource_type).and_then(|plan| plan.automaton.as_ref()).ok_or(NeedsTree)?;
        let is_contained = transition.element == "contained";
        // A contained resource is a part of its container. One in an entry has a patient of its own.
        let mut date_offset = if is_contained { None } else { self.engine.entry_offset(resource_type, json, &self.bundle_patients) };
        let mut bundle_patients = self.engine.bundle_patients(resource_type, json);
        self.swap_entry_offset(&mut date_offset);
        self.swap_bundle_patients(&mut bundle_patients);
        self.write_resource(automaton, is_contained)?;
        self.swap_bundle_patients(&mut bundle_patients);
        self.swap_entry_offset(&mut date_offset);
        Ok(())
    }

    /// Exchanges the current date offset with that of a resource in an entry, if it has one.
    fn swap_entry_offset(&mut self, date_offset: &mut Option<DateOffset<'p>>) {
        if let Some(date_offset) = date_offset {
            self.context.swap_date_offset(date_offset);
        }
    }

    /// Exchanges the Patients of the current Bundle with those of a nested resource, if that is a Bundle.
    fn swap_bundle_patients(&mut self, bundle_patients: &mut Option<BundlePatients<'p>>) {
        if let Some(bundle_patients) = bundle_patients {
            std::mem::swap(&mut self.bundle_patients, bundle_patients);
        }
    }

    /// Writes the id and the extensions of a primitive, which JSON holds in a member with an underscore.
    fn write_primitive_extension(&mut self, automaton: &'p PathAutomaton, transition: &'p Transition) -> Result<bool, NeedsTree> {
        let state = automaton.get(transition.next_state).ok_or(NeedsTree)?;
        // These methods depend on the value beside it, and the items of two lists must stay aligned: both need the tree.
        let depends_on_value = state
            .applied_rule
            .and_then(|applied| self.engine.rule(applied.index))
            .is_some_and(|rule| matches!(rule.method, Method::Substitute(_) | Method::Perturb(_)));
        if transition.is_list || !transition.is_primitive || depends_on_value || self.scanner.next_byte() != Some(b'{') {
            return Err(NeedsTree);
        }
        self.path.segments.push((transition.name, None));
        let is_kept = self.write_object(automaton, state, None);
        self.path.segments.pop();
        is_kept
    }

    /// Returns the rule that applies to an element, unless it leaves the element unchanged.
    fn active_rule(&self, state: &State) -> Option<(AppliedRule, &'p Rule)> {
        let applied = state.applied_rule.filter(|applied| !applied.leaves_unchanged)?;
        Some((applied, self.engine.rule(applied.index)?))
    }

    /// Returns true if the rule fails on an object, because `generalize` applies only to single values.
    fn fails_on_object(&self, state: &State) -> bool {
        self.active_rule(state).is_some_and(|(_, rule)| matches!(rule.method, Method::Generalize(_)))
    }

    /// Writes a primitive value and returns true if anything of it is kept.
    fn write_primitive(&mut self, state: &'p State) -> Result<bool, NeedsTree> {
        let begin = self.scanner.position;
        let rule = self.active_rule(state).filter(|(_, rule)| !matches!(rule.method, Method::Keep));
        let (Some((applied, rule)), Some(primitive)) = (rule, state.primitive) else {
            self.scanner.skip_primitive().ok_or(NeedsTree)?;
            return Ok(true);
        };
        if let Method::DateShift = rule.method {
            self.select_date_offset(applied)?;
        }
        let value = self.scanner.primitive().ok_or(NeedsTree)?;
        match self.context.apply_method(&rule.method, primitive, &value, &self.path, None).map_err(|_| NeedsTree)? {
            ValueOutcome::Kept => Ok(true),
            ValueOutcome::Removed => Ok(false),
            ValueOutcome::Replaced => {
                self.copy_up_to(begin);
                self.out.extend_from_slice(self.context.replacement.as_bytes());
                self.copied_to = self.scanner.position;
                Ok(true)
            }
        }
    }
}
