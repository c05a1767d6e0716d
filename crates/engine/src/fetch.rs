//! Gets versions back from the servers that have them.

use std::sync::Arc;
use std::time::Duration;

use bindy_model::{LedgerEntry, Purpose};
use bindy_wire::{ClientError, Connection, Endpoint, Transfer};
use bindy_zone::{Name, Serial, Version};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use crate::probe::TIMEOUTS;

/// How long servers are asked again that may yet have it: they may have been started together with the engine.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where something is lost without it. BIND takes 12 s to load 100 000 zones.
const LONG_PATIENCE: Duration = Duration::from_secs(30);
/// Pause between the first two rounds; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long one transfer may take: a million records take two seconds.
const TRANSFER: Duration = Duration::from_secs(120);
/// Questions, and transfers, that are under way at once, of all zones together.
const QUESTIONS: usize = 64;
const TRANSFERS: usize = 8;

/// The servers that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    servers: watch::Sender<Vec<Endpoint>>,
    questions: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
}

impl Fetcher {
    pub(crate) fn new() -> Self {
        Self {
            servers: watch::Sender::default(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
        }
    }

    /// These are the servers now, also for what is being fetched.
    pub(crate) fn set_servers(&self, servers: Vec<Endpoint>) {
        self.servers.send_replace(servers);
    }

    /// The version that `wanted` names, or without it the latest that any server has. `None`: no server has it, as far as all
    /// of them have said so in time; where something would be lost, servers are waited for as long as there are none.
    pub(crate) async fn fetch(
        self,
        zone: Name,
        wanted: Option<LedgerEntry>,
        purpose: Purpose,
    ) -> Option<Version> {
        let mut servers = self.servers.subscribe();
        let patience = match purpose {
            Purpose::Comparison => PATIENCE,
            Purpose::Content => LONG_PATIENCE,
        };
        let (mut deadline, mut pause) = (None, PAUSE);
        loop {
            let is_enough = |servers: &Vec<Endpoint>| purpose == Purpose::Comparison || !servers.is_empty();
            let there = servers.wait_for(is_enough).await.ok()?.clone();
            let (found, may_come) = self.ask_all(&there, &zone, wanted).await;
            let now = Instant::now();
            // Questions of other zones may have come first: the time counts from the first answers.
            if found.is_some() || !may_come || now > *deadline.get_or_insert(now + patience) {
                return found;
            }
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// What one round of questions gives, and whether a server that did not say what it has may have it.
    async fn ask_all(
        &self,
        servers: &[Endpoint],
        zone: &Name,
        wanted: Option<LedgerEntry>,
    ) -> (Option<Version>, bool) {
        let asked = servers.iter().map(async |server| (server, self.serial(server, zone).await));
        let mut asked: FuturesUnordered<_> = asked.collect();
        let (mut offers, mut may_come): (Vec<(Serial, &Endpoint)>, bool) = (Vec::new(), false);
        while let Some((server, serial)) = asked.next().await {
            match (serial, wanted) {
                (None, _) => may_come = true,
                (Some(serial), None) => offers.push((serial, server)),
                (Some(serial), Some(entry)) if serial == entry.serial => {
                    match self.transfer(server, zone).await {
                        Some(version) if LedgerEntry::of(&version) == entry => return (Some(version), false),
                        Some(_) => {}
                        None => may_come = true,
                    }
                }
                (Some(_), Some(_)) => {}
            }
        }
        while let Some(latest) = take_latest(&mut offers) {
            match self.transfer(latest, zone).await {
                Some(version) => return (Some(version), false),
                None => may_come = true,
            }
        }
        (None, may_come)
    }

    async fn serial(&self, server: &Endpoint, zone: &Name) -> Option<Serial> {
        let _place = self.questions.acquire().await.ok()?;
        let answer = async { Connection::open(server, TIMEOUTS).await?.soa(zone).await };
        heard(server, zone, answer.await)
    }

    async fn transfer(&self, server: &Endpoint, zone: &Name) -> Option<Version> {
        let _place = self.transfers.acquire().await.ok()?;
        let transfer = async { Connection::open(server, TIMEOUTS).await?.transfer(zone, None).await };
        let transfer = timeout(TRANSFER, transfer).await.unwrap_or(Err(ClientError::Timeout(TRANSFER)));
        match heard(server, zone, transfer)? {
            Transfer::Full(version) | Transfer::Incremental(version) => Some(version),
            // To somebody who has nothing that is no answer.
            Transfer::Current => None,
        }
    }
}

/// Takes the server with the latest serial out.
fn take_latest<'a>(offers: &mut Vec<(Serial, &'a Endpoint)>) -> Option<&'a Endpoint> {
    let later = |one: usize, next: usize| match (offers.get(one), offers.get(next)) {
        (Some((serial, _)), Some((other, _))) if other.is_after(*serial) => next,
        _ => one,
    };
    let latest = (0..offers.len()).reduce(later)?;
    Some(offers.swap_remove(latest).1)
}

/// Nothing where a server did not say what it has. Whatever the reason, it may have it later: it may be loading it.
fn heard<T>(server: &Endpoint, zone: &Name, answer: Result<T, ClientError>) -> Option<T> {
    answer.inspect_err(|error| tracing::debug!(%zone, server = %server.address, %error, "cannot fetch")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use bindy_model::{NamespacedName, Target};
    use bindy_wire::{Key, Server, ServerOptions, Signatures};
    use bindy_zone::Catalog;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn a_version_that_is_needed_is_waited_for_until_servers_come_and_any_other_is_not() {
        let name = |text: &str| Name::parse(text).unwrap();
        let (zone, key) = (name("example.com"), Key::new(name("one.key"), &[1; 32]));
        let (store, instance) = (Store::default(), NamespacedName::new("default", "one"));
        let version = Version { serial: Serial::new(7), content: Catalog::empty(zone.clone()) };
        let target = Target::Zone(NamespacedName::new("default", "zone"), zone.clone());
        store.set_keys(&[(instance.clone(), vec![key.clone()])].into());
        store.grant(&target, &zone, [instance].into());
        store.publish(target, version.clone());
        let options = ServerOptions {
            address: "127.0.0.1:0".parse().unwrap(),
            signatures: Signatures::Required,
            limits: Default::default(),
        };
        let server = Server::bind(options, store.clone(), store).await.unwrap();
        let address = server.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(server.serve(stop.clone()));
        for wanted in [Some(LedgerEntry::of(&version)), None] {
            let fetcher = Fetcher::new();
            assert_eq!(fetcher.clone().fetch(zone.clone(), wanted, Purpose::Comparison).await, None);
            let mut needed = Box::pin(fetcher.clone().fetch(zone.clone(), wanted, Purpose::Content));
            let early = tokio::select! { biased; found = &mut needed => Some(found), () = std::future::ready(()) => None };
            assert_eq!(early, None);
            fetcher.set_servers(vec![Endpoint { address, key: Some(key.clone()) }]);
            assert_eq!(needed.await, Some(version.clone()));
        }
        stop.cancel();
        server.await.unwrap();
    }
}
