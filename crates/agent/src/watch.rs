//! Watches files and named, and acts on changes.
//!
//! Files are read twice a second and compared: a mounted ConfigMap changes by swapped links, which file events tell in
//! ways that differ between file systems, and the files are small. named is asked for its catalog's serial as often;
//! a new process has to prove again what it has. It shows by a control channel that breaks, for which strangers cannot take the
//! place, and then by a new boot time, or by one that is not a second old.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bindy_model::{AgentConfig, ConfigState};
use bindy_wire::{Rndc, RndcError};
use bindy_zone::Serial;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::agent::Agent;
use crate::config::{self, ConfigError};
use crate::everywhere;
use crate::given::{self, Given};
use crate::members::Members;
use crate::readiness::Listens;

/// How often files are compared.
const FILES: Duration = Duration::from_millis(500);
/// How often named is asked; a finished transfer of the catalog has it asked at once.
const NAMED: Duration = Duration::from_millis(500);
/// How long named may take to say when it was started.
const STATUS: Duration = Duration::from_secs(30);

/// Digests of the agent's own configuration, while it can be read, and of its keys, as they were before somebody read them, so
/// that a change meanwhile is one.
#[derive(PartialEq, Eq)]
pub(crate) struct Digests {
    config: Option<String>,
    keys: u64,
}

impl Digests {
    fn new(text: Option<&[u8]>, config: &AgentConfig) -> Self {
        Self { config: text.map(ConfigState::digest), keys: digest(&config.keys) }
    }
}

/// Reads the agent's configuration, before its keys are read and its local key is made.
pub(crate) fn load(path: &Path) -> Result<(AgentConfig, Digests, Given), ConfigError> {
    let text = config::read(path)?;
    let config = config::parse(path, &text)?;
    let seen = Digests::new(Some(&text), &config);
    let given = Given::new(&config.named)?;
    Ok((config, seen, given))
}

/// Follows the agent's configuration, the keys and named's configuration.
pub(crate) async fn files(
    agent: Arc<Agent>,
    path: PathBuf,
    mut seen: Digests,
    mut given: Given,
    cancel: CancellationToken,
) {
    let mut ticks = tokio::time::interval(FILES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    seen.config.iter().cloned().for_each(|digest| agent.set_own_config(ConfigState::Taken(digest)));
    while tick(&mut ticks, &cancel).await {
        let text = config::read(&path);
        let now = Digests::new(text.as_deref().ok(), &agent.config());
        if now != seen {
            let config = text.and_then(|text| config::parse(&path, &text));
            reload(&agent, config, now.config.clone());
            seen = now;
        }
        given.follow(&agent).await;
    }
}

fn digest<P: AsRef<Path>>(files: &[P]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read(file).ok().hash(&mut hasher);
    }
    hasher.finish()
}

/// Takes what the configuration has become, of this digest; where that is of no use the one before stays. Keys are read anew.
fn reload(agent: &Agent, config: Result<AgentConfig, ConfigError>, digest: Option<String>) {
    let bound = |config: &AgentConfig| {
        let addresses =
            [config.relay, everywhere(config.transfer), everywhere(config.http), config.named.dns];
        (config.instance.clone(), config.catalog.clone(), addresses)
    };
    let as_started = |config: &AgentConfig| bound(config) == bound(&agent.config());
    let config = config.and_then(|config| as_started(&config).then_some(config).ok_or(ConfigError::Bound));
    let refusal = config.as_ref().err().map(ConfigError::to_string);
    agent.configure(config.ok());
    match &refusal {
        None => info!("configuration read again"),
        Some(error) => warn!(error, "the previous configuration stays"),
    }
    let Some(digest) = digest else { return };
    agent.set_own_config(match refusal {
        None => ConfigState::Taken(digest),
        Some(text) => ConfigState::Refused { digest, text },
    });
}

/// A control channel to named, on which each command may take so long.
pub(crate) async fn control(agent: &Agent, limit: Duration) -> Result<Rndc, RndcError> {
    Rndc::connect(agent.config().named.control, &agent.local_key, limit).await
}

/// When that named was started, as it says itself.
pub(crate) async fn boot_time(named: &mut Rndc) -> Result<String, RndcError> {
    let status = named.command("status").await?;
    let time = status.lines().find_map(|line| line.strip_prefix("boot time:"));
    Ok(time.ok_or(RndcError::Malformed("status without a boot time"))?.trim().to_owned())
}

/// Follows named: whether it answers, whether it is a new process, and what its catalog lists.
pub(crate) async fn named(agent: Arc<Agent>, named: Arc<Named>, cancel: CancellationToken) {
    let mut ticks = tokio::time::interval(NAMED);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
            () = agent.look.notified() => {}
        }
        match named.look(&agent).await {
            Look::Gone => agent.readiness().named_answered(false),
            Look::Unknown => {}
            Look::Known(serial) => {
                agent.readiness().named_answered(true);
                if let Some(serial) = serial {
                    named.members.follow(&agent, serial).await;
                }
            }
        }
    }
}

/// named as it was last seen.
pub(crate) struct Named {
    process: tokio::sync::Mutex<Process>,
    members: Arc<Members>,
    /// A control channel that nothing is said on: as long as it is open, named is the process that opened it. named closes it
    /// after a minute.
    lifeline: Mutex<Option<Rndc>>,
}

/// What a look at named shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It does not answer.
    Gone,
    /// Something answers, but whether it is the same process is not known.
    Unknown,
    /// It answers, and what was seen of it is of this process; with the serial of its catalog.
    Known(Option<Serial>),
}

impl Named {
    pub(crate) fn new(members: Arc<Members>) -> Self {
        Self { process: tokio::sync::Mutex::default(), members, lifeline: Mutex::default() }
    }

    /// Whether it may be another process than the one that was seen last.
    pub(crate) fn may_be_another(&self) -> bool {
        !self.lifeline().as_ref().is_some_and(Rndc::is_open)
    }

    fn lifeline(&self) -> MutexGuard<'_, Option<Rndc>> {
        self.lifeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks named; what was seen of an earlier process is forgotten.
    pub(crate) async fn look(&self, agent: &Agent) -> Look {
        // One look at a time: two could tell the same new process twice, and forget what is seen of it in between.
        let mut process = self.process.lock().await;
        let catalog = agent.config().catalog.clone();
        let answer = agent.named.look(&catalog).await;
        if matches!(&answer, Err(error) if crate::pool::is_broken(error)) {
            return Look::Gone;
        }
        if self.may_be_another() {
            match process.look(agent).await {
                Seen::Unknown => return Look::Unknown,
                Seen::Same(lifeline) => *self.lifeline() = Some(lifeline),
                Seen::Another { lifeline, boot_time, listens } => {
                    self.members.forget(agent, boot_time, listens);
                    *self.lifeline() = Some(lifeline);
                }
            }
        } else {
            process.is_same();
        }
        Look::Known(answer.ok())
    }
}

/// Which process named is.
#[derive(Debug, Default)]
struct Process {
    life: Option<Life>,
    complained: bool,
}

/// When processes with one boot time were seen.
#[derive(Debug)]
struct Life {
    boot_time: String,
    first: Instant,
    last: Instant,
}

impl Life {
    /// Takes in that a process with this boot time was seen; whether it is the one that was seen last. Boot times are whole
    /// seconds, and named may be started twice in one: only one that was seen after that second is the only one.
    fn see(life: &mut Option<Self>, boot_time: &str, now: Instant) -> bool {
        let Some(known) = life.as_mut().filter(|known| known.boot_time == boot_time) else {
            *life = Some(Self { boot_time: boot_time.to_owned(), first: now, last: now });
            return false;
        };
        let before = std::mem::replace(&mut known.last, now);
        before - known.first >= Duration::from_secs(1)
    }
}

/// Whether named still is that process, and a control channel to it.
enum Seen {
    Same(Rndc),
    Another { lifeline: Rndc, boot_time: String, listens: Listens },
    Unknown,
}

impl Process {
    /// It was seen, and it is the same one.
    fn is_same(&mut self) {
        if let Some(life) = &mut self.life {
            life.last = Instant::now();
        }
    }

    /// Asks named for its boot time.
    async fn look(&mut self, agent: &Agent) -> Seen {
        let now = Instant::now();
        let asked = async {
            let mut named = control(agent, STATUS).await?;
            Ok((boot_time(&mut named).await?, named))
        };
        let result: Result<_, RndcError> = asked.await;
        match result {
            Ok((boot_time, named)) => {
                self.complained = false;
                let config = agent.config();
                // One that an agent before this one has opened; what this one opens, it knows.
                let opened = self.life.is_none() && given::is_opened(&config.named, &boot_time);
                let listens = match config.named.is_given() {
                    false => Listens::Always,
                    true if opened => Listens::Opened,
                    true => Listens::NotYet,
                };
                if Life::see(&mut self.life, &boot_time, now) {
                    return Seen::Same(named);
                }
                info!(boot_time, "named has started");
                Seen::Another { lifeline: named, boot_time, listens }
            }
            Err(error) => {
                if !self.complained {
                    warn!(%error, "named does not say when it started; it is not taken for ready");
                }
                self.complained = true;
                Seen::Unknown
            }
        }
    }
}

pub(crate) async fn tick(ticks: &mut tokio::time::Interval, cancel: &CancellationToken) -> bool {
    tokio::select! {
        () = cancel.cancelled() => false,
        _ = ticks.tick() => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_of_one_second_is_noticed_and_later_ones_are_known_by_their_boot_time() {
        let begun = Instant::now();
        let mut life = None;
        let mut seen = |millis, second: u32| {
            Life::see(
                &mut life,
                &format!("Sat, 21 Nov 2026 19:08:0{second} GMT"),
                begun + Duration::from_millis(millis),
            )
        };
        assert!(!seen(0, 2));
        assert!(!seen(400, 2), "it may have been started anew within its second");
        assert!(!seen(1_400, 2), "also since it was last seen, which was within that second");
        assert!(seen(1_900, 2));
        assert!(seen(60_000, 2));
        assert!(!seen(60_500, 3));
        assert!(!seen(61_500, 3));
        assert!(seen(62_000, 3));
    }
}
