//! Nodes come, fall silent and go; what they hold goes with them.

use super::*;
use campanile_model::{
    ConnId,
    ports::{Beat, ConnectionFilter, HeldConnection, NodeFigures},
};
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        a_beat_makes_a_node_known_and_a_goodbye_removes_it,
        a_silent_node_is_in_no_answer_and_is_buried,
        a_buried_node_is_told_that_nobody_knows_it,
        connections_filter_and_page,
        connections_are_held_once_and_released,
    );
}

const SILENT: Duration = Duration::from_secs(20);

fn beat(node: NodeId, connections: u64) -> Beat {
    Beat {
        node,
        host: "tower".to_owned(),
        address: "127.0.0.1:8000".to_owned(),
        version: "1.0".to_owned(),
        started_at: at(1_000),
        draining: false,
        figures: NodeFigures { connections, users: 1, degraded: vec!["bus".to_owned()], ..NodeFigures::default() },
    }
}

fn held(name: &str, transport: &str) -> HeldConnection {
    HeldConnection {
        conn: ConnId::new(),
        user: user(name),
        transport: transport.to_owned(),
        protocol: "v1".to_owned(),
        client_address: Some("203.0.113.*".to_owned()),
        user_agent: None,
        connected_at: at(2_000),
    }
}

fn filter() -> ConnectionFilter {
    ConnectionFilter { limit: 100, ..ConnectionFilter::default() }
}

async fn listed(exam: &Exam, filter: &ConnectionFilter) -> Vec<ConnId> {
    exam.connections(filter, SILENT).await.unwrap().into_iter().map(|(_, c)| c.conn).collect()
}

async fn a_beat_makes_a_node_known_and_a_goodbye_removes_it(exam: Exam) {
    let node = NodeId::new();
    assert!(exam.nodes(SILENT).await.unwrap().is_empty());
    assert!(!exam.beat(&beat(node, 1)).await.unwrap(), "nobody knew it");
    let draining = Beat { draining: true, ..beat(node, 7) };
    assert!(exam.beat(&draining).await.unwrap(), "now it is known");
    let row = exam.nodes(SILENT).await.unwrap().remove(0);
    assert_eq!((row.said.node, row.said.draining, &*row.said.host), (node, true, "tower"));
    assert_eq!((row.said.started_at, &*row.said.address, &*row.said.version), (at(1_000), "127.0.0.1:8000", "1.0"));
    assert_eq!(row.said.figures, draining.figures);
    assert!(row.silent_ms < 20_000 && row.seen_at > at(0));
    assert!(exam.hold(node, vec![held("ada", "sse")]).await.unwrap());
    exam.leave(node).await.unwrap();
    exam.leave(node).await.unwrap();
    assert!(exam.nodes(SILENT).await.unwrap().is_empty());
    assert!(exam.held(node).await.unwrap().is_empty(), "what it held went with it");
}

async fn a_silent_node_is_in_no_answer_and_is_buried(exam: Exam) {
    let (silent, alive) = (NodeId::new(), NodeId::new());
    exam.beat(&beat(silent, 1)).await.unwrap();
    let lost = held("ada", "websocket");
    exam.hold(silent, vec![lost.clone()]).await.unwrap();
    exam.pass(Duration::from_secs(15));
    exam.beat(&beat(alive, 1)).await.unwrap();
    let kept = held("ada", "websocket");
    exam.hold(alive, vec![kept.clone()]).await.unwrap();
    let nodes = exam.nodes(SILENT).await.unwrap();
    assert_eq!(nodes.len(), 2);
    assert!(nodes.iter().any(|n| n.said.node == silent && n.silent_ms >= 15_000));
    assert!(exam.bury(SILENT).await.unwrap().is_empty(), "silence is not yet death");
    exam.pass(Duration::from_secs(6));
    // Gone from every answer before anybody has removed it.
    assert_eq!(exam.nodes(SILENT).await.unwrap().len(), 1);
    assert_eq!(listed(&exam, &filter()).await, [kept.conn]);
    let ada = ConnectionFilter { user: Some(UserId::from("ada")), ..filter() };
    assert_eq!(listed(&exam, &ada).await, [kept.conn]);
    assert!(exam.holder(&AppId::default(), lost.conn, SILENT).await.unwrap().is_none());
    assert_eq!(exam.held(silent).await.unwrap(), [lost.conn]);
    assert_eq!(exam.bury(SILENT).await.unwrap(), [silent]);
    assert!(exam.held(silent).await.unwrap().is_empty());
    assert_eq!(exam.held(alive).await.unwrap(), [kept.conn]);
    assert_eq!(exam.bury(Duration::ZERO).await.unwrap(), [alive], "a host that is alone clears its file");
}

async fn a_buried_node_is_told_that_nobody_knows_it(exam: Exam) {
    let node = NodeId::new();
    assert!(!exam.hold(node, vec![held("ada", "sse")]).await.unwrap(), "it has not said that it lives");
    exam.beat(&beat(node, 1)).await.unwrap();
    exam.hold(node, vec![held("ada", "sse")]).await.unwrap();
    exam.pass(Duration::from_secs(30));
    exam.bury(SILENT).await.unwrap();
    assert!(!exam.hold(node, vec![held("ada", "sse")]).await.unwrap());
    assert!(exam.held(node).await.unwrap().is_empty(), "nothing was written");
    assert!(!exam.beat(&beat(node, 1)).await.unwrap(), "so it writes again what it holds");
    assert!(exam.hold(node, vec![held("ada", "sse")]).await.unwrap());
}

async fn connections_filter_and_page(exam: Exam) {
    let (one, two) = (NodeId::new(), NodeId::new());
    for node in [one, two] {
        exam.beat(&beat(node, 2)).await.unwrap();
    }
    let (a, b, c) = (held("ada", "websocket"), held("bo", "sse"), held("ada", "sse"));
    let foreign = HeldConnection { user: UserKey::new("other", "ada"), ..held("ada", "sse") };
    exam.hold(one, vec![a.clone(), foreign.clone()]).await.unwrap();
    exam.hold(two, vec![b.clone(), c.clone()]).await.unwrap();
    let all = exam.connections(&filter(), SILENT).await.unwrap();
    assert_eq!(all, [(one, a.clone()), (two, b.clone()), (two, c.clone())], "oldest first, nobody else's");
    let list = async |change: &dyn Fn(&mut ConnectionFilter)| {
        let mut filter = filter();
        change(&mut filter);
        listed(&exam, &filter).await
    };
    assert_eq!(list(&|f| f.limit = 2).await, [a.conn, b.conn]);
    assert_eq!(list(&|f| f.after = Some(b.conn)).await, [c.conn]);
    assert_eq!(list(&|f| f.user = Some(UserId::from("ada"))).await, [a.conn, c.conn]);
    assert_eq!(list(&|f| f.transport = Some("sse".to_owned())).await, [b.conn, c.conn]);
    assert_eq!(list(&|f| f.node = Some(two)).await, [b.conn, c.conn]);
    assert_eq!(list(&|f| f.except = Some(two)).await, [a.conn]);
    let both = list(&|f| {
        f.user = Some(UserId::from("ada"));
        f.transport = Some("sse".to_owned());
    });
    assert_eq!(both.await, [c.conn]);
    let holder = exam.holder(&AppId::default(), c.conn, SILENT).await.unwrap();
    assert_eq!(holder, Some((two, c)));
    assert_eq!(exam.holder(&AppId::default(), foreign.conn, SILENT).await.unwrap(), None, "another app's");
}

async fn connections_are_held_once_and_released(exam: Exam) {
    let (one, two) = (NodeId::new(), NodeId::new());
    for node in [one, two] {
        exam.beat(&beat(node, 1)).await.unwrap();
    }
    let opened: Vec<_> = (0..1_000).map(|i| held(&format!("u{i}"), "websocket")).collect();
    exam.hold(one, opened.clone()).await.unwrap();
    exam.hold(one, opened.clone()).await.unwrap();
    assert_eq!(exam.held(one).await.unwrap().len(), 1_000);
    let some: Vec<ConnId> = opened.iter().take(600).map(|c| c.conn).collect();
    exam.release(two, some.clone()).await.unwrap();
    assert_eq!(exam.held(one).await.unwrap().len(), 1_000, "only its own node takes a connection off");
    exam.release(one, some.clone()).await.unwrap();
    exam.release(one, some).await.unwrap();
    assert_eq!(exam.held(one).await.unwrap().len(), 400);
}
