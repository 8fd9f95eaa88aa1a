//! Broken bounds: an id shown to the wrong app, a secret in a log, a fat socket, a node that does not come back.

use super::{broken, catches};
use crate::history::{History, IdleSockets, Owned, Recovery};
use uuid::Uuid;

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl";

fn two_apps(h: &mut History) -> (Uuid, Uuid) {
    let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
    h.owners.push(Owned { id: a, app: "a".into() });
    h.owners.push(Owned { id: b, app: "b".into() });
    (a, b)
}

#[test]
fn i12_catches_an_id_of_one_app_in_what_another_sees() {
    for place in ["a frame", "the API", "a mail"] {
        catches("I12", |h| {
            let (a, b) = two_apps(h);
            h.sighting(
                "b",
                place,
                &format!(r#"{{"items":[{{"notification_id":"{b}"}},{{"notification_id":"{a}"}}]}}"#),
            );
        });
    }
    let apart = broken(|h| {
        let (a, b) = two_apps(h);
        h.sighting("a", "a frame", &format!(r#"{{"notification_id":"{a}"}}"#));
        h.sighting("b", "a mail", &format!("Message-ID: <{b}@example.org>"));
        h.sighting("b", "the API", &Uuid::now_v7().to_string());
    });
    assert_eq!(apart, [""; 0]);
}

#[test]
fn i13_catches_a_piece_of_a_secret_anywhere() {
    for at in [0, 21, TOKEN.len() - 12] {
        catches("I13", |h| {
            h.secret("ada's token", TOKEN);
            h.output("node 1", format!("GET /ws/notifications?token={} 101", &TOKEN[at..at + 12]));
        });
    }
    catches("I13", |h| {
        h.secret("a short one", "hunter2");
        h.output("node 1", "the password is hunter2");
    });
    let kept = broken(|h| {
        h.secret("ada's token", TOKEN);
        h.output("node 1", format!("GET /ws/notifications 101 {}", &TOKEN[..11]));
    });
    assert_eq!(kept, [""; 0]);
}

#[test]
fn i14_catches_a_socket_that_costs_more_than_ten_kilobytes() {
    let idle = |after| IdleSockets { node: "node 1".into(), sockets: 100, before: 5_000_000, after };
    catches("I14", |h| h.idle_sockets.push(idle(5_000_000 + 100 * 10_240 + 100)));
    assert_eq!(broken(|h| h.idle_sockets.push(idle(5_000_000 + 100 * 10_240))), [""; 0]);
    assert_eq!(broken(|h| h.idle_sockets.push(idle(4_000_000))), [""; 0]);
}

#[test]
fn i15_catches_a_node_that_stays_ill_comes_late_or_needs_a_restart() {
    let recovery = |healthy_after_ms, restarted| Recovery {
        node: "node 1".into(),
        fault: "the broker was killed".into(),
        healthy_after_ms,
        restarted,
    };
    catches("I15", |h| h.recoveries.push(recovery(None, false)));
    catches("I15", |h| h.recoveries.push(recovery(Some(30_001), false)));
    catches("I15", |h| h.recoveries.push(recovery(Some(100), true)));
    assert_eq!(broken(|h| h.recoveries.push(recovery(Some(30_000), false))), [""; 0]);
}

#[test]
fn a_history_reads_back_as_it_was_written() {
    let mut h = super::good();
    let (a, _) = two_apps(&mut h);
    h.sighting("b", "a frame", &a.to_string());
    h.secret("ada's token", TOKEN);
    h.output("node 1", TOKEN);
    h.idle_sockets.push(IdleSockets { node: "node 1".into(), sockets: 1, before: 0, after: 99_999 });
    h.recoveries.push(Recovery { node: "n".into(), fault: "f".into(), healthy_after_ms: None, restarted: false });
    h.end.feed.pop();
    let file = tempfile::NamedTempFile::new().unwrap();
    h.save(file.path()).unwrap();
    let again = History::load(file.path()).unwrap();
    assert_eq!(format!("{again:?}").split_once("terms").unwrap().1, format!("{h:?}").split_once("terms").unwrap().1);
    let found = crate::checker::check(&again);
    assert_eq!(found, crate::checker::check(&h));
    assert!(
        ["I1", "I3", "I12", "I13", "I14", "I15"].iter().all(|i| found.iter().any(|v| v.invariant == *i)),
        "{found:?}"
    );
}
