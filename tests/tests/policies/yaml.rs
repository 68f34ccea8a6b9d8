//! Converts `template.yaml` to JSON. Aliases and merge keys are expanded, and CloudFormation's short forms such as `!Ref x` become long forms.

use std::collections::BTreeMap;

use headrace_tests::flows::Result;
use serde_json::{Map, Value, json};
use yaml_rust2::Event;
use yaml_rust2::parser::{EventReceiver, Parser, Tag};

/// Parses a YAML document.
pub(crate) fn read(text: &str) -> Result<Value> {
    let mut builder = JsonBuilder::default();
    Parser::new_from_str(text).load(&mut builder, false)?;
    builder.root.ok_or_else(|| "the document is empty".into())
}

/// Incomplete list or map.
struct OpenNode {
    anchor: usize,
    tag: Option<Tag>,
    nodes: Vec<Value>,
    is_map: bool,
}

#[derive(Default)]
struct JsonBuilder {
    open: Vec<OpenNode>,
    anchors: BTreeMap<usize, Value>,
    root: Option<Value>,
}

impl JsonBuilder {
    /// Adds a node to the innermost open list or map.
    fn add_node(&mut self, anchor: usize, tag: Option<&Tag>, value: Value) {
        let value = match tag {
            None => value,
            Some(tag) => to_long_form(&tag.suffix, value),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            Some(open) => open.nodes.push(value),
            None => self.root = Some(value),
        }
    }

    /// Closes the innermost open list or map and adds it to its parent.
    fn close(&mut self) {
        let Some(OpenNode { anchor, tag, nodes, is_map }) = self.open.pop() else { return };
        let value = if is_map {
            let (pairs, _) = nodes.as_chunks::<2>();
            let members = pairs.iter().map(|[name, value]| (name.as_str().unwrap_or_default().to_owned(), value.clone()));
            Value::Object(merge(members.collect()))
        } else {
            Value::Array(nodes)
        };
        self.add_node(anchor, tag.as_ref(), value);
    }
}

impl EventReceiver for JsonBuilder {
    fn on_event(&mut self, event: Event) {
        match event {
            // Scalars stay text, because CloudFormation compares numbers and booleans as text.
            Event::Scalar(text, _, anchor, tag) => self.add_node(anchor, tag.as_ref(), Value::String(text)),
            Event::SequenceStart(anchor, tag) => self.open.push(OpenNode { anchor, tag, nodes: Vec::new(), is_map: false }),
            Event::MappingStart(anchor, tag) => self.open.push(OpenNode { anchor, tag, nodes: Vec::new(), is_map: true }),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned().unwrap_or_default();
                self.add_node(0, None, value);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart | Event::DocumentEnd => {}
        }
    }
}

/// Replaces the merge key `<<` by the members of its maps. The map's own members come first, then those of earlier maps.
fn merge(mut members: Map<String, Value>) -> Map<String, Value> {
    let merged = match members.remove("<<") {
        Some(Value::Array(maps)) => maps,
        Some(map) => vec![map],
        None => Vec::new(),
    };
    for (name, value) in merged.iter().filter_map(Value::as_object).flatten() {
        members.entry(name).or_insert_with(|| value.clone());
    }
    members
}

/// Converts a short form: `!Sub x` to `{"Fn::Sub": "x"}`, `!GetAtt a.b` to `{"Fn::GetAtt": ["a", "b"]}`.
fn to_long_form(tag: &str, value: Value) -> Value {
    match (tag, value) {
        ("Ref" | "Condition", value) => json!({ tag: value }),
        ("GetAtt", Value::String(text)) => {
            let (resource, attribute) = text.split_once('.').unwrap_or((&text, ""));
            json!({ "Fn::GetAtt": [resource, attribute] })
        }
        (tag, value) => json!({ format!("Fn::{tag}"): value }),
    }
}
