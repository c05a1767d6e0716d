//! Which configuration each server runs with: agents are asked until their named has taken what its instance asks for.
//!
//! ```text
//!   fleet ──what is wanted──┐
//!                           ├─► Asked (a server) ──TXT, with pauses that grow──► agent
//!   pods ──who is ready─────┘        └──► Heard ──► status of the instance
//! ```
//! A changed configuration reaches pods that run, some time after it was applied. Who has it is asked nothing more until
//! something else is wanted of it, or it is started anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bindy_engine::{EngineHandle, Server, sleep_until};
use bindy_model::{CONFIG_QUESTION, ConfigDigests, ConfigStates, NamespacedName, ServerId};
use bindy_wire::{ClientError, Connection, Endpoint};
use bindy_zone::{Name, Rtype};
use futures::{StreamExt, stream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fleet::Reports;
use crate::servers::{self, QUESTIONS, TIMEOUTS};

/// The pauses before each question after the first; the last one repeats.
const PAUSES_MS: [u64; 5] = [100, 200, 500, 1_000, 2_000];
/// Questions in a row without an answer after which it is said that there is none.
const SILENCES: usize = 3;

/// What a server says of its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// This.
    Said(ConfigStates),
    /// It gives no answer, for this reason.
    Nothing(String),
}

/// What every server that was asked says; the others were not asked yet.
pub(crate) type AllHeard = Arc<BTreeMap<ServerId, Heard>>;

/// One server, and how far it has come.
#[derive(Clone, Debug)]
struct Asked {
    server: Server,
    /// What it should run with.
    wanted: ConfigDigests,
    heard: Option<Heard>,
    /// Questions since something else was wanted.
    attempt: usize,
    /// When it is asked next; `None`: it has what is wanted.
    due: Option<Instant>,
}

impl Asked {
    fn new(server: &Server, wanted: &ConfigDigests, heard: Option<Heard>, now: Instant) -> Self {
        Self { server: server.clone(), wanted: wanted.clone(), heard, attempt: 0, due: Some(now) }
    }

    fn take(&mut self, answer: Result<ConfigStates, ClientError>, now: Instant) {
        let pause = PAUSES_MS.get(self.attempt).or(PAUSES_MS.last()).copied().unwrap_or_default();
        self.attempt += 1;
        match answer {
            Ok(state) => self.heard = Some(Heard::Said(state)),
            Err(error) if self.attempt >= SILENCES => {
                self.heard.get_or_insert_with(|| Heard::Nothing(error.to_string()));
            }
            Err(_) => {}
        }
        let has = self.heard.as_ref().is_some_and(|heard| has(heard, &self.wanted));
        self.due = (!has).then_some(now + Duration::from_millis(pause));
    }
}

fn has(heard: &Heard, wanted: &ConfigDigests) -> bool {
    matches!(heard, Heard::Said(states) if states.has(wanted))
}

/// Asks the servers of the instances that are reported on.
pub(crate) struct Configs {
    pub(crate) engine: EngineHandle,
    pub(crate) reports: watch::Receiver<Arc<Reports>>,
    pub(crate) servers: watch::Receiver<servers::Known>,
    pub(crate) heard: watch::Sender<AllHeard>,
}

impl Configs {
    /// Asks until cancelled, and has the instances looked at of which something is heard.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let Ok(question) = Name::parse(CONFIG_QUESTION) else { return };
        let mut asked = BTreeMap::new();
        loop {
            let reports = self.reports.borrow_and_update().clone();
            let servers = self.servers.borrow_and_update().clone();
            let now = Instant::now();
            asked = follow(asked, servers.as_deref().map_or(&[], Vec::as_slice), &reports, now);
            let due = asked.iter().filter(|(_, one)| one.due.is_some_and(|due| due <= now));
            let due: Vec<(ServerId, Endpoint)> =
                due.map(|(id, one)| (id.clone(), one.server.endpoint.clone())).collect();
            self.tell(&asked).await;
            if due.is_empty() {
                let next = asked.values().filter_map(|one| one.due).min();
                tokio::select! {
                    () = cancel.cancelled() => return,
                    changed = self.reports.changed() => if changed.is_err() { return },
                    changed = self.servers.changed() => if changed.is_err() { return },
                    () = sleep_until(next) => {}
                }
                continue;
            }
            let question = &question;
            let answers = stream::iter(due)
                .map(|(id, endpoint)| async move { (id, ask(&endpoint, question).await) })
                .buffer_unordered(QUESTIONS)
                .collect::<Vec<_>>();
            let Some(answers) = cancel.run_until_cancelled(answers).await else { return };
            for (id, answer) in answers {
                if let Some(one) = asked.get_mut(&id) {
                    one.take(answer, Instant::now());
                }
            }
        }
    }

    /// Says what was heard, and has the instances looked at for which it is something else than before.
    async fn tell(&self, asked: &BTreeMap<ServerId, Asked>) {
        let heard = asked.iter().filter_map(|(id, one)| Some((id.clone(), one.heard.clone()?)));
        let now: AllHeard = Arc::new(heard.collect());
        let before = self.heard.send_replace(Arc::clone(&now));
        let changed = now.keys().filter(|id| before.get(*id) != now.get(*id));
        let changed: BTreeSet<&NamespacedName> = changed.map(|id| &id.instance).collect();
        for instance in changed {
            self.engine.look_at(instance.clone()).await;
        }
    }
}

/// The servers that have to be asked now, with what was heard of them before. One that was started anew, or is not ready,
/// has not said anything.
fn follow(
    mut before: BTreeMap<ServerId, Asked>,
    servers: &[Server],
    reports: &Reports,
    now: Instant,
) -> BTreeMap<ServerId, Asked> {
    let ready = servers.iter().filter(|server| server.state.ready);
    let asked = ready.filter_map(|server| {
        let id = &server.state.id;
        let wanted = reports.get(&id.instance)?.config.as_ref()?;
        let known = before.remove(id).filter(|one| one.server.state.incarnation == server.state.incarnation);
        let asked = match known {
            Some(known) if known.wanted == *wanted => Asked { server: server.clone(), ..known },
            // Who was heard to have it may have something else by now.
            known => {
                let heard = known.and_then(|known| known.heard);
                Asked::new(server, wanted, heard.filter(|heard| !has(heard, wanted)), now)
            }
        };
        Some((id.clone(), asked))
    });
    asked.collect()
}

async fn ask(endpoint: &Endpoint, question: &Name) -> Result<ConfigStates, ClientError> {
    let answer = Connection::open(endpoint, TIMEOUTS).await?.query(question, Rtype::TXT).await?;
    let texts = answer.records.iter().filter(|record| record.rtype == Rtype::TXT);
    let states = ConfigStates::from_rdata(texts.map(|record| &*record.rdata));
    states.ok_or(ClientError::Malformed("it does not say which configuration it runs with"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::WorkloadReport;
    use bindy_model::{ConfigState, ServerState};

    fn reports(config: &str) -> Reports {
        let report = WorkloadReport {
            uid: "u".to_owned(),
            generation: 1,
            problems: Vec::new(),
            waits: false,
            config: Some(digests(config)),
            addresses: None,
            pods: None,
            former: None,
            troubles: Vec::new(),
            outside: Vec::new(),
        };
        [(NamespacedName::new("default", "dns"), report)].into()
    }

    fn server(incarnation: u64, ready: bool) -> Server {
        let id = ServerId { instance: NamespacedName::new("default", "dns"), name: "dns-1".to_owned() };
        Server {
            state: ServerState { id, incarnation, ready, going: false },
            endpoint: Endpoint { address: "192.0.2.1:5353".parse().unwrap(), key: None },
        }
    }

    fn digests(of: &str) -> ConfigDigests {
        ConfigDigests { named: of.to_owned(), agent: of.to_owned() }
    }

    fn taken(digest: &str) -> ConfigStates {
        let state = ConfigState::Taken(digest.to_owned());
        ConfigStates { named: state.clone(), agent: Some(state) }
    }

    #[test]
    fn a_server_is_asked_until_it_has_what_is_wanted_and_again_when_that_changes_or_it_starts_anew() {
        let now = Instant::now();
        let after = |before: &BTreeMap<ServerId, Asked>, server: Server, wanted: &str| {
            follow(before.clone(), &[server], &reports(wanted), now)
        };
        let one = |asked: &BTreeMap<ServerId, Asked>| asked.values().next().unwrap().clone();
        let mut asked = after(&BTreeMap::new(), server(1, true), "first");
        assert_eq!(one(&asked).due, Some(now));
        let mut at = now;
        for pause in [100, 200, 500, 1_000, 2_000, 2_000] {
            asked.values_mut().for_each(|one| one.take(Ok(taken("none")), at));
            let due = one(&asked).due.unwrap();
            assert_eq!(due - at, Duration::from_millis(pause));
            at = due;
        }
        asked.values_mut().for_each(|one| one.take(Ok(taken("first")), at));
        assert_eq!(one(&asked).due, None);
        assert_eq!(one(&after(&asked, server(1, true), "first")).due, None, "asked for what it has");
        let changed = one(&after(&asked, server(1, true), "second"));
        assert_eq!((changed.due, changed.heard), (Some(now), Some(Heard::Said(taken("first")))));
        let again = one(&after(&after(&asked, server(1, true), "second"), server(1, true), "first"));
        assert_eq!((again.due, again.heard), (Some(now), None), "it may have taken the second one meanwhile");
        let anew = one(&after(&asked, server(2, true), "first"));
        assert_eq!((anew.due, anew.heard), (Some(now), None));
        assert!(after(&asked, server(1, false), "first").is_empty(), "it is not ready");
    }

    #[test]
    fn one_question_without_an_answer_says_nothing_and_three_do() {
        let now = Instant::now();
        let mut asked = Asked::new(&server(1, true), &digests("first"), None, now);
        let heard = [(); SILENCES].map(|()| {
            asked.take(Err(ClientError::Closed), now);
            asked.heard.is_some()
        });
        assert_eq!(heard, [false, false, true]);
        asked.take(Ok(taken("first")), now);
        assert_eq!((asked.heard, asked.due), (Some(Heard::Said(taken("first"))), None));
    }
}
