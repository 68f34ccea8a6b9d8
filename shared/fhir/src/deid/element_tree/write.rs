//! Writes a tree of elements as JSON.

use std::ops::Range;

use super::{ElementNode, ElementTree, NodeId};
use crate::definitions::TypeKind;
use crate::deid::security_labels::{SecurityLabels, write_security_labels};

impl ElementTree<'_> {
    /// Appends the resource in one line. Empty elements are left out; a resource keeps at least its type.
    ///
    /// `labels` holds the labels of each resource. They are not written to resources in `contained`.
    pub(in crate::deid) fn write(&self, labels: &[(NodeId, SecurityLabels)], out: &mut Vec<u8>) {
        self.write_object(NodeId::ROOT, labels, out);
    }

    /// Returns the JSON of an element; for a primitive, the JSON of its value.
    pub(in crate::deid) fn to_json(&self, id: NodeId) -> Option<String> {
        let mut out = Vec::new();
        match self.node(id) {
            Some(node) if node.kind == TypeKind::Primitive => node.value.as_deref().map(str::to_owned),
            _ => self.write_object(id, &[], &mut out).then(|| String::from_utf8_lossy(&out).into_owned()),
        }
    }

    /// Appends an element as an object and returns true, or appends nothing if it is empty.
    fn write_object(&self, id: NodeId, labels: &[(NodeId, SecurityLabels)], out: &mut Vec<u8>) -> bool {
        let Some(node) = self.node(id) else { return false };
        let begin = out.len();
        let is_resource = node.kind == TypeKind::Resource;
        out.push(b'{');
        if is_resource {
            append(out, &["\"resourceType\":\"", self.type_name(id), "\""]);
        }
        let mut meta = None;
        let mut written: Vec<&str> = Vec::new();
        for child in self.children(id).filter_map(|child| self.node(child)) {
            if written.contains(&child.json_name) {
                continue;
            }
            written.push(child.json_name);
            // Children with the same name are the items of one list.
            let items: Vec<_> = self.children(id).filter(|other| self.has_json_name(*other, child.json_name)).collect();
            if child.kind == TypeKind::Primitive {
                self.write_primitive_member(child, &items, out);
                continue;
            }
            let range = self.write_object_member(child, &items, labels, out);
            if child.element == "meta" {
                meta = range;
            }
        }
        if out.len() == begin + 1 {
            out.truncate(begin);
            return false;
        }
        let own_labels = labels.iter().find(|(resource, _)| *resource == id).filter(|_| node.element != "contained");
        if let Some((_, own_labels)) = own_labels {
            write_security_labels(*own_labels, meta, true, out);
        }
        out.push(b'}');
        true
    }

    /// Returns true if the element has this name in JSON.
    fn has_json_name(&self, id: NodeId, json_name: &str) -> bool {
        self.node(id).is_some_and(|node| node.json_name == json_name)
    }

    /// Appends a member whose items are objects. Returns the range of its value in `out`, or `None` if all items are empty.
    fn write_object_member(
        &self,
        first: &ElementNode<'_>,
        items: &[NodeId],
        labels: &[(NodeId, SecurityLabels)],
        out: &mut Vec<u8>,
    ) -> Option<Range<usize>> {
        let before = out.len();
        write_member_name(out, "", first.json_name);
        let begin = out.len();
        if first.is_in_list {
            out.push(b'[');
        }
        let mut has_any = false;
        for item in items {
            let item_begin = out.len();
            if has_any {
                out.push(b',');
            }
            if self.write_object(*item, labels, out) {
                has_any = true;
            } else {
                out.truncate(item_begin);
            }
        }
        if first.is_in_list {
            out.push(b']');
        }
        if !has_any {
            out.truncate(before);
        }
        has_any.then_some(begin..out.len())
    }

    /// Appends a member whose items are primitives: their values, and their ids and extensions in a member with an underscore.
    fn write_primitive_member(&self, first: &ElementNode<'_>, items: &[NodeId], out: &mut Vec<u8>) {
        let (mut values, mut object_ranges, mut objects) = (Vec::new(), Vec::new(), Vec::new());
        for id in items {
            let value = self.node(*id).and_then(|node| node.value.as_deref());
            let begin = objects.len();
            let has_object = self.write_object(*id, &[], &mut objects);
            if value.is_some() || has_object {
                values.push(value);
                object_ranges.push(begin..objects.len());
            }
        }
        // Both lists have the same length, with null where an item has no value or no object.
        if values.iter().any(Option::is_some) {
            write_member_name(out, "", first.json_name);
            write_items(out, first.is_in_list, values.iter().map(|value| value.unwrap_or("null").as_bytes()));
        }
        if !objects.is_empty() {
            write_member_name(out, "_", first.json_name);
            let object = |range: Range<usize>| objects.get(range).filter(|object| !object.is_empty()).unwrap_or(&b"null"[..]);
            write_items(out, first.is_in_list, object_ranges.into_iter().map(object));
        }
    }
}

/// Appends several texts.
fn append(out: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
}

/// Appends a member's name, preceded by a comma unless it is the first.
fn write_member_name(out: &mut Vec<u8>, prefix: &str, name: &str) {
    let comma = if out.last() == Some(&b'{') { "" } else { "," };
    append(out, &[comma, "\"", prefix, name, "\":"]);
}

/// Appends items separated by commas, in brackets if they form a list.
fn write_items<'a>(out: &mut Vec<u8>, is_list: bool, items: impl Iterator<Item = &'a [u8]>) {
    if is_list {
        out.push(b'[');
    }
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item);
    }
    if is_list {
        out.push(b']');
    }
}
