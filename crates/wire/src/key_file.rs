//! Files with TSIG keys: Bindy's own form, `NAME SECRET` a line, and BIND's `key` statements as `tsig-keygen` prints them.

use bindy_zone::Name;

use crate::keys::{Key, KeyError};

/// The algorithm of all keys, as BIND calls it.
const ALGORITHM: &str = "hmac-sha256";

/// The keys of a file in either form, each with the number of the line that it begins in, the first line being 1.
pub fn read_keys(text: &str) -> Vec<(usize, Result<Key, KeyError>)> {
    if !text.lines().any(|line| line.split_whitespace().next() == Some("key")) {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        return lines.map(|(number, line)| (number + 1, line.parse())).collect();
    }
    let tokens = tokens(text);
    let mut rest = tokens.as_slice();
    let mut keys = Vec::new();
    while let Some((line, _)) = rest.first() {
        let key = statement(&mut rest);
        let failed = key.is_err();
        keys.push((*line, key));
        if failed {
            break;
        }
    }
    keys
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Mark(char),
}

type Tokens<'a> = &'a [(usize, Token)];

/// `key NAME { algorithm hmac-sha256; secret BASE64; };`
fn statement(rest: &mut Tokens<'_>) -> Result<Key, KeyError> {
    if word(rest)? != "key" {
        return Err(KeyError::Statement);
    }
    let name = Name::parse(word(rest)?)?;
    mark(rest, '{')?;
    let (mut algorithm, mut secret) = (None, None);
    while !matches!(rest.first(), Some((_, Token::Mark('}')))) {
        let field = match word(rest)? {
            "algorithm" => &mut algorithm,
            "secret" => &mut secret,
            _ => return Err(KeyError::Statement),
        };
        *field = Some(word(rest)?);
        mark(rest, ';')?;
    }
    mark(rest, '}')?;
    mark(rest, ';')?;
    let (Some(algorithm), Some(secret)) = (algorithm, secret) else { return Err(KeyError::Statement) };
    if !algorithm.trim_end_matches('.').eq_ignore_ascii_case(ALGORITHM) {
        return Err(KeyError::Algorithm { name, algorithm: algorithm.to_owned() });
    }
    format!("{name} {secret}").parse()
}

fn word<'a>(rest: &mut Tokens<'a>) -> Result<&'a str, KeyError> {
    match rest.split_first() {
        Some(((_, Token::Word(word)), after)) => {
            *rest = after;
            Ok(word)
        }
        _ => Err(KeyError::Statement),
    }
}

fn mark(rest: &mut Tokens<'_>, wanted: char) -> Result<(), KeyError> {
    match rest.split_first() {
        Some(((_, Token::Mark(mark)), after)) if *mark == wanted => {
            *rest = after;
            Ok(())
        }
        _ => Err(KeyError::Statement),
    }
}

/// Words, quoted or not, and marks; comments of all three kinds left out.
fn tokens(text: &str) -> Vec<(usize, Token)> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let token = token_length(rest);
        let (taken, after) = rest.split_at(token);
        match first {
            '{' | '}' | ';' => tokens.push((line, Token::Mark(first))),
            '"' => tokens.push((line, Token::Word(taken.trim_matches('"').to_owned()))),
            _ if first.is_whitespace() || is_comment(taken) => {}
            _ => tokens.push((line, Token::Word(taken.to_owned()))),
        }
        line += taken.matches('\n').count();
        rest = after;
    }
    tokens
}

fn is_comment(text: &str) -> bool {
    ["#", "//", "/*"].iter().any(|start| text.starts_with(start))
}

/// Octets of the token, comment or space that `rest` begins with.
fn token_length(rest: &str) -> usize {
    let until = |found: Option<usize>| found.unwrap_or(rest.len());
    let after = |skip: usize, end: &str| {
        let found = rest.get(skip..).and_then(|rest| rest.find(end));
        until(found.map(|at| skip + at + end.len()))
    };
    match rest {
        _ if rest.starts_with("/*") => after(2, "*/"),
        _ if is_comment(rest) => after(1, "\n"),
        _ if rest.starts_with('"') => after(1, "\""),
        _ if rest.starts_with(['{', '}', ';']) => 1,
        _ if rest.starts_with(char::is_whitespace) => until(rest.find(|c: char| !c.is_whitespace())),
        _ => until(rest.find(|c: char| c.is_whitespace() || ['{', '}', ';', '"'].contains(&c))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    /// In quotes what would begin a comment is text.
    const SLASHES: &str = "//8CAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn names(text: &str) -> Vec<(usize, Result<String, String>)> {
        let told = |key: Result<Key, KeyError>| match key {
            Ok(key) => Ok(key.name().to_string()),
            Err(error) => Err(error.to_string()),
        };
        read_keys(text).into_iter().map(|(line, key)| (line, told(key))).collect()
    }

    #[test]
    fn what_tsig_keygen_prints_is_a_key() {
        let text =
            format!("key \"hq-transfer\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{SLASHES}\";\n}};\n");
        let keys = read_keys(&text);
        assert_eq!(keys.len(), 1);
        let key = keys[0].1.as_ref().unwrap();
        assert_eq!(
            (key.name().to_string().as_str(), key.secret_base64().as_str()),
            ("hq-transfer.", SLASHES)
        );
    }

    #[test]
    fn statements_may_have_comments_and_any_layout_and_lines_are_told() {
        let text = format!(
            "# one\n/* two\n three */ // four\nkey a.example. {{secret {SECRET};algorithm \"HMAC-SHA256.\";}};\n\
             key b {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};"
        );
        assert_eq!(names(&text), [(4, Ok("a.example.".to_owned())), (5, Ok("b.".to_owned()))]);
    }

    #[test]
    fn lines_of_two_words_are_keys_too() {
        let text = format!("a.dns.prod.key.bindy. {SECRET}\n\nk.elsewhere. {SECRET}\n");
        let expected = [(1, Ok("a.dns.prod.key.bindy.".to_owned())), (3, Ok("k.elsewhere.".to_owned()))];
        assert_eq!(names(&text), expected);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for (text, told) in [
            (format!("key k {{ algorithm hmac-md5; secret \"{SECRET}\"; }};"), "hmac-md5"),
            (format!("key k {{ secret \"{SECRET}\"; }};"), "key statement"),
            (format!("key k {{ algorithm hmac-sha256; secret \"{SECRET}\"; }}"), "key statement"),
            ("key k { algorithm hmac-sha256; secret \"c2hvcnQ=\"; };".to_owned(), "octets"),
            (format!("zone k {{ }};\nkey k {{ secret {SECRET}; }};"), "key statement"),
            ("key \"k".to_owned(), "key statement"),
        ] {
            let found = names(&text);
            let error = found[0].1.clone().unwrap_err();
            assert!(error.contains(told) && !error.contains(SECRET), "{text}: {error}");
        }
    }
}
