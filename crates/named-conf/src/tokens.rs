//! The serializer held against an independent reader of BIND's lexical rules.
//!
//! The reader follows `isc_lex` as the configuration parser uses it: `#`, `//` and `/* */` are comments, `{ } ; !` are
//! tokens of their own, a quoted string ends at the first quote without a backslash before it and not at a line's end.

use bindy_zone::Name;

use crate::statement::quoted_name;
use crate::{AclElement, Statement, Text, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Bare(String),
    Quoted(String),
    Special(char),
}

/// What [`round_trip`] found wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration does not read back as it was written:\n{0}")]
pub struct RoundTripError(String);

/// Builds statements from arbitrary octets, writes them, reads them back, and compares. Every string of `input` that
/// [`Text`], [`Name`] and [`AclElement`] accept goes into the tree.
pub fn round_trip(input: &[u8]) -> Result<(), RoundTripError> {
    let mut statements = vec![Statement::new("options")];
    for chunk in input.split(|&octet| octet == 0) {
        let Some((&kind, octets)) = chunk.split_first() else { continue };
        let string = String::from_utf8_lossy(octets);
        let value = match kind % 6 {
            0 => Text::new(string).ok().map(Value::Text),
            1 => Name::parse(&string).ok().map(Value::Name),
            2 => string.parse().ok().map(Value::Acl),
            3 => string.parse().ok().map(Value::Number),
            4 => Name::from_wire(octets).ok().map(|name| Value::Acl(AclElement::Key(name))),
            _ => Some(Value::Block(std::mem::replace(&mut statements, vec![Statement::new("zone")]))),
        };
        if let (Some(value), Some(statement)) = (value, statements.last_mut()) {
            statement.0.push(value);
        }
        if kind >= 128 {
            statements.push(Statement::new("include"));
        }
    }
    let text: String = statements.iter().map(Statement::to_string).collect();
    let mut wanted = Vec::new();
    statements.iter().for_each(|statement| push_statement(statement, &mut wanted));
    if tokenise(&text).as_ref() == Some(&wanted) { Ok(()) } else { Err(RoundTripError(text)) }
}

fn push_statement(statement: &Statement, tokens: &mut Vec<Token>) {
    let bare = |text: String| Token::Bare(text);
    for value in &statement.0 {
        match value {
            Value::Word(word) => tokens.push(bare((*word).to_owned())),
            Value::Literal(text) => tokens.push(Token::Quoted((*text).to_owned())),
            Value::Text(text) => tokens.push(Token::Quoted(text.as_str().to_owned())),
            Value::Name(name) => tokens.push(Token::Quoted(quoted_name(name).trim_matches('"').to_owned())),
            Value::Number(number) => tokens.push(bare(number.to_string())),
            Value::Mebibytes(number) => tokens.push(bare(format!("{number}M"))),
            Value::YesNo(yes) => tokens.push(bare(if *yes { "yes" } else { "no" }.to_owned())),
            Value::Address(address) => tokens.push(bare(address.to_string())),
            Value::Acl(element) => push_acl(element, tokens),
            Value::Block(statements) => {
                tokens.push(Token::Special('{'));
                statements.iter().for_each(|statement| push_statement(statement, tokens));
                tokens.push(Token::Special('}'));
            }
        }
    }
    tokens.push(Token::Special(';'));
}

fn push_acl(element: &AclElement, tokens: &mut Vec<Token>) {
    match element {
        AclElement::Not(inner) => {
            tokens.push(Token::Special('!'));
            push_acl(inner, tokens);
        }
        AclElement::Key(name) => {
            tokens.push(Token::Bare("key".to_owned()));
            tokens.push(Token::Quoted(quoted_name(name).trim_matches('"').to_owned()));
        }
        plain => tokens.push(Token::Bare(plain.to_string())),
    }
}

/// The tokens of a configuration file; `None` where BIND reports an error.
fn tokenise(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => {}
            '{' | '}' | ';' | '!' => tokens.push(Token::Special(character)),
            '"' => tokens.push(Token::Quoted(read_quoted(&mut rest)?)),
            '#' => rest.by_ref().take_while(|&c| c != '\n').for_each(drop),
            '/' if rest.peek() == Some(&'/') => rest.by_ref().take_while(|&c| c != '\n').for_each(drop),
            '/' if rest.peek() == Some(&'*') => return None,
            first => {
                let mut bare = String::from(first);
                while let Some(next) = rest.next_if(|&c| !" \t\n\r{};!\"#".contains(c)) {
                    bare.push(next);
                }
                tokens.push(Token::Bare(bare));
            }
        }
    }
    Some(tokens)
}

fn read_quoted(rest: &mut impl Iterator<Item = char>) -> Option<String> {
    let mut quoted = String::new();
    let mut escaped = false;
    loop {
        match rest.next()? {
            '"' if escaped => {
                quoted.pop();
                quoted.push('"');
                escaped = false;
            }
            '"' => return Some(quoted),
            '\n' if !escaped => return None,
            character => {
                escaped = character == '\\' && !escaped;
                quoted.push(character);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_reader_tells_strings_from_what_follows_them() {
        let tokens = tokenise("file \"a;b\" ; # \"}\n! x;").unwrap();
        assert_eq!(tokens.len(), 6);
        assert_eq!(tokens[1], Token::Quoted("a;b".to_owned()));
        assert_eq!(tokenise("file \"a\n\";"), None);
        assert_eq!(tokenise("\"a\\\"b\""), Some(vec![Token::Quoted("a\"b".to_owned())]));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            round_trip(&input).unwrap();
        }

        #[test]
        fn hostile_text_reads_back_or_is_refused(text in "[;{}\"\\\\\n\t #/*!a$]{0,24}", kind in 0u8..6) {
            let input = [&[kind], text.as_bytes()].concat();
            round_trip(&input).unwrap();
        }
    }
}
