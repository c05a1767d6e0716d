//! Zone files (RFC 1035 section 5.1): text → records, and a version → text.
//!
//! ```text
//!   text ─ entries of tokens ─┬─ $ORIGIN, $TTL            change how the next entries are read
//!                             ├─ [owner] [ttl] [class] type data ─► Record, or the SOA
//!                             └─ anything else ─► ZoneFileProblem { line, column, mistake }
//! ```
//! Every mistake of a file is found in one reading, up to a bound; a file with a mistake yields no record at all. A
//! file never refers to another one, and an empty file is a mistake: emptied by accident, it must not delete a zone.
//! The `domain` crate reads the data of types with a grammar of their own; its zone-file reader is not used, since
//! it stops at the first error and knows no times with units (`$TTL 1h`).

mod read;
mod write;

use std::fmt;

use crate::content::Record;
use crate::name::{Name, NameError};
use crate::rdata::RdataError;
use crate::rrsets::Ttl;
use crate::serial::Serial;
use crate::soa::Soa;
use crate::text::{Position, SyntaxError};

/// Problems that one error lists.
const MAX_PROBLEMS: usize = 20;

/// The records of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFile {
    /// The SOA record, if there is one.
    pub soa: Option<Soa>,
    /// Its serial: a floor for the serials of the zone.
    pub serial: Option<Serial>,
    /// All other records in the order of the file; at least one.
    pub records: Vec<Record>,
}

/// A file that cannot be used, with what is wrong with it: at least one problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFileError {
    /// The first problems, in the order of the file.
    pub problems: Vec<ZoneFileProblem>,
    /// How many more there are.
    pub more: usize,
}

/// One mistake and where it is; line and column count from 1, the column in characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {mistake}")]
pub struct ZoneFileProblem {
    /// Line of the text.
    pub line: usize,
    /// Column in that line.
    pub column: usize,
    /// What is wrong and how to correct it.
    pub mistake: ZoneFileMistake,
}

/// What can be wrong in a zone file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneFileMistake {
    /// Nothing but comments, directives and the SOA.
    #[error(
        "the file has no records: to remove its records from the zone, remove the file from spec.zoneFilesFrom"
    )]
    Empty,
    /// `$INCLUDE`.
    #[error(
        "$INCLUDE is not supported: put the text of that file here, or list it as a zone file of its own"
    )]
    Include,
    /// `$GENERATE`.
    #[error("$GENERATE is not supported: write the records out")]
    Generate,
    /// Another word that starts with `$`.
    #[error(
        "{0:?} is not a known directive: use $ORIGIN or $TTL, or write \\$ for a name that starts with $"
    )]
    Directive(String),
    /// A directive after white space.
    #[error("{0} has to start in the first column")]
    IndentedDirective(String),
    /// A directive with more or fewer words than one.
    #[error("{0} takes exactly one value")]
    DirectiveValue(&'static str),
    /// A time that is none, or too long.
    #[error("{0:?} is not a TTL: write seconds from 0 to 2147483647, or a time as 1h30m")]
    Ttl(String),
    /// An indented record at the start of the file.
    #[error(
        "there is no record before this one whose name it could take: write its name in the first column"
    )]
    NoOwner,
    /// A quoted owner name.
    #[error("a name is written without quotes; write a space in it as \\032")]
    QuotedName,
    /// A record of another class.
    #[error("class {0} is not supported: records are of class IN")]
    Class(String),
    /// No type where one is expected.
    #[error("{0:?} is not a record type")]
    Type(String),
    /// A line that ends before the type.
    #[error("the record has no type: write NAME [TTL] [IN] TYPE DATA")]
    NoType,
    /// An SOA below the apex.
    #[error("the SOA record belongs at {zone}, not at {owner}")]
    SoaBelowApex {
        /// Where it is.
        owner: Name,
        /// The zone's name.
        zone: Name,
    },
    /// An NS record at a wildcard: named takes no zone that has one.
    #[error("an NS record cannot be at a wildcard (RFC 4592 section 4.2): delegate each name by itself")]
    WildcardDelegation,
    /// A CNAME where SOA and NS are.
    #[error(
        "a CNAME cannot be at the apex, where SOA and NS are (RFC 1034 section 3.6.2): use the addresses themselves"
    )]
    CnameAtApex,
    /// Two SOA records that differ.
    #[error("there is another SOA record above: keep one")]
    SecondSoa,
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The data of a record.
    #[error(transparent)]
    Rdata(#[from] RdataError),
    /// Quotes, parentheses, escapes.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
}

impl ZoneFile {
    /// Reads the text of a zone file for the zone `apex`. A record without a TTL has that of `$TTL`, else that of
    /// the record before it, else the SOA's negative TTL if it comes after the SOA, else `default_ttl`.
    ///
    /// ```
    /// # use bindy_zone::{Name, Ttl, ZoneFile};
    /// let apex = Name::parse("example.com")?;
    /// let file = ZoneFile::parse("$TTL 1h\nwww A 192.0.2.1\n    A 192.0.2.2", &apex, Ttl::saturating(300))?;
    /// assert_eq!(file.records.len(), 2);
    /// let error = ZoneFile::parse("www A 192.0.2", &apex, Ttl::saturating(300)).unwrap_err();
    /// assert!(error.to_string().starts_with("line 1, column 7: \"192.0.2\" is not the IPv4 address"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(text: &str, apex: &Name, default_ttl: Ttl) -> Result<Self, ZoneFileError> {
        read::read(text, apex, default_ttl)
    }
}

impl ZoneFileError {
    fn push(&mut self, Position { line, column }: Position, mistake: ZoneFileMistake) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(ZoneFileProblem { line, column, mistake });
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for ZoneFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            problem.fmt(f)?;
        }
        if self.more > 0 { write!(f, "; and {} more", self.more) } else { Ok(()) }
    }
}

impl std::error::Error for ZoneFileError {}
