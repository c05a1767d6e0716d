//! The election with its real store against the real API server, each candidate behind a proxy that loses, delays and refuses
//! requests, loses answers and holds watches: what the simulator knows of the world is not friendlier than it is. No two terms
//! live at once, no number comes twice, and somebody leads again as soon after the last fault as is promised.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bindy_election::{Election, LeaseStore, Settings, State, Term};
use bindy_testing::cluster::{ApiProxy, Fate, Line, Namespace, in_namespace};
use bindy_testing::wait_for;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use tokio_util::sync::CancellationToken;

const CANDIDATES: usize = 3;
const LEASE: &str = "another-lease";
const DURATION: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_millis(1400);
const RETRY: Duration = Duration::from_millis(400);
/// How long everything goes wrong.
const TROUBLE: Duration = Duration::from_secs(15);
/// What a busy machine may need more than is promised.
const SLACK: Duration = Duration::from_millis(700);

/// A number that looks random, the same for the same two.
fn mix(seed: u64, n: u64) -> u64 {
    let mut x = seed.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Half of all requests fare badly, now and then all for a while.
fn fate(seed: u64, begun: Instant, line: &Line) -> Fate {
    let second = begun.elapsed().as_secs();
    if mix(seed ^ 1, second / 3).is_multiple_of(3) {
        return Fate::Lost;
    }
    match mix(seed, line.number) % 12 {
        0 => Fate::Lost,
        1 | 2 if line.is_write() => Fate::ReplyLost,
        1 if line.is_watch() => Fate::Silent,
        2 => Fate::Refused(500),
        3 => Fate::Refused(429),
        4 | 5 => Fate::Late(Duration::from_millis(mix(seed ^ 2, line.number) % 1500)),
        _ => Fate::Pass,
    }
}

/// Rights on leases for a service account of the namespace, and its token.
async fn token(namespace: &Namespace) -> Result<String> {
    let (name, cluster) = (namespace.name(), namespace.cluster());
    cluster.kubectl(&["create", "serviceaccount", "candidate", "-n", name]).await?;
    let verbs = "--verb=get,watch,create,update";
    cluster.kubectl(&["create", "role", "candidate", verbs, "--resource=leases", "-n", name]).await?;
    let account = format!("--serviceaccount={name}:candidate");
    cluster
        .kubectl(&["create", "rolebinding", "candidate", "--role=candidate", &account, "-n", name])
        .await?;
    let token = cluster.kubectl(&["create", "token", "candidate", "-n", name]).await?;
    Ok(token.trim().to_owned())
}

async fn start(namespace: &Namespace, proxy: &ApiProxy, token: &str, n: usize) -> Result<Election> {
    let authority = namespace.cluster().description().kubeconfig.with_file_name("pki").join("ca.crt");
    let kubeconfig = json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {
            "server": format!("https://{}", proxy.address()), "certificate-authority": authority}}],
        "users": [{"name": "c", "user": {"token": token}}],
    });
    let kubeconfig = Kubeconfig::from_yaml(&kubeconfig.to_string())?;
    let cluster = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let settings = Settings {
        name: LEASE.to_owned(),
        namespace: namespace.name().to_owned(),
        duration: DURATION,
        renew_deadline: DEADLINE,
        retry_period: RETRY,
        identity: format!("candidate-{n}"),
        ..Settings::default()
    };
    let config = settings.check()?;
    let store = LeaseStore::new(cluster, &config)?;
    Ok(Election::start(config, store, CancellationToken::new())?)
}

/// Every term that was ever seen, and whose it was.
#[derive(Default)]
struct History {
    terms: BTreeMap<u64, (usize, Vec<Term>)>,
}

impl History {
    /// Looks at all candidates at one moment.
    fn look(&mut self, elections: &[Election]) -> Result<Option<u64>> {
        for (who, election) in elections.iter().enumerate() {
            let state = election.state();
            let State::Leader(term) = &*state.borrow() else { continue };
            let newest = self.terms.last_key_value().map_or(0, |(number, _)| *number);
            let (holder, seen) = self.terms.entry(term.number()).or_insert((who, Vec::new()));
            ensure!(*holder == who, "term {} is {who}'s and {holder}'s", term.number());
            if seen.is_empty() {
                ensure!(term.number() > newest, "term {} comes after term {newest}", term.number());
                seen.push(term.clone());
            }
        }
        let terms = self.terms.values().flat_map(|(who, terms)| terms.iter().map(move |term| (who, term)));
        let live: Vec<_> = terms.filter(|(_, term)| term.is_live()).collect();
        ensure!(live.len() <= 1, "two terms live at once: {live:?}");
        Ok(live.first().map(|(_, term)| term.number()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_terms_live_at_once_with_the_real_store_and_the_real_api_server() -> Result<()> {
    in_namespace("candidates", async |namespace| {
        let seed = bindy_testing::seed();
        let token = token(namespace).await?;
        let (mut proxies, mut elections) = (Vec::new(), Vec::new());
        for n in 0..CANDIDATES {
            let proxy = ApiProxy::start(namespace.cluster()).await?;
            elections.push(start(namespace, &proxy, &token, n).await?);
            proxies.push(proxy);
        }
        watched(&proxies, elections, seed).await?;
        // Name, namespace, identity and duration are those of the settings.
        let lease = ["get", "lease", LEASE, "-n", namespace.name(), "-o", "json"];
        let lease: serde_json::Value = serde_json::from_str(&namespace.cluster().kubectl(&lease).await?)?;
        let holder = lease.pointer("/spec/holderIdentity").and_then(serde_json::Value::as_str);
        ensure!(holder.is_some_and(|holder| holder.starts_with("candidate-")), "{lease}");
        let seconds = lease.pointer("/spec/leaseDurationSeconds");
        ensure!(seconds == Some(&json!(DURATION.as_secs())), "{lease}");
        Ok(())
    })
    .await
}

/// A first leader, then trouble, then the way back.
async fn watched(proxies: &[ApiProxy], elections: Vec<Election>, seed: u64) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let elections = Arc::new(elections);
    let seen = Arc::clone(&elections);
    // A thread of its own: no candidate can hold it up, nor be held up by it for long.
    let watching = std::thread::spawn(move || {
        let mut history = History::default();
        while !stopped.load(Ordering::Relaxed) {
            history.look(&seen)?;
            std::thread::sleep(Duration::from_micros(500));
        }
        anyhow::Ok(history)
    });
    let leads = async || {
        let leading =
            |one: &Election| matches!(&*one.state().borrow(), State::Leader(term) if term.is_live());
        ensure!(elections.iter().any(leading), "nobody leads");
        anyhow::Ok(())
    };
    wait_for("the first leader", DURATION + RETRY * 2 + SLACK, leads).await?;
    let begun = Instant::now();
    for (n, proxy) in (0..).zip(proxies) {
        proxy.treat(move |line| fate(mix(seed, n), begun, line));
    }
    tokio::time::sleep(TROUBLE).await;
    proxies.iter().for_each(|proxy| proxy.treat(|_| Fate::Pass));
    let after = wait_for("a leader after the last fault", DURATION + RETRY * 2 + SLACK, leads).await;
    stop.store(true, Ordering::Relaxed);
    let history = watching.join().ok().context("the watching thread")??;
    after?;
    let ill_treated: u64 = proxies.iter().map(ApiProxy::ill_treated).sum();
    ensure!(ill_treated > 20, "only {ill_treated} requests were ill-treated");
    ensure!(history.terms.len() > 1, "one term only: {:?}", history.terms.keys());
    Ok(())
}
