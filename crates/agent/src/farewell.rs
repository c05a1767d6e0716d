//! How long a server that has said that it is not ready goes on answering.
//!
//! Nodes make clients leave it one connection after the other: a proxy that goes through the connections of many clients takes ten
//! seconds and more. Those that it has not come to are still sent here, so a server that is still asked much answers on.

use std::fs;
use std::time::Duration;

use tokio::time::sleep;

/// It takes eight seconds until nobody is sent to a server that is not ready, with few clients: three probes, and what the control
/// plane and every node's proxy need. These, and the first time in which questions are counted.
const UNCOUNTED: Duration = Duration::from_secs(6);
/// In which time questions are counted, again and again.
const COUNTED: Duration = Duration::from_secs(2);
/// As many datagrams in that time are clients that nodes send here; fewer are probes and news of zones.
const MANY: u64 = 200;
/// How often they are counted: those that still ask after 28 seconds ask the server itself.
const TIMES: usize = 11;

/// Returns when named may stop.
pub(crate) async fn until_few_ask() {
    sleep(UNCOUNTED).await;
    while_many_ask(datagrams, COUNTED).await;
}

/// `received` gives the datagrams so far; without such a count nobody is waited for.
async fn while_many_ask(received: impl Fn() -> Option<u64>, time: Duration) {
    for _ in 0..TIMES {
        let before = received();
        sleep(time).await;
        match before.zip(received()) {
            Some((before, now)) if now.saturating_sub(before) >= MANY => {}
            _ => return,
        }
    }
}

/// Datagrams that were delivered in this network namespace, which is that of the pod: nearly all are questions to named.
fn datagrams() -> Option<u64> {
    let of_ipv4 = fs::read_to_string("/proc/net/snmp").ok()?;
    // Absent without IPv6 in the kernel.
    let of_ipv6 = fs::read_to_string("/proc/net/snmp6").unwrap_or_default();
    delivered(&of_ipv4, &of_ipv6)
}

/// The sum of both families: a table with a line of names, and a list of names.
fn delivered(of_ipv4: &str, of_ipv6: &str) -> Option<u64> {
    let mut lines = of_ipv4.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut columns = names.split_whitespace().zip(values.split_whitespace());
    let (_, ipv4) = columns.find(|(name, _)| *name == "InDatagrams")?;
    let ipv6 = of_ipv6.lines().find_map(|line| line.strip_prefix("Udp6InDatagrams"));
    let ipv6 = ipv6.map_or(Some(0), |value| value.trim().parse().ok())?;
    ipv4.parse::<u64>().ok().map(|ipv4| ipv4 + ipv6)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often a server counts that is asked so much each time.
    async fn times(questions: impl Fn(usize) -> u64) -> usize {
        let (looks, sum) = (Cell::new(0), Cell::new(0));
        let received = || {
            // It looks at the beginning and at the end of each time.
            let before = looks.replace(looks.get() + 1);
            sum.set(sum.get() + if before % 2 == 1 { questions(before / 2) } else { 0 });
            Some(sum.get())
        };
        while_many_ask(received, Duration::ZERO).await;
        looks.get() / 2
    }

    #[tokio::test]
    async fn a_server_answers_on_while_it_is_asked_much_but_not_for_ever() {
        assert_eq!(times(|_| MANY - 1).await, 1);
        assert_eq!(times(|time| if time < 5 { MANY } else { 3 }).await, 6);
        assert_eq!(times(|_| MANY).await, TIMES);
    }

    #[tokio::test]
    async fn a_server_that_cannot_count_waits_for_nobody() {
        let looks = Cell::new(0);
        while_many_ask(|| (looks.replace(looks.get() + 1), None).1, Duration::ZERO).await;
        assert_eq!(looks.get(), 2);
    }

    #[test]
    fn datagrams_of_both_families_are_counted() {
        let ipv4 = "Tcp: RtoAlgorithm RtoMin\nTcp: 1 200\n\
            Udp: NoPorts InDatagrams InErrors\nUdp: 7 41 0\nUdpLite: InDatagrams\nUdpLite: 5\n";
        let ipv6 = "Ip6InReceives                   \t14\nUdp6InDatagrams                 \t1\nUdpLite6InDatagrams \t9\n";
        assert_eq!(delivered(ipv4, ipv6), Some(42));
        assert_eq!(delivered(ipv4, ""), Some(41));
        assert_eq!(delivered("Udp: InErrors\nUdp: 7\n", ipv6), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_this_system_says_is_understood() {
        let before = datagrams().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"one", socket.local_addr().unwrap()).unwrap();
        socket.recv(&mut [0; 3]).unwrap();
        assert!(datagrams().unwrap() > before);
    }
}
