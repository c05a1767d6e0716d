//! The runner with real `named` processes and real agents.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its functions too"
)]

use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bindy_local::runner::{
    Others, Runner, RunnerError, RunnerOptions, RunningServer, ServerKey, SourceAddress, WantedServer,
    WantedSource,
};
use bindy_model::{NamespacedName, SourceKind};
use bindy_testing::{Process, Scratch, wait_for};
use bindy_wire::{Generation, Key, MasterSecret};
use bindy_zone::Name;

const LIMIT: Duration = Duration::from_secs(30);

fn options(state: &Path) -> RunnerOptions {
    RunnerOptions::new(state, env!("CARGO_BIN_EXE_bindy"))
}

fn key(index: u32) -> ServerKey {
    ServerKey { instance: NamespacedName::new("prod", "dns"), index }
}

fn instance_key() -> Key {
    MasterSecret::from_bytes([7; 32]).instance_key("prod", "dns", Generation::A).unwrap()
}

fn wanted(index: u32) -> WantedServer {
    let other = SourceAddress::Server(key(1 - index.min(1)));
    let sibling = WantedSource {
        name: "other".into(),
        kind: SourceKind::Sibling,
        at: other,
        key: instance_key().name().clone(),
        zones: Default::default(),
    };
    WantedServer {
        key: key(index),
        catalog: Name::parse("dns.prod.catalog.bindy").unwrap(),
        wishes: Default::default(),
        downstreams: Default::default(),
        keys: vec![instance_key()],
        key_files: Vec::new(),
        sources: vec![sibling],
    }
}

/// Waits until exactly these servers have both processes and an agent that has seen its named answer.
async fn running(runner: &Runner, indices: &[u32]) -> Vec<RunningServer> {
    let servers = runner.servers();
    wait_for("both processes of each server", LIMIT, async || {
        let now = servers.borrow().clone();
        let wanted: Vec<ServerKey> = indices.iter().map(|index| key(*index)).collect();
        let there: Vec<ServerKey> = now.iter().map(|server| server.key.clone()).collect();
        // Nothing has a catalog for it, so it is not ready; but then its agent has been answered by named.
        let up = |server: &RunningServer| {
            server.named_pid.is_some()
                && server.agent_pid.is_some()
                && (server.ready || server.message.as_deref() == Some("waits for the catalog zone"))
        };
        if there == wanted && now.iter().all(up) { Ok(now) } else { Err(format!("{now:#?}")) }
    })
    .await
    .unwrap()
}

fn pids(servers: &[RunningServer]) -> Vec<(Option<u32>, Option<u32>)> {
    servers.iter().map(|server| (server.agent_pid, server.named_pid)).collect()
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|text| !text.contains("State:\tZ"))
}

/// Living processes whose command line or environment names a file below `state`.
fn processes_of(state: &Path) -> BTreeSet<String> {
    let state = state.to_str().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let own = std::process::id().to_string();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            ["cmdline", "environ"].iter().any(|file| {
                let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                String::from_utf8_lossy(&text).contains(state)
            })
        })
        .collect()
}

fn kill(pid: Option<u32>) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid.unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn servers_follow_what_is_wanted_and_stop_leaves_nothing() {
    let scratch = Scratch::new("runner-scale").unwrap();
    let runner = Runner::start(options(scratch.path())).unwrap();
    runner.set_wanted(vec![wanted(0), wanted(1)], Others::Remove);
    let two = running(&runner, &[0, 1]).await;
    let config = std::fs::read_to_string(two[0].directory.join("agent.json")).unwrap();
    assert!(config.contains(&two[1].transfer.to_string()), "a sibling is a source: {config}");
    let ports: BTreeSet<u16> =
        two.iter().flat_map(|s| [s.dns.port(), s.transfer.port(), s.http.port()]).collect();
    assert_eq!(ports.len(), 6);

    runner.set_wanted(vec![wanted(0)], Others::Remove);
    let one = running(&runner, &[0]).await;
    assert_eq!(pids(&one), pids(&two[..1]), "the other one is not touched");
    assert!(!two[1].directory.exists());
    assert!(!is_alive(two[1].named_pid.unwrap()) && !is_alive(two[1].agent_pid.unwrap()));

    assert_eq!(processes_of(scratch.path()).len(), 2);
    runner.set_wanted(Vec::new(), Others::Remove);
    runner.set_wanted(vec![wanted(0)], Others::Remove);
    runner.stop().await;
    assert_eq!(processes_of(scratch.path()), BTreeSet::new());
    let left = std::fs::read_dir(&one[0].directory).into_iter().flatten().flatten();
    let pid_files = left.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "pid"));
    assert_eq!(pid_files.count(), 0);
}

#[tokio::test]
async fn killed_processes_are_started_again_and_the_incarnation_stays() {
    let scratch = Scratch::new("runner-kill").unwrap();
    let runner = Runner::start(options(scratch.path())).unwrap();
    runner.set_wanted(vec![wanted(0)], Others::Remove);
    let before = running(&runner, &[0]).await.remove(0);
    kill(before.named_pid);
    let mut servers = runner.servers();
    let other = |pid: Option<u32>, old: Option<u32>| pid.is_some() && pid != old;
    let seen = servers.wait_for(|all| other(all[0].named_pid, before.named_pid));
    let _ = tokio::time::timeout(LIMIT, seen).await.expect("another named").unwrap();
    kill(before.agent_pid);
    let seen = servers.wait_for(|all| other(all[0].agent_pid, before.agent_pid));
    let _ = tokio::time::timeout(LIMIT, seen).await.expect("another agent").unwrap();
    let after = running(&runner, &[0]).await.remove(0);
    assert_eq!((after.incarnation, after.dns, after.http), (before.incarnation, before.dns, before.http));
    runner.stop().await;
}

#[tokio::test]
async fn wiped_data_is_healed_with_another_incarnation() {
    let scratch = Scratch::new("runner-wipe").unwrap();
    let runner = Runner::start(options(scratch.path())).unwrap();
    runner.set_wanted(vec![wanted(0)], Others::Remove);
    for lost in ["named", ""] {
        let before = running(&runner, &[0]).await.remove(0);
        std::fs::remove_dir_all(before.directory.join(lost)).unwrap();
        let mut servers = runner.servers();
        let seen = servers.wait_for(|all| all[0].incarnation != before.incarnation);
        let _ = tokio::time::timeout(LIMIT, seen).await.expect("another incarnation").unwrap();
        let after = running(&runner, &[0]).await.remove(0);
        assert!(after.named_pid != before.named_pid && after.directory.join("named").is_dir());
        assert_eq!(after.dns, before.dns);
    }
    runner.stop().await;
}

#[tokio::test]
async fn processes_of_a_killed_runner_are_adopted_without_a_restart() {
    let scratch = Scratch::new("runner-adopt").unwrap();
    let instance = "apiVersion: bindy.firestoned.io/v1beta1\nkind: Bind9Instance\n\
                    metadata: {namespace: prod, name: dns}\nspec: {replicas: 1}\n";
    scratch.write("manifests/instance.yaml", instance).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bindy"));
    command.arg("up").arg(scratch.path().join("manifests")).arg("--state").arg(scratch.path());
    let mut first = Process::start("bindy up", &command, &scratch.path().join("up.log")).unwrap();
    let directory = scratch.path().join("servers/prod.dns.0");
    let pid_of = |program: &str| {
        let text = std::fs::read_to_string(directory.join(format!("{program}.pid"))).unwrap_or_default();
        text.split(' ').next().and_then(|pid| pid.parse::<u32>().ok())
    };
    wait_for("both pid files", LIMIT, async || pid_of("agent").and(pid_of("named")).ok_or("one is missing"))
        .await
        .unwrap();
    assert!(matches!(Runner::start(options(scratch.path())), Err(RunnerError::Busy(_))));
    let ports = std::fs::read_to_string(directory.join("ports.json")).unwrap();
    first.kill().await.unwrap();
    // As if it had been killed between the start and the pid file.
    let before = (pid_of("agent"), pid_of("named"));
    std::fs::remove_file(directory.join("named.pid")).unwrap();

    let runner = Runner::start(options(scratch.path())).unwrap();
    runner.set_wanted(vec![wanted(0)], Others::Remove);
    let adopted = running(&runner, &[0]).await.remove(0);
    assert_eq!((adopted.agent_pid, adopted.named_pid), before);
    assert_eq!(std::fs::read_to_string(directory.join("ports.json")).unwrap(), ports);

    kill(adopted.named_pid);
    let mut servers = runner.servers();
    let seen = servers.wait_for(|all| all[0].named_pid.is_some() && all[0].named_pid != adopted.named_pid);
    let _ = tokio::time::timeout(LIMIT, seen).await.expect("the end of an adopted named is noticed").unwrap();
    let after = running(&runner, &[0]).await.remove(0);
    assert_eq!(after.agent_pid, adopted.agent_pid);

    // A dropped runner leaves them too; the next one stops what it never wanted.
    drop(runner);
    let third = wait_for("the directory to be free", LIMIT, async || Runner::start(options(scratch.path())));
    let third = third.await.unwrap();
    assert!(is_alive(after.named_pid.unwrap()) && is_alive(after.agent_pid.unwrap()));
    third.stop().await;
    assert!(!is_alive(after.named_pid.unwrap()) && !is_alive(after.agent_pid.unwrap()));
}

#[tokio::test]
async fn ports_stay_unless_a_stranger_has_taken_one() {
    let scratch = Scratch::new("runner-ports").unwrap();
    let start = async || {
        // A process that a test beside this one is about to start holds the lock until its exec.
        let runner =
            wait_for("the directory to be free", LIMIT, async || Runner::start(options(scratch.path())));
        let runner = runner.await.unwrap();
        runner.set_wanted(vec![wanted(0)], Others::Remove);
        let server = running(&runner, &[0]).await.remove(0);
        runner.stop().await;
        server
    };
    let first = start().await;
    let second = start().await;
    assert_eq!((second.dns, second.transfer, second.http), (first.dns, first.transfer, first.http));
    let _stranger = UdpSocket::bind(first.dns).unwrap();
    let third = start().await;
    assert_ne!(third.dns, first.dns);
    assert_eq!(third.incarnation, first.incarnation);
    let _stranger = TcpListener::bind(third.http).unwrap();
    assert_ne!(start().await.http, third.http);
}

#[tokio::test]
async fn sources_and_keys_change_without_a_restart() {
    let scratch = Scratch::new("runner-sources").unwrap();
    let runner = Runner::start(options(scratch.path())).unwrap();
    runner.set_wanted(vec![wanted(0)], Others::Remove);
    let before = running(&runner, &[0]).await.remove(0);
    let mut changed = wanted(0);
    let at = SourceAddress::Fixed("127.0.0.1:9".parse().unwrap());
    let name = instance_key().name().clone();
    changed.sources.push(WantedSource {
        name: "operator".into(),
        kind: SourceKind::Operator,
        at,
        key: name,
        zones: Default::default(),
    });
    changed.keys.push(MasterSecret::from_bytes([7; 32]).instance_key("prod", "dns", Generation::B).unwrap());
    runner.set_wanted(vec![changed], Others::Remove);
    let text = wait_for("the changed configuration", LIMIT, async || {
        let text = std::fs::read_to_string(before.directory.join("agent.json")).map_err(|e| e.to_string())?;
        if text.contains("\"operator\"") { Ok(text) } else { Err("not yet".to_owned()) }
    });
    assert!(text.await.unwrap().contains("keys/b.dns.prod.key.bindy"));
    assert!(before.directory.join("keys/b.dns.prod.key.bindy").exists());
    let after = running(&runner, &[0]).await.remove(0);
    assert_eq!(after, before);
    runner.stop().await;
}

#[tokio::test]
async fn missing_named_is_one_line_with_the_command_that_installs_it() {
    let scratch = Scratch::new("runner-missing").unwrap();
    let mut options = options(scratch.path());
    options.search_path.clear();
    let error = Runner::start(options).unwrap_err();
    assert!(matches!(error, RunnerError::NamedMissing { .. }));
    let text = error.to_string();
    assert!(text.contains("install") && text.lines().count() == 1, "{text}");
}
