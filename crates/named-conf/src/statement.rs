//! The statement tree and its one serializer.
//!
//! A statement is a row of values ended by a semicolon; a block is a value that holds statements. That is all of the
//! grammar that `named.conf` has below its keywords, so nothing here knows what an option means.

use std::fmt;
use std::net::IpAddr;

use bindy_zone::Name;

use crate::AclElement;

/// A string that can stand between quotes and means itself there.
///
/// BIND's scanner replaces `\"` by `"` but leaves `\\` as two characters, so a string with backslashes or quotes has
/// no spelling in general; control characters end a line or confuse its log. Neither is of use in a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text(String);

/// A character that cannot be in a [`Text`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} contains {character:?}, which the configuration of named cannot express: use a path without it"
)]
pub struct TextError {
    /// The whole string.
    pub text: String,
    /// The first offending character.
    pub character: char,
}

impl Text {
    /// Checks a string.
    pub fn new(text: impl Into<String>) -> Result<Self, TextError> {
        let text = text.into();
        match text.chars().find(|&character| character == '"' || character == '\\' || character.is_control())
        {
            Some(character) => Err(TextError { text, character }),
            None => Ok(Self(text)),
        }
    }

    /// The string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One value of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A keyword, the program's own text.
    Word(&'static str),
    /// A quoted string of the program's own text.
    Literal(&'static str),
    /// A quoted string.
    Text(Text),
    /// A domain name, of a zone or a key.
    Name(Name),
    /// A number: a count, a port, seconds.
    Number(u64),
    /// A number of mebibytes.
    Mebibytes(u32),
    /// `yes` or `no`.
    YesNo(bool),
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// One element of an address match list.
    Acl(AclElement),
    /// Statements in braces.
    Block(Vec<Statement>),
}

/// A row of values, ended by a semicolon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement(pub Vec<Value>);

impl Statement {
    /// A statement that starts with a keyword.
    pub fn new(keyword: &'static str) -> Self {
        Self(vec![Value::Word(keyword)])
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, value: Value) -> Self {
        self.0.push(value);
        self
    }

    /// Adds a keyword.
    #[must_use]
    pub fn word(self, keyword: &'static str) -> Self {
        self.with(Value::Word(keyword))
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, number: impl Into<u64>) -> Self {
        self.with(Value::Number(number.into()))
    }

    /// Adds `yes` or `no`.
    #[must_use]
    pub fn yes_no(self, yes: bool) -> Self {
        self.with(Value::YesNo(yes))
    }

    /// Adds an address.
    #[must_use]
    pub fn address(self, address: IpAddr) -> Self {
        self.with(Value::Address(address))
    }

    /// Adds a domain name.
    #[must_use]
    pub fn name(self, name: &Name) -> Self {
        self.with(Value::Name(name.clone()))
    }

    /// Adds a string.
    #[must_use]
    pub fn text(self, text: &Text) -> Self {
        self.with(Value::Text(text.clone()))
    }

    /// Adds statements in braces.
    #[must_use]
    pub fn block(self, statements: impl IntoIterator<Item = Statement>) -> Self {
        self.with(Value::Block(statements.into_iter().collect()))
    }
}

/// A domain name with every octet that is not plain as `\DDD`, so that no quote and no lone backslash can appear.
pub(crate) fn quoted_name(name: &Name) -> String {
    let wire = name.to_wire();
    let mut text = String::from("\"");
    let mut rest = wire.as_slice();
    while let Some((&length, after)) = rest.split_first() {
        let Some((label, after)) = after.split_at_checked(usize::from(length)) else { break };
        for &octet in label {
            if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'*') {
                text.push(char::from(octet));
            } else {
                text.push_str(&format!("\\{octet:03}"));
            }
        }
        if !label.is_empty() || text.len() == 1 {
            text.push('.');
        }
        rest = after;
    }
    text.push('"');
    text
}

impl Value {
    fn write(&self, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Literal(text) => write!(f, "\"{text}\""),
            Self::Text(text) => write!(f, "\"{}\"", text.0),
            Self::Name(name) => f.write_str(&quoted_name(name)),
            Self::Number(number) => write!(f, "{number}"),
            Self::Mebibytes(number) => write!(f, "{number}M"),
            Self::YesNo(yes) => f.write_str(if *yes { "yes" } else { "no" }),
            Self::Address(address) => write!(f, "{address}"),
            Self::Acl(element) => write!(f, "{element}"),
            Self::Block(statements) => {
                f.write_str("{\n")?;
                statements.iter().try_for_each(|statement| statement.write(depth + 1, f))?;
                write!(f, "{:width$}}}", "", width = depth * 4)
            }
        }
    }
}

impl Statement {
    fn write(&self, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:width$}", "", width = depth * 4)?;
        for (position, value) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            value.write(depth, f)?;
        }
        f.write_str(";\n")
    }
}

/// The text for `named`, ended by a newline.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(0, f)
    }
}
