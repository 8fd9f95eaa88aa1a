//! The bus's language: there and back whole, in messages of a fair size, and nothing that comes in can hurt.

use super::*;
use campanile_model::{
    Timestamp,
    signal::{Watch, Watched},
};
use proptest::prelude::*;

fn framed(message: &str) -> Frame {
    let t: Timestamp = "2024-01-15T10:30:00Z".parse().unwrap();
    Frame::encode(NotificationId::new(), "T", message, "general", t, &serde_json::Map::new())
}

fn counts(n: i64) -> Counts {
    Counts { unseen: n, unread: n / 2, total: n * 3, version: n + 7 }
}

fn target(app: &str, n: usize) -> PushTarget {
    PushTarget { user: UserKey::new(app, format!("user-{n:05}")), seq: n as i64 + 1, counts: counts(n as i64) }
}

fn packed(signals: &[Signal]) -> Vec<Packed> {
    let mut packer = Packer::new(NodeId::new());
    for signal in signals {
        packer.add(signal);
    }
    packer.take()
}

fn read(messages: &[Packed], wants: impl Fn(&dyn UserRef) -> bool) -> Vec<Signal> {
    let mut out = Vec::new();
    for m in messages {
        let strange = Message::read(&m.bytes).unwrap().signals(&wants, |s| out.push(s.clone()));
        assert_eq!(strange, Strange::default());
    }
    out
}

fn shown(signals: &[Signal]) -> String {
    format!("{signals:#?}")
}

fn one_of_each() -> Vec<Signal> {
    let user = UserKey::new("default", "zoë");
    let change = |kind| {
        Signal::Feed(Arc::new(FeedChange { user: user.clone(), kind, counts: counts(300), unread_changed: true }))
    };
    let mut all = vec![
        Signal::Push { frame: framed("hello"), users: Arc::new([target("default", 1), target("default", 70_000)]) },
        Signal::Behind { users: Arc::new([target("default", 2)]) },
        Signal::Ephemeral { frame: framed("typing"), users: Arc::new([user.clone()]) },
        change(FeedChangeKind::Marked { what: Marked::UpToSeq(i64::MAX), mark: MarkAs::Seen }),
        change(FeedChangeKind::Erased { epoch: "e.2".to_owned(), head_seq: 9 }),
        Signal::CloseConnection { app: AppId::default(), conn: ConnId::new(), why: Disconnect::Revoked },
        Signal::ChannelChanged(ChannelName::email()),
        Signal::KeysChanged(AppId::default()),
        Signal::BreakerReset(ChannelName::websocket()),
        Signal::InstancesChanged,
        Signal::InstanceReset("relay-2".to_owned()),
        Signal::InstanceRestart { instance: "relay-2".to_owned(), by: NodeId::new() },
        Signal::PluginReload { plugin: "slack".to_owned(), by: NodeId::new() },
        Signal::Watch { conn: ConnId::new(), wish: Watch::Ping },
        Signal::Watch { conn: ConnId::new(), wish: Watch::Tail("2026-01-01T00:00:00Z".parse().unwrap()) },
        Signal::Watched {
            conn: ConnId::new(),
            at: "2026-01-01T00:00:00.123Z".parse().unwrap(),
            what: Watched::Pong { took_us: u64::MAX },
        },
        Signal::Watched {
            conn: ConnId::new(),
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            what: Watched::In("{\"type\":\"ping\"}\n".to_owned()),
        },
        Signal::Watched {
            conn: ConnId::new(),
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            what: Watched::Out("ü".to_owned()),
        },
        Signal::Rest { node: NodeId::new(), spread_ms: 60_000 },
        Signal::PluginTrial { plugin: "slack".to_owned(), share: 10, by: NodeId::new() },
        Signal::PluginSettle { plugin: "slack".to_owned(), keep_new: true, by: NodeId::new() },
    ];
    for mark in MarkAs::ALL {
        let ids = vec![NotificationId::new(), NotificationId::new()];
        all.push(change(FeedChangeKind::Marked { what: Marked::Ids(ids), mark }));
    }
    for why in [Disconnect::Disabled, Disconnect::Revoked, Disconnect::Reconnect] {
        all.push(Signal::Disconnect { user: user.clone(), why });
    }
    all
}

#[test]
fn every_signal_comes_back_as_it_was_and_several_share_a_message() {
    let all = one_of_each();
    let messages = packed(&all);
    assert_eq!(messages.len(), 1);
    assert_eq!(shown(&read(&messages, |_| true)), shown(&all));
}

#[test]
fn what_a_node_tells_itself_does_not_travel() {
    let messages = packed(&[Signal::Missed]);
    assert!(read(&messages, |_| true).is_empty());
}

#[test]
fn messages_are_numbered_and_a_loss_leaves_a_number_out() {
    let node = NodeId::new();
    let mut packer = Packer::new(node);
    let number = |m: &[Packed]| Message::read(&m[0].bytes).map(|m| (m.node, m.number)).unwrap();
    assert_eq!(number(&packer.take()), (node, 1));
    assert_eq!(number(&packer.take()), (node, 2));
    packer.skip();
    packer.add(&Signal::KeysChanged(AppId::default()));
    assert_eq!(number(&packer.take()), (node, 4));
}

#[test]
fn ten_thousand_users_are_parted_over_messages_and_nobody_is_left_out() {
    let frame = framed(&"x".repeat(2000));
    let users: Arc<[PushTarget]> = (0..10_000).map(|n| target("default", n)).collect();
    let names: Arc<[UserKey]> = users.iter().map(|u| u.user.clone()).collect();
    let push = Signal::Push { frame: frame.clone(), users: users.clone() };
    let messages = packed(&[push, Signal::Ephemeral { frame: frame.clone(), users: names.clone() }]);
    assert!(messages.len() > 3);
    assert!(messages.iter().all(|m| m.bytes.len() < MESSAGE + 512));
    assert!(messages.windows(2).all(|w| w[1].number == w[0].number + 1));
    let (mut pushed, mut told) = (Vec::new(), Vec::new());
    for signal in read(&messages, |_| true) {
        match signal {
            Signal::Push { frame: f, users } => {
                assert_eq!(f.classic(), frame.classic());
                pushed.extend(users.iter().cloned());
            }
            Signal::Ephemeral { frame: f, users } => {
                assert_eq!(f.data(), frame.data());
                told.extend(users.iter().cloned());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(format!("{pushed:?}"), format!("{:?}", &users[..]));
    assert_eq!(told, names[..]);
}

#[test]
fn users_of_two_apps_stay_apart() {
    let users: Arc<[PushTarget]> = Arc::new([target("a", 1), target("a", 2), target("b", 3), target("a", 4)]);
    let back = read(&packed(&[Signal::Behind { users: users.clone() }]), |_| true);
    let all: Vec<_> = back
        .iter()
        .flat_map(|s| if let Signal::Behind { users } = s { users.to_vec() } else { panic!("{s:?}") })
        .collect();
    assert_eq!(format!("{all:?}"), format!("{:?}", &users[..]));
}

#[test]
fn a_frame_too_large_for_the_bus_stays_at_home_unless_no_feed_has_it() {
    let frame = framed(&"x".repeat(FRAME_MAX));
    let users: Arc<[PushTarget]> = (0..3000).map(|n| target("default", n)).collect();
    let names: Arc<[UserKey]> = users.iter().map(|u| u.user.clone()).collect();
    let messages = packed(&[Signal::Push { frame: frame.clone(), users }]);
    assert!(matches!(&read(&messages, |_| true)[0], Signal::Behind { users } if users[0].seq == 1));
    let messages = packed(&[Signal::Ephemeral { frame: frame.clone(), users: names }]);
    assert!(messages.len() < 10 && messages.iter().all(|m| m.bytes.len() < 2 * MESSAGE));
    for signal in read(&messages, |_| true) {
        assert!(matches!(signal, Signal::Ephemeral { frame: f, .. } if f.classic() == frame.classic()));
    }
}

#[test]
fn nothing_is_built_of_users_that_are_not_here() {
    let all = one_of_each();
    let back = read(&packed(&all), |user| user.user() == "user-00001" && user.app() == "default");
    let push = back.iter().find_map(|s| if let Signal::Push { users, .. } = s { Some(users) } else { None }).unwrap();
    assert_eq!(push.len(), 1);
    assert_eq!(back.len(), 17, "of the rest only what is about no user: {back:#?}");
}

#[test]
fn newer_nodes_are_understood_as_far_as_it_goes() {
    let mut bytes = packed(&[Signal::KeysChanged(AppId::default())])[0].bytes.to_vec();
    // A kind that we don't know, then one that we know with more behind it.
    bytes.extend_from_slice(&[200, 0, 0, 0, 3, 1, 2, 3]);
    bytes.extend_from_slice(&[kind::CHANNEL_CHANGED, 0, 0, 0, 8]);
    bytes.extend_from_slice(b"\x05emailXX");
    let mut out = Vec::new();
    let strange = Message::read(&bytes).unwrap().signals(|_| true, |s| out.push(s.clone()));
    assert_eq!(strange, Strange { malformed: 0, unknown: 1 });
    assert!(matches!(out.as_slice(), [Signal::KeysChanged(_), Signal::ChannelChanged(c)] if c.as_str() == "email"));
    bytes[0] = 2;
    assert_eq!(Message::read(&bytes).unwrap_err(), Foreign::Version(2));
}

#[test]
fn a_broken_record_costs_itself_only() {
    let mut bytes = packed(&[])[0].bytes.to_vec();
    bytes.extend_from_slice(&[kind::DISCONNECT, 0, 0, 0, 2, 9, 9]);
    bytes.extend_from_slice(&[kind::CHANNEL_CHANGED, 0, 0, 0, 2, 1, b'x']);
    bytes.extend_from_slice(&[kind::FEED, 0, 0, 1]);
    let mut heard = 0;
    let strange = Message::read(&bytes).unwrap().signals(|_| true, |_| heard += 1);
    assert_eq!((strange.malformed, heard), (2, 1));
}

#[test]
fn numbers_that_promise_too_much_are_not_believed() {
    // A list of 2^60 ids, and 4 billion users: refused before any memory is taken for them.
    let mut ids = vec![kind::FEED];
    let body = [&b"\x01a\x01b\x00\x00\x00\x00\x01\x00\x01"[..], &[0x80; 8], &[0x10]].concat();
    ids.extend_from_slice(&(body.len() as u32).to_be_bytes());
    ids.extend_from_slice(&body);
    let mut many = vec![kind::BEHIND, 0, 0, 0, 13];
    many.extend_from_slice(b"\x01a\xff\xff\xff\xff\x01b\x01\x00\x00\x00\x00");
    for record in [ids, many] {
        let bytes = [&packed(&[])[0].bytes[..], &record].concat();
        let strange = Message::read(&bytes).unwrap().signals(|_| true, |s| panic!("{s:?}"));
        assert_eq!(strange.malformed, 1);
    }
}

fn any_counts() -> impl Strategy<Value = Counts> {
    any::<[i64; 4]>().prop_map(|[unseen, unread, total, version]| Counts { unseen, unread, total, version })
}

fn any_user() -> impl Strategy<Value = UserKey> {
    ("[a-c]", ".{0,40}").prop_map(|(app, user)| UserKey::new(app.as_str(), user.as_str()))
}

fn any_signal() -> impl Strategy<Value = Signal> {
    let targets = || {
        prop::collection::vec((any_user(), any::<i64>(), any_counts()), 1..20).prop_map(|all| {
            all.into_iter().map(|(user, seq, counts)| PushTarget { user, seq, counts }).collect::<Arc<[_]>>()
        })
    };
    let why = prop::sample::select(vec![Disconnect::Disabled, Disconnect::Revoked, Disconnect::Reconnect]);
    let mark = prop::sample::select(MarkAs::ALL.to_vec());
    let what = prop_oneof![
        any::<i64>().prop_map(Marked::UpToSeq),
        prop::collection::vec(any::<u128>(), 0..50)
            .prop_map(|ids| Marked::Ids(ids.into_iter().map(|id| NotificationId(Uuid::from_u128(id))).collect())),
    ];
    let kind = prop_oneof![
        (what, mark).prop_map(|(what, mark)| FeedChangeKind::Marked { what, mark }),
        (".{0,20}", any::<i64>()).prop_map(|(epoch, head_seq)| FeedChangeKind::Erased { epoch, head_seq }),
    ];
    prop_oneof![
        (".{0,200}", targets()).prop_map(|(text, users)| Signal::Push { frame: framed(&text), users }),
        targets().prop_map(|users| Signal::Behind { users }),
        (".{0,200}", any_user()).prop_map(|(t, u)| Signal::Ephemeral { frame: framed(&t), users: Arc::new([u]) }),
        (any_user(), kind, any_counts(), any::<bool>()).prop_map(|(user, kind, counts, unread_changed)| {
            Signal::Feed(Arc::new(FeedChange { user, kind, counts, unread_changed }))
        }),
        (any_user(), why).prop_map(|(user, why)| Signal::Disconnect { user, why }),
        ".{0,20}".prop_map(|name| Signal::ChannelChanged(ChannelName::from(name))),
    ]
}

/// Pushes that were parted by app, as one again.
fn flat(signals: &[Signal]) -> Vec<String> {
    signals
        .iter()
        .flat_map(|s| match s {
            Signal::Push { frame, users } => users.iter().map(|u| format!("{frame:?} {u:?}")).collect(),
            Signal::Behind { users } => users.iter().map(|u| format!("{u:?}")).collect::<Vec<_>>(),
            other => vec![format!("{other:?}")],
        })
        .collect()
}

proptest! {
    #[test]
    fn whatever_goes_out_comes_in(signals in prop::collection::vec(any_signal(), 0..20)) {
        prop_assert_eq!(flat(&read(&packed(&signals), |_| true)), flat(&signals));
    }

    #[test]
    fn noise_is_only_noise(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::read(&noise) {
            message.signals(|_| true, |_| {});
        }
    }

    #[test]
    fn a_spoiled_message_is_never_a_fault(
        signals in prop::collection::vec(any_signal(), 1..5),
        spoils in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for message in packed(&signals) {
            let mut bytes = message.bytes.to_vec();
            for (at, value) in &spoils {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
                if let Ok(message) = Message::read(bytes) {
                    message.signals(|_| true, |_| {});
                }
            }
        }
    }
}

/// `cargo test -p campanile-core --lib -- --ignored --nocapture measure_the_codec`
#[test]
#[ignore = "it measures and decides nothing"]
fn measure_the_codec() {
    let broadcast: Arc<[PushTarget]> = (0..10_000).map(|n| target("default", n)).collect();
    let push = |users: Arc<[PushTarget]>| Signal::Push { frame: framed(&"x".repeat(300)), users };
    let unicasts: Vec<_> = (0..10_000).map(|n| push(Arc::new([target("default", n)]))).collect();
    for (what, signals) in [("broadcast to 10,000", vec![push(broadcast)]), ("10,000 unicasts", unicasts)] {
        const TIMES: usize = 20;
        let mut bytes = 0;
        let start = std::time::Instant::now();
        for _ in 0..TIMES {
            let messages = packed(&signals);
            bytes = messages.iter().map(|m| m.bytes.len()).sum();
        }
        let write = start.elapsed() / TIMES as u32;
        let messages = packed(&signals);
        eprintln!("{what}: {} messages, {bytes} bytes, written in {write:?}", messages.len());
        for (who, wanted) in [("all here", true), ("none here", false)] {
            let start = std::time::Instant::now();
            for _ in 0..TIMES {
                for m in &messages {
                    Message::read(&m.bytes).unwrap().signals(|_| wanted, |s| drop(std::hint::black_box(s.clone())));
                }
            }
            eprintln!("    read with {who} in {:?}", start.elapsed() / TIMES as u32);
        }
    }
}
