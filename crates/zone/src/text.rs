//! The lexical layer of zone-file text (RFC 1035 section 5.1): entries of tokens with their positions.
//!
//! ```text
//!   text ─ Entries ─► Entry { indented, tokens }     one line, or several that parentheses join; comments dropped
//! ```
//! Tokens borrow from the text and keep their escapes; [`Token::octets`] resolves them. An error ends one entry
//! only: the next one starts on the next line, so that a reader can report more than one problem.

use std::fmt;

/// A word or a quoted string.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    /// As written, escapes included, without quotes.
    pub(crate) text: &'a str,
    /// Whether it was in quotes.
    pub(crate) quoted: bool,
    /// Whether nothing separates it from the token before, as in `key="value"`.
    pub(crate) joined: bool,
    /// Where it starts.
    pub(crate) position: Position,
}

/// A place in a text, both numbers counted from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// The tokens of one entry; at least one.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// Whether white space comes before the first token: the owner name is that of the record before.
    pub(crate) indented: bool,
    pub(crate) tokens: Vec<Token<'a>>,
}

/// Text that cannot be split into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// A quote without its counterpart on the same line.
    #[error(
        "the quoted string does not end on its line: add the closing quote, or write a line break as \\010"
    )]
    OpenQuote,
    /// `(` without `)`.
    #[error("the parenthesis is never closed: add the missing `)`")]
    OpenParenthesis,
    /// `)` without `(`.
    #[error("there is no parenthesis to close here: remove the `)` or add the missing `(`")]
    ClosedTwice,
    /// A backslash that starts neither `\DDD` nor `\X`.
    #[error("unfinished escape: write \\\\ for a backslash, \\DDD with a value up to 255 for an octet")]
    Escape,
    /// A line break where a single line is expected.
    #[error("line break in the middle of the data: put the data in parentheses")]
    LineBreak,
}

/// The entries of a text in order.
pub(crate) struct Entries<'a> {
    rest: &'a str,
    line: usize,
    column: usize,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { rest: text, line: 1, column: 1 }
    }

    /// Where reading goes on.
    pub(crate) fn position(&self) -> Position {
        Position { line: self.line, column: self.column }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next()?;
        self.rest = characters.as_str();
        if character == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(character)
    }

    fn skip_line(&mut self) {
        while self.bump().is_some_and(|character| character != '\n') {}
    }

    /// Takes characters until `ends` says so; a backslash takes the next one with it, but no line break.
    fn take_until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let start = self.rest;
        while let Some(character) = self.peek().filter(|&character| !ends(character)) {
            self.bump();
            if character == '\\' && self.peek().is_some_and(|escaped| escaped != '\n' && escaped != '\r') {
                self.bump();
            }
        }
        start.get(..start.len() - self.rest.len()).unwrap_or_default()
    }

    fn word(&mut self) -> Token<'a> {
        let position = self.position();
        let text = self
            .take_until(|character| matches!(character, ' ' | '\t' | '\r' | '\n' | ';' | '(' | ')' | '"'));
        Token { text, quoted: false, joined: false, position }
    }

    fn quoted(&mut self) -> Result<Token<'a>, (Position, SyntaxError)> {
        let position = self.position();
        self.bump();
        let text = self.take_until(|character| matches!(character, '"' | '\n'));
        if self.peek() != Some('"') {
            return Err((position, SyntaxError::OpenQuote));
        }
        self.bump();
        Ok(Token { text, quoted: true, joined: false, position })
    }

    /// The next entry; blank lines and comments are none.
    pub(crate) fn next_entry(&mut self) -> Option<Result<Entry<'a>, (Position, SyntaxError)>> {
        let entry = self.read_entry();
        if entry.is_err() {
            self.skip_line();
        }
        entry.transpose()
    }

    fn read_entry(&mut self) -> Result<Option<Entry<'a>>, (Position, SyntaxError)> {
        let mut entry = Entry { indented: false, tokens: Vec::new() };
        let mut open: Vec<Position> = Vec::new();
        let mut joined = false;
        while let Some(character) = self.peek() {
            let after_token = std::mem::replace(
                &mut joined,
                !matches!(character, ' ' | '\t' | '\r' | '\n' | ';' | '(' | ')'),
            );
            match character {
                ' ' | '\t' | '\r' => {
                    entry.indented |= entry.tokens.is_empty() && open.is_empty();
                    self.bump();
                }
                ';' => {
                    self.take_until_line_end();
                }
                '\n' => {
                    self.bump();
                    if open.is_empty() && !entry.tokens.is_empty() {
                        return Ok(Some(entry));
                    }
                    entry.indented &= !open.is_empty();
                }
                '(' => {
                    open.push(self.position());
                    self.bump();
                }
                ')' => {
                    open.pop().ok_or((self.position(), SyntaxError::ClosedTwice))?;
                    self.bump();
                }
                '"' => entry.tokens.push(Token { joined: after_token, ..self.quoted()? }),
                _ => entry.tokens.push(Token { joined: after_token, ..self.word() }),
            }
        }
        match open.first() {
            Some(position) => Err((*position, SyntaxError::OpenParenthesis)),
            None => Ok(Some(entry).filter(|entry| !entry.tokens.is_empty())),
        }
    }

    fn take_until_line_end(&mut self) {
        while self.peek().is_some_and(|character| character != '\n') {
            self.bump();
        }
    }
}

impl Token<'_> {
    /// The octets that it stands for.
    pub(crate) fn octets(&self) -> Result<Vec<u8>, SyntaxError> {
        let mut octets = Vec::with_capacity(self.text.len());
        let mut rest = self.text.bytes();
        while let Some(octet) = rest.next() {
            if octet != b'\\' {
                octets.push(octet);
                continue;
            }
            let escaped = rest.next().ok_or(SyntaxError::Escape)?;
            if !escaped.is_ascii_digit() {
                octets.push(escaped);
                continue;
            }
            let mut value = u16::from(escaped - b'0');
            for _ in 0..2 {
                let digit = rest.next().filter(u8::is_ascii_digit).ok_or(SyntaxError::Escape)?;
                value = value * 10 + u16::from(digit - b'0');
            }
            octets.push(u8::try_from(value).map_err(|_| SyntaxError::Escape)?);
        }
        Ok(octets)
    }
}

/// A text as an error message shows it: its start, if it is long.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Writes octets as a quoted string.
pub(crate) fn write_quoted(octets: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for &octet in octets {
        match octet {
            b'"' | b'\\' => write!(f, "\\{}", octet as char)?,
            b' '..=b'~' => write!(f, "{}", octet as char)?,
            _ => write!(f, "\\{octet:03}")?,
        }
    }
    f.write_str("\"")
}

/// A length of time: seconds, or numbers with the units W, D, H, M and S as in `1h30m`.
pub(crate) fn parse_period(text: &str) -> Option<u32> {
    if text.is_empty() || !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let (mut total, mut number) = (0u32, None::<u32>);
    for character in text.chars() {
        if let Some(digit) = character.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
            continue;
        }
        let unit = match character.to_ascii_lowercase() {
            'w' => 604_800,
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    match number {
        Some(_) if total > 0 => None,
        Some(number) => Some(number),
        None => Some(total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<String>> {
        let mut entries = Entries::new(text);
        std::iter::from_fn(|| entries.next_entry())
            .map(|entry| entry.unwrap().tokens.iter().map(|token| token.text.to_owned()).collect())
            .collect()
    }

    #[test]
    fn parentheses_join_lines_and_comments_vanish() {
        assert_eq!(words("a ( b ; c )\n d )e\nf"), vec![vec!["a", "b", "d", "e"], vec!["f"]]);
        assert_eq!(words("a \"b;(\" c\\;d\r\n\r\n"), vec![vec!["a", "b;(", "c\\;d"]]);
    }

    #[test]
    fn errors_have_positions_and_the_next_line_is_read() {
        let mut entries = Entries::new("a \"b\n x )\nok");
        assert_eq!(
            entries.next_entry().unwrap().unwrap_err(),
            (Position { line: 1, column: 3 }, SyntaxError::OpenQuote)
        );
        assert_eq!(
            entries.next_entry().unwrap().unwrap_err(),
            (Position { line: 2, column: 4 }, SyntaxError::ClosedTwice)
        );
        assert_eq!(entries.next_entry().unwrap().unwrap().tokens[0].text, "ok");
        assert!(entries.next_entry().is_none());
    }

    #[test]
    fn periods_have_units() {
        assert_eq!(parse_period("1h30m"), Some(5400));
        assert_eq!(parse_period("2W"), Some(1_209_600));
        assert_eq!(parse_period("3600"), Some(3600));
        for wrong in ["", "h", "1h30", "1x", "-1", "4294967296", "9999999w"] {
            assert_eq!(parse_period(wrong), None, "{wrong}");
        }
    }
}
