//! What servers said over time, and what was done to them meanwhile: the input of the [checker](crate::checker).

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bindy_zone::{Name, Rtype, Serial};
use domain::base::iana::Rcode;

use crate::dns::Transport;
use crate::prober::Question;

/// Type, TTL and RDATA of the records at the name that was asked for.
pub type Records = BTreeSet<(Rtype, u32, Vec<u8>)>;

/// How a question ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer.
    Answer {
        /// The response code.
        rcode: Rcode,
        /// The answer's records at the name itself, without those that a CNAME leads to.
        records: Records,
        /// The serial of the SOA in the answer or authority section.
        serial: Option<Serial>,
    },
    /// Without, within the prober's limit.
    Lost,
}

/// One question to one server. Times count from the start of the history.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When it was sent.
    pub sent: Duration,
    /// When the answer arrived, or was given up.
    pub ended: Duration,
    /// The server's name.
    pub server: Arc<str>,
    /// How it was sent.
    pub transport: Transport,
    /// What was asked.
    pub question: Arc<Question>,
    /// What came back; shared with the observations before that were the same.
    pub outcome: Arc<Outcome>,
}

/// A time in which a test has a server stopped: it may leave questions unanswered, and until the next right answer
/// it may also say SERVFAIL or REFUSED.
#[derive(Clone, Debug)]
pub struct Outage {
    /// The server's name.
    pub server: Arc<str>,
    /// From when.
    pub from: Duration,
    /// Until when: the first right answer after the end closes it.
    pub until: Option<Duration>,
    /// It comes back with what its disk has, which may be older, and has the newest version at the end.
    pub loses: bool,
}

/// All observations of a test.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The observations, in the order in which they ended.
    pub observations: Vec<Observation>,
    /// What the test did.
    pub outages: Vec<Outage>,
    /// How many observations were not recorded because the history was full.
    pub dropped: usize,
}

impl Observation {
    /// One JSON object on one line.
    pub fn to_json(&self) -> String {
        let mut line = String::new();
        let transport = if self.transport == Transport::Udp { "udp" } else { "tcp" };
        let question = &self.question;
        let write = write!(
            line,
            r#"{{"sent_us":{},"ended_us":{},"server":{},"transport":"{transport}","name":{},"type":"{}""#,
            self.sent.as_micros(),
            self.ended.as_micros(),
            serde_json::Value::from(&*self.server),
            serde_json::Value::from(question.name.to_string()),
            question.rtype,
        );
        debug_assert!(write.is_ok(), "a String takes everything");
        match &*self.outcome {
            Outcome::Lost => line.push_str(r#","rcode":null"#),
            Outcome::Answer { rcode, records, serial } => {
                let records: Vec<String> = records.iter().map(show_record).collect();
                let serial = serial.map_or(serde_json::Value::Null, |serial| serial.get().into());
                let answer = serde_json::json!(records);
                line.push_str(&format!(r#","rcode":"{rcode}","serial":{serial},"answer":{answer}"#));
            }
        }
        line.push('}');
        line
    }
}

/// `300 A 127.0.0.1`, for explanations.
pub(crate) fn show_record((rtype, ttl, rdata): &(Rtype, u32, Vec<u8>)) -> String {
    format!("{ttl} {rtype} {}", bindy_zone::Rdata::from_canonical(rdata).display(*rtype))
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("no answer"),
            Self::Answer { rcode, records, serial } => {
                write!(f, "{rcode}")?;
                if let Some(serial) = serial {
                    write!(f, " with serial {serial}")?;
                }
                let records: Vec<String> = records.iter().map(show_record).collect();
                write!(f, " [{}]", records.join(", "))
            }
        }
    }
}

impl History {
    /// How many questions were asked, and how many of them stayed without an answer.
    pub fn asked_and_lost(&self) -> (usize, usize) {
        let lost =
            self.observations.iter().filter(|observation| *observation.outcome == Outcome::Lost).count();
        (self.observations.len(), lost)
    }

    /// The observations of one server about names within `zone`.
    pub fn of<'a>(&'a self, server: &'a str, zone: &'a Name) -> impl Iterator<Item = &'a Observation> {
        let wanted = move |o: &&Observation| &*o.server == server && o.question.name.is_within(zone);
        self.observations.iter().filter(wanted)
    }
}
