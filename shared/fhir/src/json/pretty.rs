//! JSON for people: one member or item per line.

use super::{JsonType, JsonValue};

impl JsonValue<'_> {
    /// Returns the value with one member or item per line. Names, strings and numbers keep their spelling: `1.20` stays `1.20`.
    pub fn to_pretty(self) -> String {
        let mut out = String::new();
        self.write_pretty(0, &mut out);
        out
    }

    /// Appends the value to `out`. Lines after the first are indented by `depth` levels.
    fn write_pretty(self, depth: usize, out: &mut String) {
        let new_line = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        };
        let (mut separator, close) = match self.json_type() {
            JsonType::Object => ('{', '}'),
            JsonType::Array => ('[', ']'),
            JsonType::String | JsonType::Number | JsonType::Boolean | JsonType::Null => return out.push_str(self.as_str()),
        };
        let mut begin_entry = |out: &mut String| {
            out.push(separator);
            separator = ',';
            new_line(out, depth + 1);
        };
        let is_empty = if close == '}' {
            let mut members = self.members();
            while let Some((name, value)) = members.next_raw() {
                begin_entry(out);
                out.extend(["\"", name, "\": "]);
                value.write_pretty(depth + 1, out);
            }
            self.members().next().is_none()
        } else {
            for item in self.items() {
                begin_entry(out);
                item.write_pretty(depth + 1, out);
            }
            self.items().next().is_none()
        };
        if is_empty {
            out.push(separator);
        } else {
            new_line(out, depth);
        }
        out.push(close);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_spelling() {
        let text = r#"{"a":[1.20,1E2,{"b":"\ud800\u0041"}],"\u0063":{},"d":[],"e":[true,null]}"#;
        let expected = r#"{
  "a": [
    1.20,
    1E2,
    {
      "b": "\ud800\u0041"
    }
  ],
  "\u0063": {},
  "d": [],
  "e": [
    true,
    null
  ]
}"#;
        assert_eq!(JsonValue::from_valid(text).to_pretty(), expected);
        assert_eq!(JsonValue::from_valid(" 7 ").to_pretty(), "7");
    }
}
