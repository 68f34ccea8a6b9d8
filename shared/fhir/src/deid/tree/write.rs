//! A tree as JSON again.

use std::ops::Range;

use super::{Node, NodeId, Tree};
use crate::definitions::structure::Kind;
use crate::deid::labels::{Labels, write_labels};

impl Tree<'_> {
    /// Writes the resource in one line. Elements without anything are left out; of a resource its type stays.
    ///
    /// `labels` says what was done to each resource; resources in `contained` bear none.
    pub(in crate::deid) fn write(&self, labels: &[(NodeId, Labels)], out: &mut Vec<u8>) {
        self.object(NodeId::ROOT, labels, out);
    }

    /// One element in JSON; of a primitive its value.
    pub(in crate::deid) fn json_of(&self, id: NodeId) -> Option<String> {
        let mut out = Vec::new();
        match self.node(id) {
            Some(node) if node.kind == Kind::Primitive => node.value.as_deref().map(str::to_owned),
            _ => self.object(id, &[], &mut out).then(|| String::from_utf8_lossy(&out).into_owned()),
        }
    }

    /// One element with its members; whether there was anything.
    fn object(&self, id: NodeId, labels: &[(NodeId, Labels)], out: &mut Vec<u8>) -> bool {
        let Some(node) = self.node(id) else { return false };
        let begin = out.len();
        let is_resource = node.kind == Kind::Resource;
        out.push(b'{');
        if is_resource {
            put(out, &["\"resourceType\":\"", self.type_name(id), "\""]);
        }
        let mut meta = None;
        let mut written: Vec<&str> = Vec::new();
        for child in self.children(id).filter_map(|child| self.node(child)) {
            if written.contains(&child.json_name) {
                continue;
            }
            written.push(child.json_name);
            let same: Vec<_> = self.children(id).filter(|other| self.is_named(*other, child.json_name)).collect();
            if child.kind == Kind::Primitive {
                self.primitives(child, &same, out);
                continue;
            }
            let range = self.objects(child, &same, labels, out);
            if child.element == "meta" {
                meta = range;
            }
        }
        if out.len() == begin + 1 {
            out.truncate(begin);
            return false;
        }
        let own = labels.iter().find(|(labelled, _)| *labelled == id).filter(|_| node.element != "contained");
        if let Some((_, own)) = own {
            write_labels(*own, meta, true, out);
        }
        out.push(b'}');
        true
    }

    fn is_named(&self, id: NodeId, json_name: &str) -> bool {
        self.node(id).is_some_and(|node| node.json_name == json_name)
    }

    /// A member of elements with members; where its value stands, if there is any.
    fn objects(&self, first: &Node<'_>, same: &[NodeId], labels: &[(NodeId, Labels)], out: &mut Vec<u8>) -> Option<Range<usize>> {
        let before = out.len();
        put_name(out, "", first.json_name);
        let begin = out.len();
        if first.is_in_list {
            out.push(b'[');
        }
        let mut has_any = false;
        for item in same {
            let at = out.len();
            if has_any {
                out.push(b',');
            }
            if self.object(*item, labels, out) {
                has_any = true;
            } else {
                out.truncate(at);
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

    /// A member of primitives: their values, and beside these what has members.
    fn primitives(&self, first: &Node<'_>, same: &[NodeId], out: &mut Vec<u8>) {
        let (mut values, mut siblings, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for id in same {
            let value = self.node(*id).and_then(|node| node.value.as_deref());
            let begin = texts.len();
            let has_members = self.object(*id, &[], &mut texts);
            if value.is_some() || has_members {
                values.push(value);
                siblings.push(begin..texts.len());
            }
        }
        if values.iter().any(Option::is_some) {
            put_name(out, "", first.json_name);
            put_list(out, first.is_in_list, values.iter().map(|value| value.unwrap_or("null").as_bytes()));
        }
        if !texts.is_empty() {
            put_name(out, "_", first.json_name);
            let sibling = |range: Range<usize>| texts.get(range).filter(|sibling| !sibling.is_empty()).unwrap_or(&b"null"[..]);
            put_list(out, first.is_in_list, siblings.into_iter().map(sibling));
        }
    }
}

fn put(out: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
}

/// A member's name, behind a comma unless it is the first.
fn put_name(out: &mut Vec<u8>, prefix: &str, name: &str) {
    let comma = if out.last() == Some(&b'{') { "" } else { "," };
    put(out, &[comma, "\"", prefix, name, "\":"]);
}

fn put_list<'a>(out: &mut Vec<u8>, is_list: bool, items: impl Iterator<Item = &'a [u8]>) {
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
