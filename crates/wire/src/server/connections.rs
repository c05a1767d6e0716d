//! Which connections a server keeps when more come than it has room for: those that have shown a good signature
//! before those that have not, and among equals those that said something most recently. One that is being answered
//! after a good signature is never closed for another.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

/// The open connections of one server.
#[derive(Debug)]
pub(crate) struct Connections {
    limit: usize,
    per_client: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_id: HashMap<u64, Entry>,
    by_client: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    client: IpAddr,
    heard: Instant,
    trusted: bool,
    answering: bool,
    close: CancellationToken,
}

/// One open connection; it leaves the table when this is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    connections: Arc<Connections>,
    id: u64,
    close: CancellationToken,
}

impl Connections {
    pub(crate) fn new(limit: usize, per_client: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), per_client: per_client.max(1), open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in. The second part of the result says how many others were closed for it; `None` when
    /// there is no room and none of the others may go.
    pub(crate) fn admit(self: &Arc<Self>, client: IpAddr, now: Instant) -> Option<(Admitted, usize)> {
        let mut open = self.lock();
        let mut closed = 0;
        if open.by_client.get(&client).is_some_and(|&count| count >= self.per_client) {
            open.close_one(|entry| entry.client == client)?;
            closed += 1;
        }
        if open.by_id.len() >= self.limit {
            open.close_one(|_| true)?;
            closed += 1;
        }
        let close = CancellationToken::new();
        let id = open.next;
        open.next += 1;
        let entry = Entry { client, heard: now, trusted: false, answering: false, close: close.clone() };
        open.by_id.insert(id, entry);
        *open.by_client.entry(client).or_default() += 1;
        Some((Admitted { connections: self.clone(), id, close }, closed))
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.lock().by_id.len()
    }
}

impl Open {
    /// Closes the least worthy of those that `candidate` selects.
    fn close_one(&mut self, candidate: impl Fn(&Entry) -> bool) -> Option<()> {
        let candidates = self.by_id.iter().filter(|(_, entry)| !entry.answering && candidate(entry));
        let (&id, _) = candidates.min_by_key(|(id, entry)| (entry.trusted, entry.heard, **id))?;
        self.remove(id);
        Some(())
    }

    fn remove(&mut self, id: u64) {
        let Some(entry) = self.by_id.remove(&id) else { return };
        entry.close.cancel();
        if let Some(count) = self.by_client.get_mut(&entry.client) {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&entry.client);
            }
        }
    }
}

impl Admitted {
    /// Ends when the connection has to make room.
    pub(crate) fn close(&self) -> &CancellationToken {
        &self.close
    }

    /// A request has arrived whose form and signature are good; it is being answered.
    pub(crate) fn answering(&self, now: Instant) {
        self.update(now, true);
    }

    /// The answer is out.
    pub(crate) fn answered(&self, now: Instant) {
        self.update(now, false);
    }

    fn update(&self, now: Instant, answering: bool) {
        if let Some(entry) = self.connections.lock().by_id.get_mut(&self.id) {
            entry.heard = now;
            entry.trusted = true;
            entry.answering = answering;
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[test]
    fn the_longest_idle_stranger_makes_room_for_a_newcomer() {
        let connections = Connections::new(3, 3);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let trusted = connections.admit(client(1), at(0)).unwrap().0;
        trusted.answering(at(1));
        trusted.answered(at(1));
        let old = connections.admit(client(2), at(2)).unwrap().0;
        let young = connections.admit(client(3), at(3)).unwrap().0;
        let (newcomer, closed) = connections.admit(client(4), at(4)).unwrap();
        assert_eq!(closed, 1);
        assert!(old.close().is_cancelled());
        assert!(!trusted.close().is_cancelled() && !young.close().is_cancelled());
        assert!(!newcomer.close().is_cancelled());
        drop(old);
        assert_eq!(connections.count(), 3);
    }

    #[test]
    fn one_client_cannot_take_the_room_of_others() {
        let connections = Connections::new(10, 2);
        let now = Instant::now();
        let other = connections.admit(client(9), now).unwrap().0;
        let mut hoard = Vec::new();
        for _ in 0..50 {
            hoard.push(connections.admit(client(1), now).unwrap().0);
        }
        assert_eq!(connections.count(), 3);
        assert!(!other.close().is_cancelled());
        drop(hoard);
        assert_eq!(connections.count(), 1);
    }

    #[test]
    fn what_is_being_answered_is_never_closed_for_another() {
        let connections = Connections::new(1, 1);
        let now = Instant::now();
        let busy = connections.admit(client(1), now).unwrap().0;
        busy.answering(now);
        assert!(connections.admit(client(2), now).is_none());
        busy.answered(now);
        assert!(connections.admit(client(2), now).is_some());
    }
}
