//! The reader: one pass over the entries, with the state that directives and records leave to the next ones.

use domain::base::iana::{Class, Rtype};

use super::{ZoneFile, ZoneFileError, ZoneFileMistake};
use crate::content::Record;
use crate::name::{Name, OwnerName};
use crate::rdata::{Rdata, RdataError};
use crate::rrsets::Ttl;
use crate::soa::Soa;
use crate::text::{Entries, Entry, Position, Token, excerpt, parse_period};

type Problem = (Position, ZoneFileMistake);

pub(super) fn read(text: &str, apex: &Name, default_ttl: Ttl) -> Result<ZoneFile, ZoneFileError> {
    let mut reader = Reader::new(apex, default_ttl);
    let mut error = ZoneFileError { problems: Vec::new(), more: 0 };
    // A byte order mark is not part of the text.
    let mut entries = Entries::new(text.strip_prefix('\u{feff}').unwrap_or(text));
    while let Some(entry) = entries.next_entry() {
        let done = match entry {
            Ok(entry) => reader.entry(&entry),
            Err((position, syntax)) => Err((position, syntax.into())),
        };
        if let Err((position, mistake)) = done {
            error.push(position, mistake);
        }
    }
    if error.problems.is_empty() && reader.file.records.is_empty() {
        error.push(entries.position(), ZoneFileMistake::Empty);
    }
    if error.problems.is_empty() { Ok(reader.file) } else { Err(error) }
}

struct Reader<'a> {
    apex: &'a Name,
    origin: Name,
    /// Of the record before; inside an error where that owner cannot be used.
    owner: Option<Result<OwnerName, ()>>,
    /// `$TTL`, or what an SOA without a TTL sets.
    dollar_ttl: Option<Ttl>,
    /// The last TTL that a record gave itself.
    last_ttl: Option<Ttl>,
    default_ttl: Ttl,
    file: ZoneFile,
}

/// What comes before the data of a record.
struct Head {
    ttl: Option<Ttl>,
    rtype: Rtype,
}

impl<'a> Reader<'a> {
    fn new(apex: &'a Name, default_ttl: Ttl) -> Self {
        let file = ZoneFile { soa: None, serial: None, records: Vec::new() };
        let origin = apex.clone();
        Self { apex, origin, owner: None, dollar_ttl: None, last_ttl: None, default_ttl, file }
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), Problem> {
        let Some((first, rest)) = entry.tokens.split_first() else { return Ok(()) };
        if first.text.starts_with('$') {
            let mistake = |mistake| Err((first.position, mistake));
            return match first.text.to_ascii_uppercase().as_str() {
                "$INCLUDE" => mistake(ZoneFileMistake::Include),
                "$GENERATE" => mistake(ZoneFileMistake::Generate),
                _ if first.quoted => mistake(ZoneFileMistake::QuotedName),
                name @ ("$ORIGIN" | "$TTL") if entry.indented => {
                    mistake(ZoneFileMistake::IndentedDirective(name.to_owned()))
                }
                "$ORIGIN" => self.set_origin(first, rest),
                "$TTL" => self.set_ttl(first, rest),
                _ => mistake(ZoneFileMistake::Directive(excerpt(first.text))),
            };
        }
        if entry.indented {
            let Some(owner) = self.owner.clone() else {
                return Err((first.position, ZoneFileMistake::NoOwner));
            };
            // The mistake in the owner name was reported where it is; the data is still checked.
            return self.record(owner.ok(), first.position, &entry.tokens);
        }
        let owner = self.read_owner(first);
        self.owner = Some(owner.clone().map_err(|_| ()));
        let record = self.record(owner.as_ref().ok().cloned(), first.position, rest);
        owner.and(record)
    }

    fn set_origin(&mut self, directive: &Token<'_>, rest: &[Token<'_>]) -> Result<(), Problem> {
        let [value] = rest else {
            return Err((directive.position, ZoneFileMistake::DirectiveValue("$ORIGIN")));
        };
        self.origin =
            Name::parse_in(value.text, &self.origin).map_err(|error| (value.position, error.into()))?;
        Ok(())
    }

    fn set_ttl(&mut self, directive: &Token<'_>, rest: &[Token<'_>]) -> Result<(), Problem> {
        let [value] = rest else {
            return Err((directive.position, ZoneFileMistake::DirectiveValue("$TTL")));
        };
        self.dollar_ttl = Some(read_ttl(value)?);
        Ok(())
    }

    fn read_owner(&self, token: &Token<'_>) -> Result<OwnerName, Problem> {
        if token.quoted {
            return Err((token.position, ZoneFileMistake::QuotedName));
        }
        let at = |error: crate::NameError| (token.position, error.into());
        let name = Name::parse_in(token.text, &self.origin).map_err(at)?;
        let outside = || at(crate::NameError::OutOfZone { name: name.clone(), zone: self.apex.clone() });
        name.relative_to(self.apex).ok_or_else(outside)
    }

    /// Reads everything after the owner name; without an owner the record is only checked.
    fn record(
        &mut self,
        owner: Option<OwnerName>,
        start: Position,
        tokens: &[Token<'_>],
    ) -> Result<(), Problem> {
        let (head, data) = read_head(start, tokens)?;
        if let Some(ttl) = head.ttl {
            self.last_ttl = Some(ttl);
        }
        let position = data.first().map_or(start, |token| token.position);
        let rdata = Rdata::from_tokens(head.rtype, data, &self.origin).map_err(|error| {
            let place = place_of(&error, data).unwrap_or(position);
            (place, error.into())
        })?;
        let Some(owner) = owner else { return Ok(()) };
        if head.rtype == Rtype::SOA {
            return self.set_soa(&owner, head.ttl, &rdata).map_err(|mistake| (start, mistake));
        }
        let mistake = match head.rtype {
            Rtype::NS if owner.is_wildcard() => Some(ZoneFileMistake::WildcardDelegation),
            Rtype::CNAME if owner.is_apex() => Some(ZoneFileMistake::CnameAtApex),
            _ => None,
        };
        if let Some(mistake) = mistake {
            return Err((start, mistake));
        }
        let ttl = head.ttl.or(self.dollar_ttl).or(self.last_ttl).unwrap_or(self.default_ttl);
        let rdata = rdata.as_wire().into();
        self.file.records.push(Record { owner, rtype: head.rtype, ttl, rdata });
        Ok(())
    }

    fn set_soa(&mut self, owner: &OwnerName, ttl: Option<Ttl>, rdata: &Rdata) -> Result<(), ZoneFileMistake> {
        if !owner.is_apex() {
            let owner = owner.in_zone(self.apex);
            return Err(ZoneFileMistake::SoaBelowApex { owner, zone: self.apex.clone() });
        }
        let (mut soa, serial) = Soa::from_rdata(0, rdata.as_wire())?;
        let known = ttl.or(self.dollar_ttl).or(self.last_ttl);
        let ttl = known.unwrap_or(Ttl::saturating(soa.negative_ttl));
        if known.is_none() {
            self.dollar_ttl = Some(ttl);
        }
        soa.ttl = ttl.get();
        let (soa, serial) = (Some(soa), Some(serial));
        if self.file.soa.is_some() && (self.file.soa != soa || self.file.serial != serial) {
            return Err(ZoneFileMistake::SecondSoa);
        }
        self.file.soa = soa;
        self.file.serial = serial;
        Ok(())
    }
}

/// Reads `[ttl] [class] type` or `[class] [ttl] type` and returns the rest.
fn read_head<'a, 't>(start: Position, tokens: &'a [Token<'t>]) -> Result<(Head, &'a [Token<'t>]), Problem> {
    let (mut ttl, mut class) = (None, None);
    let mut rest = tokens;
    loop {
        let Some((token, after)) = rest.split_first() else { return Err((start, ZoneFileMistake::NoType)) };
        rest = after;
        if ttl.is_none() && token.text.starts_with(|first: char| first.is_ascii_digit()) {
            ttl = Some(read_ttl(token)?);
        } else if let Some(found) = read_class(token.text).filter(|_| class.is_none()) {
            if found != Class::IN {
                return Err((token.position, ZoneFileMistake::Class(found.to_string())));
            }
            class = Some(found);
        } else {
            let wrong = || (token.position, ZoneFileMistake::Type(excerpt(token.text)));
            let rtype = token.text.parse().ok().filter(|_| !token.quoted).ok_or_else(wrong)?;
            return Ok((Head { ttl, rtype }, rest));
        }
    }
}

fn read_ttl(token: &Token<'_>) -> Result<Ttl, Problem> {
    parse_period(token.text)
        .and_then(Ttl::new)
        .ok_or_else(|| (token.position, ZoneFileMistake::Ttl(excerpt(token.text))))
}

/// A class; `ANY` is the type of that name here.
fn read_class(text: &str) -> Option<Class> {
    text.parse().ok().filter(|class| *class != Class::ANY)
}

/// The word that an error is about.
fn place_of(error: &RdataError, data: &[Token<'_>]) -> Option<Position> {
    let wrong = match error {
        RdataError::Field { text, .. } | RdataError::Extra { text, .. } => text,
        _ => return None,
    };
    data.iter().find(|token| excerpt(token.text) == *wrong).map(|token| token.position)
}
