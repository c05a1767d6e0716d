//! Talks to one server: NOTIFY, then the SOA. One task and one connection a server, kept as long as it works.

use std::time::Duration;

use bindy_model::{Answer, Input, Probe, ServerId};
use bindy_wire::{ClientError, Connection, Endpoint, Timeouts};
use tokio::sync::mpsc;

/// How long a server may take; what does not answer in this time is asked again later.
pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_millis(500),
    answer: Duration::from_secs(1),
    between: Duration::from_secs(2),
};

/// Carries out probes until the sender is gone.
pub(crate) async fn run(
    id: ServerId,
    endpoint: Endpoint,
    mut probes: mpsc::Receiver<Vec<Probe>>,
    results: mpsc::Sender<Input>,
) {
    let mut connection = None;
    while let Some(batch) = probes.recv().await {
        let mut failed = notify(&mut connection, &endpoint, &batch).await.err();
        let pause = batch.iter().map(|probe| probe.pause).max().unwrap_or_default();
        tokio::time::sleep(pause).await;
        for probe in batch {
            // What failed for one zone by the connection would fail for the rest, one timeout after the other.
            let answer = match &failed {
                Some(text) => Answer::Failure(text.clone()),
                None => match ask(&mut connection, &endpoint, &probe).await {
                    Ok(serial) => Answer::Serial(serial),
                    Err(error) => {
                        let text = error.to_string();
                        if !is_answer(&error) {
                            connection = None;
                            failed = Some(text.clone());
                        }
                        Answer::Failure(text)
                    }
                },
            };
            if results.send(Input::Probed(id.clone(), probe, answer)).await.is_err() {
                return;
            }
        }
    }
}

async fn notify(
    connection: &mut Option<Connection>,
    endpoint: &Endpoint,
    batch: &[Probe],
) -> Result<(), String> {
    for probe in batch.iter().filter(|probe| probe.notify) {
        let sent = match open(connection, endpoint).await {
            Ok(open) => open.notify(&probe.zone, probe.serial).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => tracing::debug!(zone = %probe.zone, serial = %probe.serial, "notified"),
            // The server is alive and does not know the zone yet: the question will tell.
            Err(error) if is_answer(&error) => {}
            Err(error) => {
                *connection = None;
                return Err(error.to_string());
            }
        }
    }
    Ok(())
}

async fn ask(
    connection: &mut Option<Connection>,
    endpoint: &Endpoint,
    probe: &Probe,
) -> Result<bindy_zone::Serial, ClientError> {
    open(connection, endpoint).await?.soa(&probe.zone).await
}

async fn open<'a>(
    connection: &'a mut Option<Connection>,
    endpoint: &Endpoint,
) -> Result<&'a mut Connection, ClientError> {
    let usable = connection.take().filter(Connection::is_usable);
    let open = match usable {
        Some(open) => open,
        None => Connection::open(endpoint, TIMEOUTS).await?,
    };
    Ok(connection.insert(open))
}

/// Whether the server answered, though not with what was asked for.
fn is_answer(error: &ClientError) -> bool {
    use ClientError::{NotAuth, Rcode, Refused, ServFail};
    matches!(error, Refused | NotAuth | ServFail | Rcode(_))
}
