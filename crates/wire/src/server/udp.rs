//! Datagrams: one request, one message. Zones are never transferred this way.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::exchange::{Answer, Body, Rejection, answer, check, count_zone, unix_time};
use super::{Relayed, Service, Shared, Transport};
use crate::message::{FLAG_TC, put_u16};
use crate::request::short_answer;
use domain::base::iana::Rcode;

/// Octets of an answer that every path carries in one piece.
const MAX_ANSWER: usize = 1_232;

/// Answers datagrams until `cancel`.
pub(super) async fn serve<S: Service>(
    socket: Arc<UdpSocket>,
    shared: Arc<Shared<S>>,
    tasks: TaskTracker,
    cancel: CancellationToken,
) {
    let free = Arc::new(Semaphore::new(shared.options.limits.datagrams));
    let mut buffer = vec![0; shared.options.limits.request_size];
    loop {
        let received = tokio::select! {
            () = cancel.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error here reports an earlier answer that did not reach its client.
        let Ok((length, peer)) = received else { continue };
        let Ok(permit) = free.clone().try_acquire_owned() else { continue };
        let message = buffer.get(..length).unwrap_or_default().to_vec();
        let (socket, shared, cancel) = (socket.clone(), shared.clone(), cancel.clone());
        tasks.spawn(async move {
            let work = Box::pin(reply(message, peer, &shared));
            let reply = tokio::select! {
                () = cancel.cancelled() => None,
                reply = work => reply,
            };
            if let Some(reply) = reply
                && let Err(error) = socket.send_to(&reply, peer).await
            {
                tracing::debug!(client = %peer, %error, "answer not sent");
            }
            drop(permit);
        });
    }
}

async fn reply<S: Service>(message: Vec<u8>, peer: SocketAddr, shared: &Shared<S>) -> Option<Vec<u8>> {
    let accepted = match check(message, shared) {
        Ok(accepted) => accepted,
        Err(Rejection::Answer(rejection)) => return Some(rejection),
        Err(_) => return None,
    };
    let Answer { body, signer, id } = answer(accepted, peer, Transport::Udp, shared).await;
    let mut message = match body {
        Body::Short(message) => message,
        Body::Zone(mut transmission, kind) => {
            let message = transmission.next_message(MAX_ANSWER).ok()??;
            count_zone(kind, shared);
            message
        }
        Body::Relay(mut messages) => {
            let limit = shared.options.limits.reply;
            let (Relayed::Part(message) | Relayed::Last(message)) =
                tokio::time::timeout(limit, messages.recv()).await.ok()??;
            let mut message = message.to_vec();
            put_u16(&mut message, 0, id);
            message
        }
    };
    if message.len() > MAX_ANSWER {
        message = short_answer(&message, Rcode::NOERROR, FLAG_TC);
    }
    if let Some(mut signer) = signer {
        signer.sign(&mut message, unix_time());
    }
    Some(message)
}
