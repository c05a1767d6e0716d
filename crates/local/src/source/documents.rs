//! The documents of a file, found without parsing them.
//!
//! A line that starts with `---` ends a document whatever it is in (YAML 1.2 section 9.1.2), so a broken document
//! does not hide its neighbours, and a document whose text is the same as before is not parsed again.

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    /// Its first line in the file, from 1.
    pub(crate) first_line: u64,
    /// Its text without the marker.
    pub(crate) text: &'a str,
}

/// The documents of `text`, without those that hold nothing but comments.
pub(crate) fn split(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    let mut offset = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let end = offset;
        offset += line.len();
        if !is_marker(line) {
            continue;
        }
        push(&mut documents, first_line, text.get(start..end));
        // What follows the marker on its line belongs to the document that begins there.
        (start, first_line) = if line.trim_end().len() > 3 && line.starts_with('-') {
            (end + 3, number)
        } else {
            (offset, number + 1)
        };
    }
    push(&mut documents, first_line, text.get(start..));
    documents
}

fn is_marker(line: &str) -> bool {
    ["---", "..."]
        .iter()
        .filter_map(|marker| line.strip_prefix(marker))
        .any(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn push<'a>(documents: &mut Vec<Document<'a>>, first_line: u64, text: Option<&'a str>) {
    let blank = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
    if let Some(text) = text.filter(|text| !text.lines().all(blank)) {
        documents.push(Document { first_line, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(u64, &str)> {
        split(text).into_iter().map(|document| (document.first_line, document.text)).collect()
    }

    #[test]
    fn documents_begin_after_their_marker() {
        assert_eq!(
            lines("a: 1\n---\nb: 2\n--- # note\nc: 3\n"),
            [(1, "a: 1\n"), (3, "b: 2\n"), (4, " # note\nc: 3\n")]
        );
        assert_eq!(lines("---\r\na: 1\r\n...\r\n---\r\n# nothing\r\n"), [(2, "a: 1\r\n")]);
        assert_eq!(lines("\u{feff}a: 1"), [(1, "a: 1")]);
    }

    #[test]
    fn dashes_within_text_are_no_marker() {
        assert_eq!(lines("a: |\n  ---\n----\n").len(), 1);
        assert_eq!(lines("# only\n\n  # comments\n"), []);
    }
}
