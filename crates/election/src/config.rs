//! Settings as a person gives them, and the configuration that they make when they hold together.

use std::sync::Arc;
use std::time::Duration;

/// The variables of the environment, in the order of [`Settings`]' fields.
pub mod variable {
    /// Whether there is an election at all.
    pub const ENABLE: &str = "ENABLE_LEADER_ELECTION";
    /// Name of the Lease.
    pub const NAME: &str = "LEASE_NAME";
    /// Namespace of the Lease.
    pub const NAMESPACE: &str = "LEASE_NAMESPACE";
    /// How long standbys wait for a silent leader.
    pub const DURATION: &str = "LEASE_DURATION_SECONDS";
    /// How long a term lasts without a renewal.
    pub const RENEW_DEADLINE: &str = "LEASE_RENEW_DEADLINE_SECONDS";
    /// How often the lease is renewed or looked at.
    pub const RETRY_PERIOD: &str = "LEASE_RETRY_PERIOD_SECONDS";
    /// Name of this candidate.
    pub const IDENTITY: &str = "POD_NAME";
    /// Used where [`IDENTITY`] is not set.
    pub const HOSTNAME: &str = "HOSTNAME";
}

/// What a person sets. Checked by [`Settings::check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether to elect; else this replica is taken for the only one.
    pub enabled: bool,
    /// Name of the Lease.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// How long standbys wait for a leader that they do not hear of. Whole seconds: that is what a Lease can say.
    pub duration: Duration,
    /// How long a term lives after the moment before its last successful renewal was sent.
    pub renew_deadline: Duration,
    /// Time from one renewal to the next, and between two looks of a standby that cannot watch.
    pub retry_period: Duration,
    /// Name of this candidate in `spec.holderIdentity`: of its pod.
    pub identity: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            name: "bindy-leader".to_owned(),
            namespace: "dns-system".to_owned(),
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            identity: String::new(),
        }
    }
}

/// The rule that settings break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Neither yes nor no.
    #[error("{variable} must be true or false, and is {value:?}", variable = variable::ENABLE)]
    Enable {
        /// As it was given.
        value: String,
    },
    /// No number of seconds.
    #[error("{variable} must be a whole number of seconds from 1 to 2147483647, and is {value:?}")]
    Seconds {
        /// Which one.
        variable: &'static str,
        /// As it was given.
        value: String,
    },
    /// Standbys would take over from a leader that lives.
    #[error(
        "{} ({duration:?}) must be longer than {} ({renew_deadline:?}): a leader has to stop before a standby takes over",
        variable::DURATION,
        variable::RENEW_DEADLINE
    )]
    Duration {
        /// Its value.
        duration: Duration,
        /// The value that it has to exceed.
        renew_deadline: Duration,
    },
    /// A leader would end before it could renew.
    #[error(
        "{} ({renew_deadline:?}) must be longer than 1.2 times {} ({retry_period:?}): a leader needs time to renew",
        variable::RENEW_DEADLINE,
        variable::RETRY_PERIOD
    )]
    RenewDeadline {
        /// Its value.
        renew_deadline: Duration,
        /// The value whose 1.2-fold it has to exceed.
        retry_period: Duration,
    },
    /// Candidates could not be told apart.
    #[error(
        "{} must not be empty (without it {} is taken): it names this replica in the lease",
        variable::IDENTITY,
        variable::HOSTNAME
    )]
    NoIdentity,
    /// The API server would refuse it, or it would break lines of logs.
    #[error(
        "{} must be a name of a pod (letters a-z, digits, '-' and '.', at most 253), and is {value:?}",
        variable::IDENTITY
    )]
    Identity {
        /// As it was given.
        value: String,
    },
    /// The API server would refuse it.
    #[error(
        "{} must be a DNS subdomain (labels of a-z, 0-9 and '-', joined by '.', at most 253), and is {value:?}",
        variable::NAME
    )]
    Name {
        /// As it was given.
        value: String,
    },
    /// The API server would refuse it.
    #[error("{} must be a DNS label (a-z, 0-9 and '-', at most 63), and is {value:?}", variable::NAMESPACE)]
    Namespace {
        /// As it was given.
        value: String,
    },
}

impl Settings {
    /// Reads the variables through `lookup`, `std::env::var` for instance; what is not set has its default.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Invalid> {
        let default = Self::default();
        let seconds = |variable, default| match lookup(variable) {
            None => Ok(default),
            Some(value) => match value.trim().parse::<u32>() {
                Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
                Err(_) => Err(Invalid::Seconds { variable, value }),
            },
        };
        let text = |variable, default| lookup(variable).unwrap_or(default);
        let identity = lookup(variable::IDENTITY).or_else(|| lookup(variable::HOSTNAME));
        Ok(Self {
            enabled: lookup(variable::ENABLE).map_or(Ok(default.enabled), yes_or_no)?,
            name: text(variable::NAME, default.name),
            namespace: text(variable::NAMESPACE, default.namespace),
            duration: seconds(variable::DURATION, default.duration)?,
            renew_deadline: seconds(variable::RENEW_DEADLINE, default.renew_deadline)?,
            retry_period: seconds(variable::RETRY_PERIOD, default.retry_period)?,
            identity: identity.unwrap_or_default(),
        })
    }

    /// The configuration, or the first rule that is broken. Settings of an election that is switched off are checked
    /// too, so that switching it on brings no surprise.
    pub fn check(self) -> Result<Config, Invalid> {
        let Self { enabled: _, name, namespace, duration, renew_deadline, retry_period, identity } = self;
        let longest = Duration::from_secs(i32::MAX.unsigned_abs().into());
        for (variable, value) in [
            (variable::DURATION, duration),
            (variable::RENEW_DEADLINE, renew_deadline),
            (variable::RETRY_PERIOD, retry_period),
        ] {
            let whole = variable != variable::DURATION || value.subsec_nanos() == 0;
            if value.is_zero() || value > longest || !whole {
                return Err(Invalid::Seconds { variable, value: value.as_secs_f64().to_string() });
            }
        }
        if duration <= renew_deadline {
            return Err(Invalid::Duration { duration, renew_deadline });
        }
        if renew_deadline * 5 <= retry_period * 6 {
            return Err(Invalid::RenewDeadline { renew_deadline, retry_period });
        }
        if identity.is_empty() {
            return Err(Invalid::NoIdentity);
        }
        if !is_subdomain(&identity) {
            return Err(Invalid::Identity { value: identity });
        }
        if !is_subdomain(&name) {
            return Err(Invalid::Name { value: name });
        }
        if !is_label(&namespace) {
            return Err(Invalid::Namespace { value: namespace });
        }
        Ok(Config { name, namespace, duration, renew_deadline, retry_period, identity: identity.into() })
    }
}

fn yes_or_no(value: String) -> Result<bool, Invalid> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Invalid::Enable { value }),
    }
}

/// RFC 1123, as Kubernetes has it.
fn is_label(text: &str) -> bool {
    let inner = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Settings that hold together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    name: String,
    namespace: String,
    duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
    identity: Arc<str>,
}

impl Config {
    /// Name of the Lease.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// How long a lease has to be seen unchanged before it is taken.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// How long a term lives without a renewal.
    #[must_use]
    pub fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// Time from one renewal, or one look, to the next.
    #[must_use]
    pub fn retry_period(&self) -> Duration {
        self.retry_period
    }

    /// Name of this candidate.
    #[must_use]
    pub fn identity(&self) -> &Arc<str> {
        &self.identity
    }

    /// How long one request may take: at most a quarter of the renew deadline, so that a few fit into it, and at most
    /// the retry period, so that a request which is lost costs no more than that.
    #[must_use]
    pub fn call_timeout(&self) -> Duration {
        (self.renew_deadline / 4).min(self.retry_period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, Invalid> {
        Settings::from_env(|name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn message(variables: &[(&str, &str)]) -> String {
        let with_name = [&[("POD_NAME", "pod")], variables].concat();
        settings(&with_name).and_then(Settings::check).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_those_of_the_guide_and_hold_together() {
        let settings = settings(&[("HOSTNAME", "host-1")]).unwrap();
        let wanted = Settings { identity: "host-1".to_owned(), ..Settings::default() };
        assert_eq!(settings, wanted);
        assert!(settings.enabled);
        let config = settings.check().unwrap();
        assert_eq!((config.name(), config.namespace()), ("bindy-leader", "dns-system"));
        assert_eq!(config.duration(), Duration::from_secs(15));
        assert_eq!(config.renew_deadline(), Duration::from_secs(10));
        assert_eq!(config.retry_period(), Duration::from_secs(2));
        assert_eq!(config.call_timeout(), Duration::from_secs(2));
    }

    #[test]
    fn every_variable_has_its_effect() {
        let settings = settings(&[
            ("ENABLE_LEADER_ELECTION", "False"),
            ("LEASE_NAME", "other.leader"),
            ("LEASE_NAMESPACE", "other"),
            ("LEASE_DURATION_SECONDS", "6"),
            ("LEASE_RENEW_DEADLINE_SECONDS", " 4 "),
            ("LEASE_RETRY_PERIOD_SECONDS", "3"),
            ("POD_NAME", "pod-7"),
            ("HOSTNAME", "host"),
        ])
        .unwrap();
        assert!(!settings.enabled);
        let config = settings.check().unwrap();
        assert_eq!((config.name(), config.namespace()), ("other.leader", "other"));
        assert_eq!((config.duration().as_secs(), config.renew_deadline().as_secs()), (6, 4));
        assert_eq!((config.retry_period().as_secs(), &**config.identity()), (3, "pod-7"));
        assert_eq!(config.call_timeout(), Duration::from_secs(1), "a quarter of the renew deadline");
    }

    #[test]
    fn a_broken_rule_is_told_with_its_variables_and_values() {
        for (variables, wanted) in [
            (
                &[("LEASE_DURATION_SECONDS", "10")][..],
                "LEASE_DURATION_SECONDS (10s) must be longer than LEASE_RENEW_DEADLINE_SECONDS (10s)",
            ),
            (
                &[("LEASE_RETRY_PERIOD_SECONDS", "9")],
                "LEASE_RENEW_DEADLINE_SECONDS (10s) must be longer than 1.2 times LEASE_RETRY_PERIOD_SECONDS (9s)",
            ),
            (
                &[("LEASE_RENEW_DEADLINE_SECONDS", "12"), ("LEASE_RETRY_PERIOD_SECONDS", "10")],
                "LEASE_RENEW_DEADLINE_SECONDS (12s) must be longer than 1.2 times",
            ),
            (&[("LEASE_RETRY_PERIOD_SECONDS", "0")], "LEASE_RETRY_PERIOD_SECONDS must be a whole number"),
            (&[("LEASE_DURATION_SECONDS", "-1")], "from 1 to 2147483647, and is \"-1\""),
            (&[("LEASE_DURATION_SECONDS", "15s")], "and is \"15s\""),
            (&[("LEASE_DURATION_SECONDS", "2147483648")], "and is \"2147483648\""),
            (
                &[("ENABLE_LEADER_ELECTION", "yes")],
                "ENABLE_LEADER_ELECTION must be true or false, and is \"yes\"",
            ),
            (&[("LEASE_NAME", "Bad_Name")], "LEASE_NAME must be a DNS subdomain"),
            (&[("LEASE_NAME", "a..b")], "and is \"a..b\""),
            (&[("LEASE_NAMESPACE", "a.b")], "LEASE_NAMESPACE must be a DNS label"),
            (&[("LEASE_NAMESPACE", "")], "LEASE_NAMESPACE must be a DNS label"),
        ] {
            assert!(message(variables).contains(wanted), "{variables:?}: {}", message(variables));
        }
    }

    #[test]
    fn a_candidate_has_a_name() {
        let unnamed = settings(&[]).unwrap().check().unwrap_err().to_string();
        assert!(unnamed.starts_with("POD_NAME must not be empty (without it HOSTNAME"), "{unnamed}");
        let empty = settings(&[("POD_NAME", ""), ("HOSTNAME", "host")]).unwrap().check();
        assert_eq!(empty, Err(Invalid::NoIdentity));
        let lines = settings(&[("POD_NAME", "a\nb")]).unwrap().check();
        assert_eq!(lines, Err(Invalid::Identity { value: "a\nb".to_owned() }));
    }

    #[test]
    fn a_lease_cannot_say_half_seconds() {
        let half = Settings {
            duration: Duration::from_millis(15_500),
            identity: "pod".to_owned(),
            ..Settings::default()
        };
        assert!(matches!(half.check(), Err(Invalid::Seconds { variable: variable::DURATION, .. })));
    }
}
