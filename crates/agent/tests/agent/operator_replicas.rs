//! Several replicas of the operator behind one address.

use bindy_testing::Scratch;
use tokio::net::{TcpListener, TcpStream};

use super::support::{LIMIT, Rig, Source, name};
use super::{ZONE, content, notify, until_source_has};

/// Connections to `address` come to a replica that is somewhere else.
async fn lead_to(address: std::net::SocketAddr, replica: std::net::SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(replica).await.unwrap();
                let _closed = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
}

/// The replica that tells of a version is where NOTIFY comes from: 127.0.0.1. The address of all of them, at the same port as
/// every replica has, leads to another one, which has not heard of the version yet.
#[tokio::test]
async fn the_replica_that_tells_of_a_version_is_asked_for_it_and_another_one_when_it_is_gone() {
    let scratch = Scratch::new("agent-replicas").unwrap();
    let mut leader = Source::start(&scratch, "leader", &content(1, "192.0.2.10")).await;
    let mut standby = Source::start(&scratch, "standby", &content(1, "192.0.2.10")).await;
    let service = ([127, 0, 0, 2], leader.named.address().port()).into();
    lead_to(service, standby.named.address()).await;
    let rig = Rig::start(&scratch, &[("operator", "upstream", service)]).await;
    rig.until_ready().await;

    leader.change(&content(2, "192.0.2.20")).await;
    until_source_has(&leader, &name(ZONE), 2).await;
    notify(&rig, ZONE, 2).await;
    rig.until_serial(ZONE, 2, LIMIT).await;

    leader.named.kill().await.unwrap();
    standby.change(&content(3, "192.0.2.30")).await;
    until_source_has(&standby, &name(ZONE), 3).await;
    notify(&rig, ZONE, 3).await;
    rig.until_serial(ZONE, 3, LIMIT).await;
}
