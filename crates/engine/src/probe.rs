//! Talks to one server: NOTIFY, the SOA, and changed records. Two tasks, each with a connection that is kept as long as it works:
//! edits do not wait for the answers to what else is asked.

use std::collections::VecDeque;
use std::time::Duration;

use bindy_model::{Answer, Answered, Ask, Input, Probe, Rank, ServerId};
use bindy_wire::{ClientError, Connection, Endpoint, Timeouts};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::task::TaskTracker;

/// How long a server may take; what does not answer in this time is asked again later.
pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_millis(500),
    answer: Duration::from_secs(1),
    between: Duration::from_secs(2),
};

/// The way to the tasks of one server, which end with it.
pub(crate) struct Lanes {
    edits: mpsc::Sender<Vec<Probe>>,
    others: mpsc::Sender<Vec<Probe>>,
}

impl Lanes {
    /// Starts the tasks; each answer goes to `results`.
    pub(crate) fn start(
        id: &ServerId,
        endpoint: &Endpoint,
        queue: usize,
        results: &mpsc::Sender<Input>,
        tasks: &TaskTracker,
    ) -> Self {
        let lane = || {
            let (sender, probes) = mpsc::channel(queue);
            tasks.spawn(run(id.clone(), endpoint.clone(), probes, results.clone()));
            sender
        };
        Self { edits: lane(), others: lane() }
    }

    /// Has these carried out; an error when more are under way than a queue holds.
    pub(crate) fn send(&self, probes: Vec<Probe>) -> Result<(), TrySendError<Vec<Probe>>> {
        let (edits, others): (Vec<_>, Vec<_>) =
            probes.into_iter().partition(|probe| probe.rank == Rank::Edit);
        for (lane, probes) in [(&self.edits, edits), (&self.others, others)] {
            if !probes.is_empty() {
                lane.try_send(probes)?;
            }
        }
        Ok(())
    }
}

/// Carries out probes until the sender is gone.
async fn run(
    id: ServerId,
    endpoint: Endpoint,
    mut probes: mpsc::Receiver<Vec<Probe>>,
    results: mpsc::Sender<Input>,
) {
    let mut connection = None;
    while let Some(batch) = probes.recv().await {
        let mut batch = VecDeque::from(batch);
        let mut failed: Option<String> = None;
        while let Some(probe) = batch.pop_front() {
            // What failed for one zone by the connection would fail for the rest, one timeout after the other.
            let answer = match &failed {
                Some(text) => Answer::Failure(text.clone()),
                None => match ask_again(&mut connection, &endpoint, &probe).await {
                    Ok(answer) => answer,
                    Err(error) => {
                        let text = error.to_string();
                        if !is_answer(&error) {
                            connection = None;
                            failed = Some(text.clone());
                            while let Ok(waiting) = probes.try_recv() {
                                batch.extend(waiting);
                            }
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
    probe: &Probe,
) -> Result<(), ClientError> {
    match open(connection, endpoint).await?.notify(&probe.zone, probe.serial).await {
        Ok(()) => tracing::debug!(zone = %probe.zone, serial = %probe.serial, "notified"),
        // The server is alive and does not know the zone yet: the question will tell.
        Err(error) if is_answer(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Asks, once more where a connection of before was closed meanwhile, as servers do with those that rest.
async fn ask_again(
    connection: &mut Option<Connection>,
    endpoint: &Endpoint,
    probe: &Probe,
) -> Result<Answer, ClientError> {
    let is_kept = connection.is_some();
    match ask(connection, endpoint, probe).await {
        Err(ClientError::Closed | ClientError::Io(_)) if is_kept => {
            *connection = None;
            ask(connection, endpoint, probe).await
        }
        result => result,
    }
}

async fn ask(
    connection: &mut Option<Connection>,
    endpoint: &Endpoint,
    probe: &Probe,
) -> Result<Answer, ClientError> {
    let questions = match &probe.ask {
        Ask::Notify => {
            notify(connection, endpoint, probe).await?;
            return Ok(Answer::Notified);
        }
        Ask::Serial { notify: again } => {
            if *again {
                notify(connection, endpoint, probe).await?;
            }
            return Ok(Answer::Serial(open(connection, endpoint).await?.soa(&probe.zone).await?));
        }
        Ask::Records(questions) => questions,
    };
    for question in questions {
        let answer = open(connection, endpoint).await?.query(&question.name, question.rtype).await?;
        let of_question =
            answer.records.into_iter().filter(|r| r.name == question.name && r.rtype == question.rtype);
        let answered = Answered {
            rcode: answer.rcode,
            authoritative: answer.authoritative,
            records: of_question.map(|record| (record.ttl, record.rdata)).collect(),
        };
        if let Err(text) = question.check(&answered) {
            return Ok(Answer::Failure(format!("has serial {}, but {text}", probe.serial)));
        }
    }
    Ok(Answer::Proven)
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

#[cfg(test)]
mod tests {
    use super::*;
    use bindy_model::NamespacedName;
    use bindy_wire::{Key, Reply, Request, Server, ServerLimits, ServerOptions, Service, Signatures};
    use bindy_zone::{Name, Serial};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    /// A server that takes its time.
    struct Slow;

    impl Service for Slow {
        async fn call(&self, _: Request) -> Reply {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Reply::Notified
        }
    }

    fn id() -> ServerId {
        ServerId { instance: NamespacedName::new("default", "one"), name: "0".to_owned() }
    }

    fn probe(number: usize, rank: Rank) -> Probe {
        let zone = Name::parse(&format!("z{number}.example")).unwrap();
        Probe { zone, serial: Serial::new(1), ask: Ask::Notify, rank }
    }

    #[tokio::test]
    async fn an_edit_does_not_wait_for_the_answers_to_what_else_is_asked() {
        let address = "127.0.0.1:0".parse().unwrap();
        let limits = ServerLimits::default();
        let options = ServerOptions { address, signatures: Signatures::None, limits };
        let server = Server::bind(options, Vec::<Key>::new(), Slow).await.unwrap();
        let endpoint = Endpoint { address: server.local_addr().unwrap(), key: None };
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(server.serve(cancel.clone()));
        let (results, mut answers) = mpsc::channel(20);
        let lanes = Lanes::start(&id(), &endpoint, 20, &results, &tasks);
        lanes.send((0..20).map(|number| probe(number, Rank::New)).collect()).unwrap();
        lanes.send(vec![probe(20, Rank::Edit)]).unwrap();
        let mut first = Vec::new();
        for _ in 0..10 {
            let Some(Input::Probed(_, probe, Answer::Notified)) = answers.recv().await else {
                panic!("it takes every NOTIFY")
            };
            first.push(probe.rank);
        }
        assert!(first.contains(&Rank::Edit), "{first:?}");
        cancel.cancel();
    }

    #[tokio::test]
    async fn a_server_that_has_closed_what_rested_is_asked_by_a_new_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { address: listener.local_addr().unwrap(), key: None };
        let mut connection = Some(Connection::open(&endpoint, TIMEOUTS).await.unwrap());
        drop(listener.accept().await.unwrap());
        let answers = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).await.unwrap();
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut message).await.unwrap();
            // QR.
            message[2] |= 0x80;
            stream.write_all(&[&length[..], &message].concat()).await.unwrap();
        };
        let probe = probe(0, Rank::Edit);
        let ((), answer) = tokio::join!(answers, ask_again(&mut connection, &endpoint, &probe));
        assert_eq!(answer.unwrap(), Answer::Notified);
    }

    #[tokio::test]
    async fn what_waits_while_the_connection_fails_fails_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { address: listener.local_addr().unwrap(), key: None };
        let (sender, probes) = mpsc::channel(20);
        let (results, mut answers) = mpsc::channel(20);
        for number in 0..20 {
            sender.send(vec![probe(number, Rank::Edit)]).await.unwrap();
        }
        drop(sender);
        let mut connections = Vec::new();
        let silent = async {
            loop {
                connections.push(listener.accept().await.unwrap());
            }
        };
        tokio::select! {
            () = silent => {}
            () = run(id(), endpoint, probes, results) => {}
        }
        let mut failures = 0;
        while let Some(Input::Probed(_, _, Answer::Failure(_))) = answers.recv().await {
            failures += 1;
        }
        assert_eq!((failures, connections.len()), (20, 1));
    }
}
