//! YAML as a tree in which every key and value knows its line and column.
//!
//! Objects are checked on this tree, so that a message can point at the very field, and converted to JSON afterwards.
//! JSON manifests come the same way: JSON is YAML.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A position in a file, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Line.
    pub(crate) line: u64,
    /// Column, in characters.
    pub(crate) column: u64,
}

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

/// What a YAML node can be.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Field>),
}

/// One entry of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) at: Position,
    pub(crate) name: String,
    pub(crate) node: Node,
}

impl Node {
    /// Reads one document whose first line is line `first` of its file.
    pub(crate) fn parse(text: &str, first: u64) -> Result<Self, (Position, String)> {
        let options = serde_saphyr::options! { with_snippet: false };
        let mut node: Self = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let at = error.location().map_or(Position { line: 1, column: 1 }, position);
            (Position { line: at.line + first - 1, ..at }, plain_message(&error))
        })?;
        node.move_down(first - 1);
        Ok(node)
    }

    fn move_down(&mut self, lines: u64) {
        self.at.line += lines;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.move_down(lines)),
            Value::Map(fields) => {
                for field in fields {
                    field.at.line += lines;
                    field.node.move_down(lines);
                }
            }
            _ => {}
        }
    }

    /// The field `name` of a mapping.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.fields().iter().find(|field| field.name == name).map(|field| &field.node)
    }

    /// The text of the field `name` of a mapping.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        match &self.get(name)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The fields of a mapping; none of anything else.
    pub(crate) fn fields(&self) -> &[Field] {
        match &self.value {
            Value::Map(fields) => fields,
            _ => &[],
        }
    }

    /// The same as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(fields) => {
                fields.iter().map(|field| (field.name.clone(), field.node.to_json())).collect()
            }
        }
    }

    /// Where the field `path` stands (`spec.list[1]`), or the deepest part of it that is there.
    pub(crate) fn locate(&self, path: &str) -> Position {
        self.locate_from(path).unwrap_or(self.at)
    }

    fn locate_from(&self, path: &str) -> Option<Position> {
        match &self.value {
            Value::Map(fields) => {
                // Keys may contain dots: the longest that fits is meant.
                let fits = fields.iter().filter(|field| {
                    path.strip_prefix(&field.name)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
                });
                let field = fits.max_by_key(|field| field.name.len())?;
                let rest = path.strip_prefix(&field.name)?;
                let rest = rest.strip_prefix('.').unwrap_or(rest);
                Some(field.node.locate_from(rest).unwrap_or(field.at))
            }
            Value::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some(item.locate_from(rest.strip_prefix('.').unwrap_or(rest)).unwrap_or(item.at))
            }
            _ => None,
        }
    }

    /// What it is, for messages.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("the boolean {value}"),
            Value::Number(number) => format!("the number {number}"),
            Value::Text(text) if text.chars().count() > 40 => "a text".to_owned(),
            Value::Text(text) => format!("the text {text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// The first line of the parser's message, without the position that is reported apart.
fn plain_message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    match line.find(" at line ") {
        Some(end) => line.get(..end).unwrap_or(line).to_owned(),
        None => line.to_owned(),
    }
}

fn position(location: serde_saphyr::Location) -> Position {
    Position { line: location.line(), column: location.column() }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { at: position(spanned.referenced), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            fields.push(Field { at: position(key.referenced), name: key.value, node: access.next_value()? });
        }
        Ok(Value::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_where_it_is() {
        let node = Node::parse("kind: A\nspec:\n  list: [1, 'x']\n  text: |\n    a\n    b\n", 10).unwrap();
        let spec = node.get("spec").unwrap();
        assert_eq!(spec.fields()[0].at, Position { line: 12, column: 3 });
        assert_eq!(spec.text_of("text"), Some("a\nb\n"));
        let Value::List(items) = &spec.get("list").unwrap().value else { panic!("{spec:?}") };
        assert_eq!(items[1].at, Position { line: 12, column: 13 });
        assert_eq!(
            node.to_json(),
            serde_json::json!({"kind": "A", "spec": {"list": [1, "x"], "text": "a\nb\n"}})
        );
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_position() {
        let (at, message) = Node::parse("a: 1\nb: [1,\nc: 2\n", 1).unwrap_err();
        assert!(at.line >= 2, "{at:?}");
        assert!(!message.is_empty() && !message.contains('\n'), "{message}");
        let (at, message) = Node::parse("a: 1\na: 2\n", 5).unwrap_err();
        assert_eq!(at.line, 6);
        assert!(message.contains("duplicate"), "{message}");
    }
}
