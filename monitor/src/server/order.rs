//! Who is served in a turn, and who waits for the next one.
//!
//! A turn serves few requests, so that the next look at the sockets is never far. First come those
//! whose request has just arrived, then those whose next request was there already when the last one
//! was answered: whoever asks now and then does not wait behind those who ask without a pause.
//!
//! The rule that must never be broken: **everybody is served in the end**. Among equals, whoever was
//! served longest ago comes first, and of those who ask without a pause one is served in each turn.

use crate::events::ClientId;

/// Requests that are executed in one turn.
const REQUESTS: usize = 4;

/// A client with a request that is complete. The order of its members is the order of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiting {
    /// The request was there already when the client's last one was answered.
    pub(super) pipelined: bool,
    /// The turn in which the client was last served.
    pub(super) served: u64,
    pub(super) id: ClientId,
}

/// Those who are served in this turn.
pub(super) fn served_now(mut waiting: Vec<Waiting>) -> Vec<Waiting> {
    waiting.sort_unstable();
    let next_pipelined = waiting.iter().find(|one| one.pipelined).copied();
    waiting.truncate(REQUESTS);
    if let (Some(last), Some(next)) = (waiting.last_mut(), next_pipelined)
        && !last.pipelined
    {
        // Those who pause fill the turn: the last of them is among the first the next time.
        *last = next;
    }
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(clients: &[Waiting]) -> Vec<ClientId> {
        let served = served_now(clients.to_vec());
        served.iter().map(|one| one.id).collect()
    }

    fn client(id: ClientId, pipelined: bool, served: u64) -> Waiting {
        Waiting {
            pipelined,
            served,
            id,
        }
    }

    #[test]
    fn whoever_asks_now_and_then_comes_before_those_who_never_pause() {
        let busy = (0..64).map(|id| client(id, true, 1));
        let clients: Vec<_> = busy.chain([client(99, false, 9)]).collect();
        assert_eq!(turn(&clients), [99, 0, 1, 2]);
    }

    #[test]
    fn among_equals_whoever_was_served_longest_ago_comes_first() {
        let clients = [
            client(1, false, 7),
            client(2, false, 5),
            client(3, false, 6),
        ];
        assert_eq!(turn(&clients), [2, 3, 1]);
        assert_eq!(turn(&[]), [0; 0]);
    }

    #[test]
    fn however_many_others_ask_everybody_is_served_in_the_end() {
        for pipelining in [0, 1, 5, 20] {
            let mut clients: Vec<_> = (0..20).map(|id| client(id, id < pipelining, 0)).collect();
            let mut unserved: std::collections::BTreeSet<_> = (0..20).collect();
            for turn in 1..=20 {
                let served = served_now(clients.clone());
                assert!(served.len() == REQUESTS, "{served:?}");
                // They all ask again, in their own way.
                for one in served {
                    unserved.remove(&one.id);
                    let at = clients.iter().position(|client| client.id == one.id);
                    clients[at.unwrap()].served = turn;
                }
            }
            assert!(unserved.is_empty(), "{pipelining}: {unserved:?}");
        }
    }
}
